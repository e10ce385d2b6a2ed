//! The search of one image's signatures.
//!
//! Specifications: OCI distribution-spec 1.1 "Listing Referrers"; cosign `SIGNATURE_SPEC` for the `.sig` tag.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::annotations::{Annotations, MAX_PAYLOAD};
use super::bundle::{MAX_BUNDLE, explain_bundle_for_image};
use super::checks::{Report, Verdict};
use super::error::{Candidate, SourceError, VerifyError};
use super::policy::Policy;
use super::root::TrustedRoot;
use super::simple_signing::explain_simple_signing;
use super::source::{Referrer, SignatureSource};
use super::statement::SIGN_PREDICATE;
use crate::types::Digest;

/// At most so many signatures of one image are looked at in each form; bundles that say that they sign images go first.
pub const MAX_CANDIDATES: usize = 32;

/// A manifest of a signature larger than this is refused, in bytes.
pub const MAX_SIGNATURE_MANIFEST: usize = 4 << 20;

/// What media and artifact types of Sigstore bundles begin with, whatever their version.
const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle";
pub(super) const SIMPLE_SIGNING_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
pub(super) const PREDICATE_ANNOTATION: &str = "dev.sigstore.bundle.predicateType";

/// The parts of a signature's manifest that count here.
#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: Digest,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// One signature that was found, and everything that was checked about it.
#[derive(Debug)]
pub struct Finding {
    /// Where it was found: storage form and digest.
    pub place: String,
    /// The checks, or why it could not be read.
    pub result: Result<Report, Unread>,
}

/// Why a signature that is listed was not checked.
#[derive(Debug)]
pub enum Unread {
    /// The source failed.
    Source(SourceError),
    /// What the source gave is no signature.
    Malformed(String),
}

/// One image's search.
pub(super) struct Search<'a, S> {
    pub policy: &'a Policy,
    pub root: &'a TrustedRoot,
    pub source: &'a S,
    pub repository: &'a str,
    pub digest: &'a Digest,
    pub findings: Vec<Finding>,
}

