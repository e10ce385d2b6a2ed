//! Signatures in the older form: a signed payload that names the image, and annotations beside it.
//!
//! Specification: cosign `SIGNATURE_SPEC` and the "simple signing" payload of containers/image. What the annotations hold
//! is what a Sigstore bundle of version 0.1 with a message signature over the payload holds; it is put into that shape
//! and verified as one.

use serde::Deserialize;

use super::annotations::{Annotations, as_bundle, signature};
use super::bundle::authorize;
use super::checks::{Checks, Form, Report, Stop, Verdict, names};
use super::error::VerifyError;
use super::evidence::{self, Signed};
use super::key::PublicKey;
use super::policy::Policy;
use super::root::TrustedRoot;
use crate::types::Digest;

/// `critical.type` of a payload that means "this image is signed".
const PAYLOAD_TYPE: &str = "cosign container image signature";

const KEYLESS: &[&str] = &[
    names::FORM,
    names::TIME,
    names::CHAIN,
    names::TRANSPARENCY,
    names::LOG,
    names::SIGNATURE,
    names::ENTRY,
    names::STATEMENT,
    names::SUBJECT,
    names::ISSUER,
    names::IDENTITY,
];
const BY_KEY: &[&str] =
    &[names::FORM, names::SIGNATURE, names::TIME, names::LOG, names::ENTRY, names::STATEMENT, names::SUBJECT];

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// Holds a simple signing payload and its annotations against an image.
///
/// # Errors
/// [`VerifyError::Refused`] with the first check that fails.
pub fn verify_simple_signing(
    payload: &[u8],
    annotations: &Annotations,
    image: &Digest,
    policy: &Policy,
    root: &TrustedRoot,
) -> Result<Verdict, VerifyError> {
    explain_simple_signing(payload, annotations, image, policy, root).into_result()
}

/// Like [`verify_simple_signing`], with every check and its outcome.
pub fn explain_simple_signing(
    payload: &[u8],
    annotations: &Annotations,
    image: &Digest,
    policy: &Policy,
    root: &TrustedRoot,
) -> Report {
    let verdict = Verdict { form: Form::SimpleSigning, ..Verdict::unchecked(*image) };
    match policy {
        Policy::Disabled => Checks::new(&[]).finish(Ok(Verdict::unchecked(*image))),
        Policy::Keyless { issuer, subject } => {
            let mut checks = Checks::new(KEYLESS);
            let verdict = as_bundle(payload, annotations, Some(root))
                .map_err(|reason| checks.fail(names::FORM, reason))
                .and_then(|bundle| evidence::keyless(&mut checks, root, &bundle, payload.into(), Signed::Payload))
                .and_then(|result| {
                    names_image(&mut checks, payload, image)?;
                    authorize(&mut checks, &result, issuer, subject, verdict)
                });
            checks.finish(verdict)
        }
        Policy::PublicKey(key) => {
            let mut checks = Checks::new(BY_KEY);
            let verdict = by_key(&mut checks, payload, annotations, key, root).and_then(|time| {
                names_image(&mut checks, payload, image)?;
                Ok(Verdict { key: Some(key.fingerprint()), time, ..verdict })
            });
            checks.finish(verdict)
        }
    }
}

fn by_key(
    checks: &mut Checks,
    payload: &[u8],
    annotations: &Annotations,
    key: &PublicKey,
    root: &TrustedRoot,
) -> Result<Option<i64>, Stop> {
    let read = as_bundle(payload, annotations, None).and_then(|bundle| Ok((signature(annotations)?, bundle)));
    let (signature, bundle) = read.map_err(|reason| checks.fail(names::FORM, reason))?;
    checks.pass(names::FORM, "simple signing payload, public key");
    let Some(scheme) = key.verify(payload, &signature) else {
        return Err(checks.fail(names::SIGNATURE, format!("not made with the policy's key {}", key.fingerprint())));
    };
    checks.pass(names::SIGNATURE, format!("{} by key {}", scheme.name(), key.fingerprint()));
    evidence::beside_key(checks, root, &bundle, payload.into(), key, scheme)
}

fn names_image(checks: &mut Checks, payload: &[u8], image: &Digest) -> Result<(), Stop> {
    let payload: Payload = serde_json::from_slice(payload)
        .map_err(|error| checks.fail(names::STATEMENT, format!("no simple signing payload: {error}")))?;
    let Critical { image: Image { digest }, kind } = payload.critical;
    if kind != PAYLOAD_TYPE {
        return Err(checks.fail(names::STATEMENT, format!("type {kind:?} is no image signature ({PAYLOAD_TYPE:?})")));
    }
    checks.pass(names::STATEMENT, PAYLOAD_TYPE);
    if digest != image.to_string() {
        return Err(checks.fail(names::SUBJECT, format!("the payload is about {digest:?}, not about {image}")));
    }
    checks.pass(names::SUBJECT, "named by the payload");
    Ok(())
}
