//! Signatures in Sigstore bundles: of files, and of images as cosign makes them.
//!
//! Specifications: sigstore/protobuf-specs `sigstore_bundle.proto` (JSON form, versions 0.1 to 0.3), in-toto Statement v1,
//! DSSE v1.0.2. For an image the bundle holds a DSSE envelope with an in-toto statement whose predicate type is
//! [`super::SIGN_PREDICATE`] and one of whose subjects is the image's digest.

use sigstore_types::bundle::VerificationMaterialContent;
use sigstore_types::{Bundle, HashAlgorithm as BundleHash, Sha256Hash, SignatureContent};
use sigstore_verify::VerificationResult;
use sigstore_verify::crypto;

use super::checks::{Checks, Form, Report, Stop, Verdict, names};
use super::error::VerifyError;
use super::evidence::{self, Signed};
use super::key::PublicKey;
use super::policy::{IssuerRule, Policy};
use super::root::TrustedRoot;
use super::statement;
use crate::types::Digest;

/// A bundle larger than this is refused unread, in bytes.
pub const MAX_BUNDLE: u64 = 4 << 20;

/// A bundle with more log entries, timestamps or certificates than this is refused: each costs a verification.
const MAX_EVIDENCE: usize = 32;

const KEYLESS: &[&str] = &[
    names::FORM,
    names::TIME,
    names::CHAIN,
    names::TRANSPARENCY,
    names::LOG,
    names::SIGNATURE,
    names::SUBJECT,
    names::ENTRY,
    names::STATEMENT,
    names::ISSUER,
    names::IDENTITY,
];
const BY_KEY: &[&str] =
    &[names::FORM, names::SIGNATURE, names::SUBJECT, names::TIME, names::LOG, names::ENTRY, names::STATEMENT];

/// What a signature is about.
#[derive(Clone, Copy, Debug)]
pub enum Artifact<'a> {
    /// The whole content.
    Bytes(&'a [u8]),
    /// SHA-256 of the content. Enough for statements, and for message signatures that hash with SHA-256.
    Digest(&'a Digest),
}

impl Artifact<'_> {
    pub(super) fn sha256(&self) -> Digest {
        match self {
            Self::Bytes(bytes) => Digest::of(bytes),
            Self::Digest(digest) => **digest,
        }
    }
}

impl<'a> From<Artifact<'a>> for sigstore_types::Artifact<'a> {
    fn from(artifact: Artifact<'a>) -> Self {
        match artifact {
            Artifact::Bytes(bytes) => Self::Blob(bytes),
            Artifact::Digest(digest) => Sha256Hash::new(*digest.raw()).into(),
        }
    }
}

/// Holds a bundle against a file or its digest.
///
/// # Errors
/// [`VerifyError::Refused`] with the first check that fails.
pub fn verify_bundle(
    bundle: &[u8],
    artifact: Artifact<'_>,
    policy: &Policy,
    root: &TrustedRoot,
) -> Result<Verdict, VerifyError> {
    explain_bundle(bundle, artifact, policy, root).into_result()
}

/// Holds a bundle against an image: beside everything of [`verify_bundle`], the statement must be cosign's.
///
/// # Errors
/// [`VerifyError::Refused`] with the first check that fails.
pub fn verify_bundle_for_image(
    bundle: &[u8],
    image: &Digest,
    policy: &Policy,
    root: &TrustedRoot,
) -> Result<Verdict, VerifyError> {
    explain_bundle_for_image(bundle, image, policy, root).into_result()
}

/// Like [`verify_bundle`], with every check and its outcome.
pub fn explain_bundle(bundle: &[u8], artifact: Artifact<'_>, policy: &Policy, root: &TrustedRoot) -> Report {
    explain(bundle, artifact, policy, root, |checks, _| {
        checks.skip(names::STATEMENT, "any statement about the file will do");
        Ok(())
    })
}

/// Like [`verify_bundle_for_image`], with every check and its outcome.
pub fn explain_bundle_for_image(bundle: &[u8], image: &Digest, policy: &Policy, root: &TrustedRoot) -> Report {
    explain(bundle, Artifact::Digest(image), policy, root, |checks, bundle| statement::for_image(checks, bundle, image))
}

fn explain(
    json: &[u8],
    artifact: Artifact<'_>,
    policy: &Policy,
    root: &TrustedRoot,
    last: impl Fn(&mut Checks, &Bundle) -> Result<(), Stop>,
) -> Report {
    match policy {
        Policy::Disabled => Checks::new(&[]).finish(Ok(Verdict::unchecked(artifact.sha256()))),
        Policy::Keyless { issuer, subject } => {
            let mut checks = Checks::new(KEYLESS);
            let verdict = read(&mut checks, json).and_then(|bundle| {
                let result = evidence::keyless(&mut checks, root, &bundle, artifact.into(), Signed::of(&bundle))?;
                last(&mut checks, &bundle)?;
                let verdict = Verdict { form: Form::Bundle, ..Verdict::unchecked(artifact.sha256()) };
                authorize(&mut checks, &result, issuer, subject, verdict)
            });
            checks.finish(verdict)
        }
        Policy::PublicKey(key) => {
            let mut checks = Checks::new(BY_KEY);
            let verdict = read(&mut checks, json).and_then(|bundle| {
                let time = by_key(&mut checks, root, &bundle, artifact, key)?;
                last(&mut checks, &bundle)?;
                let key = Some(key.fingerprint());
                Ok(Verdict { form: Form::Bundle, key, time, ..Verdict::unchecked(artifact.sha256()) })
            });
            checks.finish(verdict)
        }
    }
}

