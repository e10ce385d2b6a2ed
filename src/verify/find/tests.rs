use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde_json::json;

use super::super::error::SourceError;
use super::super::search::{MAX_CANDIDATES, MAX_SIGNATURE_MANIFEST, PREDICATE_ANNOTATION, SIMPLE_SIGNING_TYPE};
use super::super::source::Referrer;
use super::super::statement::SIGN_PREDICATE;
use super::*;

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// A registry of what the tests put there; whatever is not there cannot be read.
#[derive(Default)]
struct Shelf {
    referrers: Option<Vec<Referrer>>,
    blobs: HashMap<Digest, Bytes>,
    tag: Option<Bytes>,
    asked: std::sync::atomic::AtomicUsize,
}

fn gone() -> SourceError {
    SourceError(Arc::new(std::io::Error::other("503 from the upstream")))
}

impl Shelf {
    fn put(&mut self, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        self.blobs.insert(digest, bytes);
        digest
    }

    /// A referrer that holds `content` as a bundle.
    fn refer(&mut self, content: &str, artifact_type: Option<&str>) {
        let layer = self.put(content.to_owned());
        let manifest = json!({"layers": [{"mediaType": BUNDLE, "digest": layer, "size": 1}]}).to_string();
        let digest = self.put(manifest);
        let artifact_type = artifact_type.map(str::to_owned);
        self.referrers.get_or_insert_default().push(Referrer { digest, artifact_type, annotations: BTreeMap::new() });
    }

    async fn verify(&self) -> VerifyError {
        let policy = Policy::from_config(&super::super::PolicyConfig::default()).unwrap();
        let verifier = Verifier::new(policy, TrustedRoot::embedded().unwrap());
        verifier.verify_image(self, "siderolabs/imager", &Digest::of(b"image")).await.unwrap_err()
    }
}

impl SignatureSource for Shelf {
    async fn manifest_by_tag(&self, _: &str, tag: &str) -> Result<Option<Bytes>, SourceError> {
        assert_eq!(tag, format!("sha256-{}.sig", Digest::of(b"image").hex()));
        Ok(self.tag.clone())
    }

    async fn manifest(&self, _: &str, digest: &Digest) -> Result<Bytes, SourceError> {
        self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.blobs.get(digest).cloned().ok_or_else(gone)
    }

    async fn referrers(&self, _: &str, _: &Digest) -> Result<Vec<Referrer>, SourceError> {
        self.referrers.clone().ok_or_else(gone)
    }

    async fn small_blob(&self, _: &str, digest: &Digest, _: u64) -> Result<Bytes, SourceError> {
        self.blobs.get(digest).cloned().ok_or_else(gone)
    }
}

#[tokio::test]
async fn an_image_without_signatures_is_unsigned() {
    let mut shelf = Shelf { referrers: Some(Vec::new()), ..Shelf::default() };
    assert!(matches!(shelf.verify().await, VerifyError::Unsigned { .. }));
    // Other artifacts that refer to the image are no signatures, whether or not the list says what they are.
    let other = shelf.put(json!({"layers": [{"mediaType": "application/spdx+json", "digest": "x"}]}).to_string());
    for artifact_type in [None, Some("application/spdx+json".to_owned())] {
        let referrer = Referrer { digest: other, artifact_type, annotations: BTreeMap::new() };
        shelf.referrers.get_or_insert_default().push(referrer);
    }
    let error = shelf.verify().await;
    assert!(matches!(error, VerifyError::Unsigned { .. }) && !error.is_transient());
    assert!(error.to_string().contains("siderolabs/imager@sha256:"), "{error}");
}

#[tokio::test]
async fn every_candidate_is_named_with_its_reason() {
    let mut shelf = Shelf::default();
    shelf.refer("{}", Some(BUNDLE));
    shelf.refer("[]", None);
    let payload = shelf.put("payload");
    let layers = json!({"layers": [
        {"mediaType": SIMPLE_SIGNING_TYPE, "digest": payload, "annotations": {"dev.cosignproject.cosign/signature": "%"}},
        {"mediaType": SIMPLE_SIGNING_TYPE, "digest": "sha512:00"},
        {"mediaType": "text/plain", "digest": payload},
    ]});
    shelf.tag = Some(layers.to_string().into());
    let error = shelf.verify().await;
    let VerifyError::NoneValid { candidates, .. } = &error else { panic!("{error}") };
    assert_eq!(candidates.len(), 3, "{error}");
    assert!(candidates.iter().all(|candidate| candidate.reason.starts_with("form: ")), "{error}");
    assert!(error.to_string().contains(&payload.to_string()), "{error}");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn a_source_that_fails_is_not_an_unsigned_image() {
    let mut shelf = Shelf::default();
    let error = shelf.verify().await;
    assert!(error.is_transient() && error.to_string().contains("list of referrers: 503"), "{error}");
    shelf.refer("{}", Some(BUNDLE));
    let lost =
        Referrer { digest: Digest::of(b"lost"), artifact_type: Some(BUNDLE.into()), annotations: BTreeMap::new() };
    shelf.referrers.get_or_insert_default().push(lost);
    let error = shelf.verify().await;
    let VerifyError::Source { error: SourceError(inner), candidates, .. } = &error else { panic!("{error}") };
    assert!(inner.downcast_ref::<std::io::Error>().is_some());
    assert_eq!(candidates.len(), 1, "{error}");
}

#[tokio::test]
async fn no_more_than_the_bound_are_read_and_signatures_go_first() {
    let mut shelf = Shelf::default();
    for at in 0..MAX_CANDIDATES + 8 {
        shelf.refer(&format!("[{at}]"), Some(BUNDLE));
    }
    let last = shelf.referrers.as_mut().unwrap().last_mut().unwrap();
    last.annotations.insert(PREDICATE_ANNOTATION.into(), SIGN_PREDICATE.into());
    let last = last.digest.to_string();
    let error = shelf.verify().await;
    let VerifyError::NoneValid { candidates, .. } = &error else { panic!("{error}") };
    assert_eq!(shelf.asked.load(std::sync::atomic::Ordering::Relaxed), MAX_CANDIDATES);
    assert_eq!(candidates.len(), MAX_CANDIDATES + 1);
    assert!(candidates[0].place.contains(&last), "{error}");
    assert!(candidates[MAX_CANDIDATES].place.starts_with("8 further"), "{error}");
    shelf.tag = Some(vec![b' '; MAX_SIGNATURE_MANIFEST + 1].into());
    assert!(shelf.verify().await.to_string().contains("at most"));
}

#[tokio::test]
async fn a_disabled_policy_asks_nobody() {
    let verifier = Verifier::new(Policy::Disabled, TrustedRoot::embedded().unwrap());
    let image = Digest::of(b"image");
    let verdict = verifier.verify_image(&Shelf::default(), "x", &image).await.unwrap();
    assert_eq!(verdict, Verdict::unchecked(image));
}
