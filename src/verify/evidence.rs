//! What the Sigstore project's verifier proves about a bundle, told as named checks.
//!
//! The verifier stops at the first thing that does not hold. From the kind of its error and the order of its steps
//! follows which checks had passed by then; where that is not certain, a check counts as not reached.

use sigstore_types::{Artifact, Bundle, DerPublicKey, SignatureContent};
use sigstore_verify::{
    CertificateError, Error, PublicKeyVerificationPolicy, TransparencyLogError, VerificationPolicy, VerificationResult,
};

use super::checks::{Checks, Stop, names};
use super::key::{HashAlgorithm, PublicKey, Scheme};
use super::root::TrustedRoot;
use super::strict;

/// The verifier's checks of a keyless bundle, in its order.
const STEPS: [&str; 8] = [
    names::FORM,
    names::TIME,
    names::CHAIN,
    names::TRANSPARENCY,
    names::LOG,
    names::SIGNATURE,
    names::SUBJECT,
    names::ENTRY,
];

/// What a bundle's signature was made over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Signed {
    /// A statement that names the artifact.
    Statement,
    /// The artifact itself.
    File,
    /// A payload that names the image; whether it is the right one is for the caller to check.
    Payload,
}

impl Signed {
    /// What a bundle that came as one is over.
    pub const fn of(bundle: &Bundle) -> Self {
        if matches!(bundle.content, SignatureContent::DsseEnvelope(_)) { Self::Statement } else { Self::File }
    }
}

/// Verifies a bundle with a Fulcio certificate, for whatever identity.
pub(super) fn keyless(
    checks: &mut Checks,
    root: &TrustedRoot,
    bundle: &Bundle,
    artifact: Artifact<'_>,
    signed: Signed,
) -> Result<VerificationResult, Stop> {
    let steps = || STEPS.iter().filter(|name| signed != Signed::Payload || **name != names::SUBJECT);
    match root.verifier().verify(artifact, bundle, &VerificationPolicy::any_identity()) {
        Ok(result) => {
            if let Err((failed, reason)) = strict::check(bundle) {
                steps().filter(|name| **name != failed).for_each(|name| checks.pass(name, ""));
                return Err(checks.fail(failed, reason));
            }
            checks.pass(names::FORM, form(bundle));
            checks.pass(names::TIME, times(&result));
            checks.pass(names::CHAIN, "issued for code signing by a trusted authority, valid at every proven time");
            checks.pass(names::TRANSPARENCY, "promised by a trusted certificate transparency log");
            checks.pass(names::LOG, entries(bundle));
            checks.pass(names::SIGNATURE, "made with the certificate's key");
            match signed {
                Signed::Statement => checks.pass(names::SUBJECT, "named by the statement"),
                Signed::File => checks.pass(names::SUBJECT, "the bytes that were signed"),
                Signed::Payload => {}
            }
            checks.pass(names::ENTRY, "about this certificate, signature and content");
            Ok(result)
        }
        Err(error) => {
            let (failed, certain) = step(&error, signed);
            steps().take(certain).for_each(|name| checks.pass(name, ""));
            Err(checks.fail(failed, error.to_string()))
        }
    }
}

/// The check that an error belongs to, and how many of [`STEPS`] had certainly passed before.
fn step(error: &Error, signed: Signed) -> (&'static str, usize) {
    match error {
        Error::Certificate(CertificateError::Sct(_)) => (names::TRANSPARENCY, 3),
        Error::Certificate(CertificateError::Malformed(_)) => (names::CHAIN, 0),
        Error::Certificate(_) => (names::CHAIN, 2),
        Error::TransparencyLog(TransparencyLogError::InclusionProof(_) | TransparencyLogError::Checkpoint(_)) => {
            (names::LOG, 4)
        }
        Error::TransparencyLog(TransparencyLogError::EntryMismatch(_)) => (names::ENTRY, 7),
        Error::TransparencyLog(TransparencyLogError::MalformedEntry(_)) => (names::ENTRY, 1),
        // Signed promises give times, so they are looked at first, and again with the log.
        Error::TransparencyLog(_) => (names::LOG, 1),
        Error::Timestamp(_) => (names::TIME, 1),
        Error::SignatureInvalid(_) => (names::SIGNATURE, 5),
        Error::ArtifactMismatch(_) | Error::UnsupportedArtifact(_) => match signed {
            Signed::Statement => (names::SUBJECT, 6),
            Signed::File => (names::SUBJECT, 5),
            Signed::Payload => (names::ENTRY, 6),
        },
        _ => (names::FORM, 0),
    }
}

