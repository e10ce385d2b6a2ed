//! What the Sigstore project's verifier leaves unread in a bundle, held to its specification.
//!
//! None of it decides whom to trust; but evidence that is not as its issuer made it has been touched, and is refused.

use sigstore_types::bundle::InclusionProof;
use sigstore_types::{Bundle, KindVersion, TransparencyLogEntry};

use super::checks::names;
use super::timestamp::check_frame;

/// Holds a bundle's timestamps and log proofs to their forms.
///
/// # Errors
/// The name of the check that fails, and why.
pub(super) fn check(bundle: &Bundle) -> Result<(), (&'static str, String)> {
    let material = &bundle.verification_material;
    for stamp in &material.timestamp_verification_data.rfc3161_timestamps {
        check_frame(stamp.signed_timestamp.as_bytes()).map_err(|reason| (names::TIME, reason))?;
    }
    for entry in &material.tlog_entries {
        if let Some(proof) = &entry.inclusion_proof {
            check_proof(entry, proof).map_err(|reason| (names::LOG, reason))?;
        }
    }
    Ok(())
}

fn check_proof(entry: &TransparencyLogEntry, proof: &InclusionProof) -> Result<(), String> {
    let Some(checkpoint) = proof.checkpoint.checkpoint() else {
        return Ok(()); // missing ones are the verifier's to refuse
    };
    // With Rekor v2 the proof's own tree size is nobody's word; the checkpoint's is used in its place.
    if entry.kind_version != KindVersion::HashedRekordV002 && proof.tree_size != checkpoint.tree_size() {
        let (proof, checkpoint) = (proof.tree_size, checkpoint.tree_size());
        return Err(format!("the inclusion proof is for a tree of {proof} entries, the checkpoint for {checkpoint}"));
    }
    // A signed note (C2SP `signed-note`) is signed by the name that is, or begins, its origin line.
    let signed = String::from_utf8_lossy(checkpoint.signed_data());
    let mut note = format!("{signed}\n");
    let mut by_origin = false;
    for line in checkpoint.signatures() {
        let raw = [line.key_id.as_slice(), line.signature.as_bytes()].concat();
        note += &format!("\u{2014} {} {}\n", line.name, sigstore_types::SignatureBytes::new(raw).to_base64());
        let origin = checkpoint.origin();
        by_origin |=
            origin.strip_prefix(line.name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(" - "));
    }
    if !by_origin {
        return Err(format!("the checkpoint of {:?} has no signature by that name", checkpoint.origin()));
    }
    if note.trim_end_matches('\n') != proof.checkpoint.envelope().trim_end_matches('\n') {
        return Err("the checkpoint is not in the form of a signed note".to_owned());
    }
    Ok(())
}
