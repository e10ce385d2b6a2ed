//! Learning a digest: one pass over a file's bytes, or over those that are new.
//!
//! Files that are made here begin alike: the same headers, the same kernel, the same initramfs of a release. Behind each
//! large blob the state of the hash is remembered by the extents before it, so that the next file that begins with them
//! goes on from there.

use sha2::{Digest as _, Sha256};

use crate::telemetry::Metrics;
use crate::types::Digest;
use crate::virtual_file::{Extent, ReadBlob, VirtualFile};

use super::FactoryError;

/// Bytes read at a time.
const PIECE: u64 = 1 << 20;
/// Behind blobs of at least as many bytes the state is remembered.
const LARGE: u64 = 4 << 20;

/// Computes SHA-256 digests of files and remembers what helps with the next.
pub struct Hasher {
    /// Digests by that of the extent list.
    known: moka::sync::Cache<Digest, Digest>,
    /// States by the name of what was hashed so far.
    states: moka::sync::Cache<Digest, Sha256>,
}

impl Default for Hasher {
    fn default() -> Self {
        Self { known: moka::sync::Cache::new(10_000), states: moka::sync::Cache::new(10_000) }
    }
}

impl Hasher {
    /// The SHA-256 of a file. Blocks for as long as it takes to read what is new.
    ///
    /// # Errors
    /// When a blob under it cannot be read.
    pub fn sha256(&self, file: &VirtualFile, blobs: &dyn ReadBlob, metrics: &Metrics) -> Result<Digest, FactoryError> {
        let whole = Digest::of(&file.encode());
        if let Some(known) = self.known.get(&whole) {
            metrics.count_hit("digest");
            return Ok(known);
        }
        let marks = marks(file);
        let found = marks.iter().rev().find_map(|(end, name)| Some((self.states.get(name)?, *end)));
        if found.is_some() {
            metrics.count_hit("hash-state");
        }
        let (mut state, mut at) = found.unwrap_or_else(|| (Sha256::new(), 0));
        for (end, name) in marks {
            if end <= at {
                continue;
            }
            update(&mut state, &file.slice(at..end), blobs, metrics)?;
            self.states.insert(name, state.clone());
            at = end;
        }
        update(&mut state, &file.slice(at..file.len()), blobs, metrics)?;
        let digest = Digest::from_raw(state.finalize().into());
        self.known.insert(whole, digest);
        Ok(digest)
    }
}

/// Where the state is remembered, ascending, and by which name: the digest of the extent lists from mark to mark.
fn marks(file: &VirtualFile) -> Vec<(u64, Digest)> {
    let (mut start, mut end, mut lists, mut marks) = (0, 0, Sha256::new(), Vec::new());
    for extent in file.extents() {
        end += extent.len();
        if matches!(extent, Extent::Blob { len, .. } if *len >= LARGE) {
            lists.update(file.slice(start..end).encode());
            marks.push((end, Digest::from_raw(lists.clone().finalize().into())));
            start = end;
        }
    }
    marks
}

fn update(state: &mut Sha256, part: &VirtualFile, blobs: &dyn ReadBlob, metrics: &Metrics) -> Result<(), FactoryError> {
    for piece in part.pieces(0..part.len(), blobs, PIECE) {
        state.update(piece?);
    }
    metrics.hashed_bytes.inc_by(part.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{BlobStore, MemoryStore};

    #[test]
    fn what_files_begin_with_alike_is_hashed_once() {
        let (hasher, metrics) = (Hasher::default(), Metrics::default());
        let store = MemoryStore::default();
        let large: Vec<u8> = (0..LARGE + 5).map(|n| (n % 251) as u8).collect();
        let (digest, len) = (&store as &dyn BlobStore).put(&large, None).unwrap();
        let file = |head: &'static str, tail: &'static str| {
            VirtualFile::concat([VirtualFile::inline(head), VirtualFile::blob(digest, len), VirtualFile::inline(tail)])
        };
        let mut read = 0;
        for (head, tail, new) in [
            ("head", "tail", len + 8),
            ("head", "tail", 0),
            ("head", "other tail", 10),
            ("HEAD", "tail", len + 8),
            ("HEAD", "", 0),
        ] {
            let want = Digest::of(&[head.as_bytes(), &large, tail.as_bytes()].concat());
            assert_eq!(hasher.sha256(&file(head, tail), &store, &metrics).unwrap(), want);
            assert_eq!(metrics.hashed_bytes.get() - read, new, "{head} {tail}");
            read = metrics.hashed_bytes.get();
        }
    }
}
