//! CRC-32 of files, out of those of their blobs: that of a whole follows from those of its parts and their lengths.

use crc32fast::Hasher;

use super::Known;
use crate::virtual_file::{Coder, Extent, ReadBlob, ReadError, VirtualFile};

/// The CRC-32 as 4 bytes, the lowest first: inline where it follows from what is known, else computed when it is read.
pub(super) fn crc32(file: &VirtualFile, known: &dyn Known) -> VirtualFile {
    let mut sum = Hasher::new();
    for extent in file.extents() {
        match of_extent(extent, known) {
            Some(part) => sum.combine(&part),
            None => return VirtualFile::coded(Coder::Crc32, file.clone()),
        }
    }
    VirtualFile::inline(sum.finalize().to_le_bytes().to_vec())
}

fn of_extent(extent: &Extent, known: &dyn Known) -> Option<Hasher> {
    match extent {
        Extent::Inline(bytes) => Some(of_bytes(bytes)),
        Extent::Blob { digest, offset, len } => {
            let sum = known.crc32(digest, *offset..offset + len)?;
            Some(Hasher::new_with_initial_len(sum, *len))
        }
        Extent::Repeat { unit, times } => Some(repeated(of_bytes(unit), *times)),
        Extent::Count { .. } => {
            let mut sum = Hasher::new();
            let file = VirtualFile::from_extents([extent.clone()]);
            for piece in file.pieces(0..file.len(), &NoBlobs as &dyn ReadBlob, 64 << 10) {
                sum.update(&piece.ok()?);
            }
            Some(sum)
        }
        Extent::Framed { .. } | Extent::Coded { .. } => None,
    }
}

fn of_bytes(bytes: &[u8]) -> Hasher {
    let mut sum = Hasher::new();
    sum.update(bytes);
    sum
}

/// `times` times the same, by doubling.
fn repeated(mut unit: Hasher, mut times: u64) -> Hasher {
    let mut sum = Hasher::new();
    while times > 0 {
        if times % 2 == 1 {
            sum.combine(&unit);
        }
        times /= 2;
        if times > 0 {
            unit.combine(&unit.clone());
        }
    }
    sum
}

/// For extents that need none.
struct NoBlobs;

impl ReadBlob for NoBlobs {
    fn read(&self, digest: &crate::types::Digest, _: std::ops::Range<u64>) -> Result<bytes::Bytes, ReadError> {
        Err(ReadError::Missing(*digest))
    }
}