impl<S: SignatureSource> Search<'_, S> {
    /// The first bundle that holds.
    pub async fn referrers(&mut self) -> Option<Verdict> {
        let listed = match self.source.referrers(self.repository, self.digest).await {
            Ok(listed) => listed,
            Err(error) => return self.unread("the list of referrers".to_owned(), Unread::Source(error)),
        };
        let is_bundle = |referrer: &Referrer| match referrer.artifact_type.as_deref() {
            None | Some("") => true,
            Some(kind) => kind.starts_with(BUNDLE_TYPE),
        };
        let signs = |referrer: &Referrer| {
            referrer.annotations.get(PREDICATE_ANNOTATION).is_some_and(|predicate| predicate == SIGN_PREDICATE)
        };
        let mut bundles: Vec<_> = listed.into_iter().filter(is_bundle).collect();
        bundles.sort_by_key(|referrer| !signs(referrer));
        for referrer in bundles.iter().take(MAX_CANDIDATES) {
            if let Some(verdict) = self.bundle(referrer).await {
                return Some(verdict);
            }
        }
        self.too_many(bundles.len(), "referrers")
    }

    async fn bundle(&mut self, referrer: &Referrer) -> Option<Verdict> {
        let place = format!("bundle {}", referrer.digest);
        let bytes = match self.source.manifest(self.repository, &referrer.digest).await {
            Ok(bytes) => bytes,
            Err(error) => return self.unread(place, Unread::Source(error)),
        };
        let layers = match layers(&bytes) {
            Ok(layers) => layers,
            Err(reason) => return self.unread(place, Unread::Malformed(reason)),
        };
        let Some(layer) = layers.iter().find(|layer| layer.media_type.starts_with(BUNDLE_TYPE)) else {
            // A referrer of unknown kind that turns out to be something else is no signature at all.
            let says_bundle = referrer.artifact_type.as_deref().is_some_and(|kind| !kind.is_empty());
            let malformed = || Unread::Malformed(format!("no layer of type {BUNDLE_TYPE}…"));
            return if says_bundle { self.unread(place, malformed()) } else { None };
        };
        match self.source.small_blob(self.repository, &layer.digest, MAX_BUNDLE).await {
            Ok(bundle) => self.checked(place, explain_bundle_for_image(&bundle, self.digest, self.policy, self.root)),
            Err(error) => self.unread(place, Unread::Source(error)),
        }
    }

    /// The first payload of the `.sig` tag that holds.
    pub async fn sig_tag(&mut self) -> Option<Verdict> {
        let tag = format!("sha256-{}.sig", self.digest.hex());
        let bytes = match self.source.manifest_by_tag(self.repository, &tag).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return None,
            Err(error) => return self.unread(format!("tag {tag}"), Unread::Source(error)),
        };
        let mut layers = match layers(&bytes) {
            Ok(layers) => layers,
            Err(reason) => return self.unread(format!("tag {tag}"), Unread::Malformed(reason)),
        };
        layers.retain(|layer| layer.media_type == SIMPLE_SIGNING_TYPE);
        for layer in layers.iter().take(MAX_CANDIDATES) {
            let place = format!("payload {} at tag {tag}", layer.digest);
            let annotations = layer.annotations.as_ref().map(Annotations::of).unwrap_or_default();
            let found = match self.source.small_blob(self.repository, &layer.digest, MAX_PAYLOAD).await {
                Ok(payload) => {
                    let report = explain_simple_signing(&payload, &annotations, self.digest, self.policy, self.root);
                    self.checked(place, report)
                }
                Err(error) => self.unread(place, Unread::Source(error)),
            };
            if found.is_some() {
                return found;
            }
        }
        self.too_many(layers.len(), "layers of the .sig tag")
    }

    fn too_many(&mut self, found: usize, what: &str) -> Option<Verdict> {
        if found <= MAX_CANDIDATES {
            return None;
        }
        let reason = format!("not looked at: at most {MAX_CANDIDATES} are");
        self.unread(format!("{} further {what}", found - MAX_CANDIDATES), Unread::Malformed(reason))
    }

    fn checked(&mut self, place: String, report: Report) -> Option<Verdict> {
        let verdict = report.verdict.clone();
        self.findings.push(Finding { place, result: Ok(report) });
        verdict
    }

    fn unread(&mut self, place: String, why: Unread) -> Option<Verdict> {
        self.findings.push(Finding { place, result: Err(why) });
        None
    }
}

/// The layers of a manifest that can be read; one that cannot does not hide the others.
fn layers(bytes: &[u8]) -> Result<Vec<Layer>, String> {
    if bytes.len() > MAX_SIGNATURE_MANIFEST {
        return Err(format!("a manifest of {} bytes; at most {MAX_SIGNATURE_MANIFEST} are accepted", bytes.len()));
    }
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(|error| format!("no manifest: {error}"))?;
    Ok(manifest.layers.into_iter().filter_map(|layer| serde_json::from_value(layer).ok()).collect())
}

/// Why the image is refused, when no signature holds.
pub(super) fn refusal(findings: &[Finding], repository: &str, digest: &Digest) -> VerifyError {
    let (repository, digest) = (repository.to_owned(), *digest);
    let mut candidates = Vec::new();
    let mut failure = None;
    for Finding { place, result } in findings {
        let reason = match result {
            Ok(report) => match report.clone().into_result() {
                Ok(_) => continue,
                Err(error) => error.to_string(),
            },
            Err(Unread::Malformed(reason)) => reason.clone(),
            Err(Unread::Source(error)) => {
                failure.get_or_insert_with(|| (place.clone(), error.clone()));
                continue;
            }
        };
        candidates.push(Candidate { place: place.clone(), reason });
    }
    match failure {
        Some((what, error)) => VerifyError::Source { repository, digest, what, error, candidates },
        None if candidates.is_empty() => VerifyError::Unsigned { repository, digest },
        None => VerifyError::NoneValid { repository, digest, candidates },
    }
}
