//! Learning a digest: one pass over a file's bytes.

use sha2::{Digest as _, Sha256};

use crate::telemetry::Metrics;
use crate::types::Digest;
use crate::virtual_file::{ReadBlob, VirtualFile};

use super::FactoryError;

/// Bytes read at a time.
const PIECE: u64 = 1 << 20;

/// The SHA-256 of a file. Blocks for as long as it takes to read it.
///
/// # Errors
/// When a blob under it cannot be read.
pub fn sha256(file: &VirtualFile, blobs: &dyn ReadBlob, metrics: &Metrics) -> Result<Digest, FactoryError> {
    let mut hasher = Sha256::new();
    for piece in file.pieces(0..file.len(), blobs, PIECE) {
        hasher.update(piece?);
    }
    metrics.hashed_bytes.inc_by(file.len());
    Ok(Digest::from_raw(hasher.finalize().into()))
}