fn read(checks: &mut Checks, json: &[u8]) -> Result<Bundle, Stop> {
    if json.len() as u64 > MAX_BUNDLE {
        return Err(checks.fail(names::FORM, format!("{} bytes; at most {MAX_BUNDLE} are accepted", json.len())));
    }
    let text = std::str::from_utf8(json).map_err(|error| checks.fail(names::FORM, error.to_string()))?;
    let bundle =
        Bundle::from_json(text).map_err(|error| checks.fail(names::FORM, format!("no Sigstore bundle: {error}")))?;
    let material = &bundle.verification_material;
    let certificates = match &material.content {
        VerificationMaterialContent::X509CertificateChain { certificates } => certificates.len(),
        _ => 0,
    };
    let stamps = material.timestamp_verification_data.rfc3161_timestamps.len();
    for (what, count) in
        [("log entries", material.tlog_entries.len()), ("timestamps", stamps), ("certificates", certificates)]
    {
        if count > MAX_EVIDENCE {
            return Err(checks.fail(names::FORM, format!("{count} {what}; at most {MAX_EVIDENCE} are accepted")));
        }
    }
    Ok(bundle)
}

/// Holds what a verified certificate says against the policy.
pub(super) fn authorize(
    checks: &mut Checks,
    result: &VerificationResult,
    issuer: &IssuerRule,
    subject: &regex::Regex,
    verdict: Verdict,
) -> Result<Verdict, Stop> {
    let Some(actual_issuer) = result.issuer() else {
        return Err(checks.fail(names::ISSUER, format!("the certificate names none; the policy wants {issuer}")));
    };
    if !issuer.allows(actual_issuer) {
        return Err(checks.fail(names::ISSUER, format!("{actual_issuer:?}; the policy wants {issuer}")));
    }
    checks.pass(names::ISSUER, actual_issuer);
    let Some(identity) = result.identity() else {
        return Err(checks.fail(names::IDENTITY, format!("the certificate names none; the policy wants /{subject}/")));
    };
    if !subject.is_match(identity.as_str()) {
        return Err(checks.fail(names::IDENTITY, format!("{:?}; the policy wants /{subject}/", identity.as_str())));
    }
    checks.pass(names::IDENTITY, identity.as_str());
    Ok(Verdict {
        identity: Some(identity.as_str().to_owned()),
        issuer: Some(actual_issuer.to_owned()),
        time: evidence::earliest(result),
        ..verdict
    })
}

/// Checks of a bundle by public key; gives the earliest proven time, if any.
fn by_key(
    checks: &mut Checks,
    root: &TrustedRoot,
    bundle: &Bundle,
    artifact: Artifact<'_>,
    key: &PublicKey,
) -> Result<Option<i64>, Stop> {
    if bundle.signing_certificate().is_some() {
        let reason = "signed with a certificate; the policy wants a public key's signature";
        return Err(checks.fail(names::FORM, reason));
    }
    let scheme = match &bundle.content {
        SignatureContent::DsseEnvelope(envelope) => key.verify(&envelope.pae(), envelope.signature.sig.as_bytes()),
        SignatureContent::MessageSignature(signed) => match artifact {
            Artifact::Bytes(bytes) => key.verify(bytes, signed.signature.as_bytes()),
            Artifact::Digest(digest) if key.takes_digests() => key.verify_sha256(digest, signed.signature.as_bytes()),
            Artifact::Digest(_) => {
                let reason = "an Ed25519 signature cannot be checked by digest; the whole file is needed";
                return Err(checks.fail(names::SIGNATURE, reason));
            }
        },
        _ => return Err(checks.fail(names::FORM, "neither a DSSE envelope nor a message signature")),
    };
    checks.pass(names::FORM, evidence::form(bundle));
    let Some(scheme) = scheme else {
        let reason = format!("not made with the policy's key {}", key.fingerprint());
        return Err(checks.fail(names::SIGNATURE, reason));
    };
    checks.pass(names::SIGNATURE, format!("{} by key {}", scheme.name(), key.fingerprint()));
    match &bundle.content {
        SignatureContent::DsseEnvelope(envelope) => {
            let statement = statement::read(envelope).map_err(|reason| checks.fail(names::SUBJECT, reason))?;
            statement::about(&statement, &artifact).map_err(|reason| checks.fail(names::SUBJECT, reason))?;
            checks.pass(names::SUBJECT, "named by the statement");
        }
        SignatureContent::MessageSignature(signed) => {
            if let Some(named) = &signed.message_digest
                && !same_digest(named.algorithm, named.digest.as_bytes(), &artifact)
            {
                let reason = format!("the bundle's {} message digest is not the file's", named.algorithm);
                return Err(checks.fail(names::SUBJECT, reason));
            }
            checks.pass(names::SUBJECT, "the bytes that were signed");
        }
        _ => {}
    }
    evidence::beside_key(checks, root, bundle, artifact.into(), key, scheme)
}

fn same_digest(algorithm: BundleHash, named: &[u8], artifact: &Artifact<'_>) -> bool {
    match (algorithm, artifact) {
        (BundleHash::Sha2256, artifact) => artifact.sha256().raw() == named,
        (BundleHash::Sha2384, Artifact::Bytes(bytes)) => crypto::sha384(bytes).as_bytes() == named,
        (BundleHash::Sha2512, Artifact::Bytes(bytes)) => crypto::sha512(bytes).as_bytes() == named,
        _ => false,
    }
}
