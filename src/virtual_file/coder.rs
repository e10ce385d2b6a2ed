//! The closed set of coders: bytes that depend on contents, in a length that does not.

use std::ops::Range;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{ReadBlob, ReadError, VirtualFile};
use crate::types::Digest;

/// Bytes read at a time.
const PIECE: u64 = 256 << 10;

/// What is made of the contents of an [`Extent::Coded`](super::Extent::Coded).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coder {
    /// The SHA-256 of all of the source, as 64 lower-case hex digits.
    Sha256Hex,
    /// The CRC-32 (that of IEEE 802.3, gzip and xz) of all of the source, the lowest byte first.
    Crc32,
    /// Grains of a stream-optimized VMDK: each 64 KiB of the source become 129 sectors of 512 bytes, which are the
    /// grain's first sector on the disk, the length of the zlib stream, that stream in stored blocks, padding.
    VmdkGrains {
        /// Where the source begins on the disk, in sectors of 512 bytes.
        first_sector: u64,
    },
}

/// Bytes of a grain, raw and as written.
const GRAIN: u64 = 64 << 10;
const GRAIN_CODED: u64 = 129 * 512;
/// The longest stored block of deflate, in bytes.
const STORED: usize = 0xFFFF;

impl Coder {
    /// Lengths in bytes of a unit of the source and of what it becomes; `None` for the source where it is coded whole.
    const fn unit(self) -> (Option<u64>, u64) {
        match self {
            Self::Sha256Hex => (None, 64),
            Self::Crc32 => (None, 4),
            Self::VmdkGrains { .. } => (Some(GRAIN), GRAIN_CODED),
        }
    }

    /// Length in bytes of what `source` bytes become; `None` when they are no whole number of units.
    pub fn coded_len(self, source: u64) -> Option<u64> {
        match self.unit() {
            (None, coded) => Some(coded),
            (Some(unit), coded) if source.is_multiple_of(unit) => (source / unit).checked_mul(coded),
            _ => None,
        }
    }

    /// The same bytes out of as little source as they need.
    pub(super) fn narrow(self, source: &VirtualFile, range: Range<u64>) -> (Self, VirtualFile, Range<u64>) {
        let (Some(unit), coded) = self.unit() else { return (self, source.clone(), range) };
        let (first, end) = (range.start / coded, range.end.div_ceil(coded));
        let source = source.slice(first * unit..end * unit);
        (self.advanced(first * unit), source, range.start - first * coded..range.end - first * coded)
    }

    /// The coder of the source's rest, `by` bytes later.
    pub(super) const fn advanced(self, by: u64) -> Self {
        match self {
            Self::VmdkGrains { first_sector } => Self::VmdkGrains { first_sector: first_sector.wrapping_add(by / 512) },
            whole => whole,
        }
    }

    /// Whether sources that follow one another give outputs that do.
    pub(super) const fn is_blockwise(self) -> bool {
        self.unit().0.is_some()
    }

    /// Makes the bytes of `range`, or, where it is long, as many of them as are made in one go. Blocks.
    pub(super) fn read(
        self,
        source: &VirtualFile,
        range: Range<u64>,
        blobs: &dyn ReadBlob,
    ) -> Result<Bytes, ReadError> {
        let (Some(unit), coded) = self.unit() else {
            let all = blobs.remembered(&self.key(source), &mut || self.sum(source, blobs))?;
            return Ok(all.slice(range.start as usize..range.end as usize));
        };
        let first = range.start / coded;
        let count = (range.end.div_ceil(coded) - first).min(PIECE / unit);
        let raw = source.slice(first * unit..(first + count) * unit).read_all(blobs)?;
        let mut out = Vec::with_capacity((count * coded) as usize);
        for (index, grain) in raw.chunks(unit as usize).enumerate() {
            self.advanced((first + index as u64) * unit).grain(grain, &mut out);
        }
        let end = (range.end - first * coded).min(out.len() as u64);
        Ok(Bytes::from(out).slice((range.start - first * coded) as usize..end as usize))
    }

    /// What stands for the coded bytes where they are remembered.
    fn key(self, source: &VirtualFile) -> Digest {
        let mut whole = vec![self.number()];
        whole.extend(source.encode());
        Digest::of(&whole)
    }

    fn sum(self, source: &VirtualFile, blobs: &dyn ReadBlob) -> Result<Bytes, ReadError> {
        let (mut sha256, mut crc32) = (Sha256::new(), crc32fast::Hasher::new());
        for piece in source.pieces(0..source.len(), blobs, PIECE) {
            match self {
                Self::Sha256Hex => sha256.update(piece?),
                _ => crc32.update(&piece?),
            }
        }
        Ok(match self {
            Self::Sha256Hex => hex::encode(sha256.finalize()).into(),
            _ => crc32.finalize().to_le_bytes().to_vec().into(),
        })
    }

    /// Appends one grain: marker, zlib stream (RFC 1950) in stored blocks (RFC 1951, 3.2.4), padding.
    fn grain(self, raw: &[u8], out: &mut Vec<u8>) {
        let Self::VmdkGrains { first_sector } = self else { return };
        let end = out.len() + GRAIN_CODED as usize;
        let blocks = raw.len().div_ceil(STORED);
        out.extend(first_sector.to_le_bytes());
        out.extend((2 + blocks * 5 + raw.len() + 4).to_le_bytes()[..4].iter());
        out.extend([0x78, 0x01]);
        for (index, block) in raw.chunks(STORED).enumerate() {
            let len = block.len() as u16;
            out.push(u8::from(index + 1 == blocks));
            out.extend(len.to_le_bytes());
            out.extend((!len).to_le_bytes());
            out.extend(block);
        }
        out.extend(simd_adler32::adler32(&raw).to_be_bytes());
        out.resize(end, 0);
    }

    /// The number that stands for the coder in stored lists; it never changes meaning.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Sha256Hex => 1,
            Self::Crc32 => 2,
            Self::VmdkGrains { .. } => 3,
        }
    }
}
