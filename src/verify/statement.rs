//! In-toto statements: what a DSSE envelope says, and about what.
//!
//! Specifications: in-toto Statement v1; cosign's predicate for image signatures.

use sigstore_types::{Bundle, DsseEnvelope, Sha256Hash, SignatureContent, Statement};
use sigstore_verify::crypto;

use super::bundle::Artifact;
use super::checks::{Checks, Stop, names};
use crate::types::Digest;

/// The predicate type of a statement that means "this image is signed".
pub const SIGN_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";

const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const STATEMENT_PAYLOAD: &str = "application/vnd.in-toto+json";

/// The statement in an envelope; why it is none.
pub(super) fn read(envelope: &DsseEnvelope) -> Result<Statement, String> {
    if envelope.payload_type != STATEMENT_PAYLOAD {
        return Err(format!("payload type {:?}; only {STATEMENT_PAYLOAD:?} is known", envelope.payload_type));
    }
    serde_json::from_slice(envelope.payload.as_bytes()).map_err(|error| format!("no in-toto statement: {error}"))
}

/// Whether one of the statement's subjects is the artifact.
pub(super) fn about(statement: &Statement, artifact: &Artifact<'_>) -> Result<(), String> {
    let sha256 = artifact.sha256();
    let named = statement.matches_sha256(&Sha256Hash::new(*sha256.raw()))
        || matches!(artifact, Artifact::Bytes(bytes) if statement.matches_sha512(&crypto::sha512(bytes)));
    if named { Ok(()) } else { Err(format!("{sha256} is no subject of the statement")) }
}

/// Holds the statement to be cosign's about this image.
pub(super) fn for_image(checks: &mut Checks, bundle: &Bundle, image: &Digest) -> Result<(), Stop> {
    let SignatureContent::DsseEnvelope(envelope) = &bundle.content else {
        return Err(checks.fail(names::STATEMENT, "the signature is of a file, not a statement about an image"));
    };
    let statement = read(envelope).map_err(|reason| checks.fail(names::STATEMENT, reason))?;
    if statement.type_ != STATEMENT_TYPE {
        let reason = format!("statement type {:?}; only {STATEMENT_TYPE:?} is known", statement.type_);
        return Err(checks.fail(names::STATEMENT, reason));
    }
    if statement.predicate_type != SIGN_PREDICATE {
        let reason =
            format!("predicate type {:?} is no image signature ({SIGN_PREDICATE:?})", statement.predicate_type);
        return Err(checks.fail(names::STATEMENT, reason));
    }
    about(&statement, &Artifact::Digest(image)).map_err(|reason| checks.fail(names::STATEMENT, reason))?;
    checks.pass(names::STATEMENT, SIGN_PREDICATE);
    Ok(())
}