/// Verifies what a bundle by a public key brings beside its signature: log entries and timestamps. Neither is demanded
/// of such a bundle, whose signer is known by the key; what is there must hold. Gives the earliest proven time.
pub(super) fn beside_key(
    checks: &mut Checks,
    root: &TrustedRoot,
    bundle: &Bundle,
    artifact: Artifact<'_>,
    key: &PublicKey,
    scheme: Scheme,
) -> Result<Option<i64>, Stop> {
    let material = &bundle.verification_material;
    let logged = !material.tlog_entries.is_empty();
    let stamped = !material.timestamp_verification_data.rfc3161_timestamps.is_empty();
    if !logged && !stamped {
        return Ok(none(checks, "none in the signature, and none is needed with a public key"));
    }
    let signed = Signed::of(bundle);
    if !known_to_verifier(scheme, signed) {
        return Ok(none(checks, &format!("not looked at: not supported with {}", scheme.name())));
    }
    strict::check(bundle).map_err(|(name, reason)| checks.fail(name, reason))?;
    let policy = PublicKeyVerificationPolicy::new(DerPublicKey::from_bytes(key.der()));
    let policy = if logged { policy } else { policy.skip_tlog_unsafe() };
    match root.verifier().verify(artifact, bundle, &policy) {
        Ok(result) => {
            if logged {
                checks.pass(names::LOG, entries(bundle));
                checks.pass(names::ENTRY, "about this key, signature and content");
            } else {
                checks.skip(names::LOG, "no entry, and none is needed with a public key");
                checks.skip(names::ENTRY, "");
            }
            if result.verified_timestamps().is_empty() {
                checks.skip(names::TIME, "no proven time, and none is needed with a public key");
            } else {
                checks.pass(names::TIME, times(&result));
            }
            Ok(earliest(&result))
        }
        Err(error) => {
            let name = match step(&error, signed).0 {
                name @ (names::TIME | names::LOG) => name,
                _ => names::ENTRY,
            };
            Err(checks.fail(name, error.to_string()))
        }
    }
}

fn none(checks: &mut Checks, detail: &str) -> Option<i64> {
    checks.skip(names::LOG, detail);
    checks.skip(names::TIME, detail);
    checks.skip(names::ENTRY, "");
    None
}

/// Whether the verifier would try this scheme: the key's customary one, and in the log only SHA-256.
const fn known_to_verifier(scheme: Scheme, signed: Signed) -> bool {
    match scheme {
        Scheme::EcdsaP256(hash) | Scheme::RsaPkcs1(hash) => matches!(hash, HashAlgorithm::Sha256),
        Scheme::EcdsaP384(hash) => matches!((signed, hash), (Signed::Statement, HashAlgorithm::Sha384)),
        Scheme::Ed25519 => true,
        Scheme::Ed25519ph => false,
    }
}

/// The earliest time that was proven, in seconds since 1970.
pub(super) fn earliest(result: &VerificationResult) -> Option<i64> {
    result.verified_timestamps().iter().map(|time| time.as_second()).min()
}

fn times(result: &VerificationResult) -> String {
    result.verified_timestamps().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn entries(bundle: &Bundle) -> String {
    let entries = &bundle.verification_material.tlog_entries;
    let each = entries.iter().map(|entry| {
        let kind = entry.kind_version;
        format!("{} {} at index {}", kind.kind(), kind.version(), entry.log_index.get())
    });
    each.collect::<Vec<_>>().join(", ")
}

/// What a bundle is made of, in words.
pub(super) fn form(bundle: &Bundle) -> String {
    let content = match &bundle.content {
        SignatureContent::DsseEnvelope(_) => "DSSE envelope",
        _ => "message signature",
    };
    let by = if bundle.signing_certificate().is_some() { "certificate" } else { "public key" };
    format!("{}: {content}, {by}", bundle.media_type())
}
