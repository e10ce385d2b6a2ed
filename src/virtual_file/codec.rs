//! The stored form of an extent list.
//!
//! ```text
//! "IFX" version=1, number of extents (u32), then for each extent a variant number and its fields:
//! 1 Inline  length (u32), bytes
//! 2 Blob    32 raw digest bytes, offset (u64), length (u64)
//! 3 Repeat  unit length (u32), unit, times (u64)
//! 4 Count   first (u64), step (u64), width in bytes (u8), byte order (u8: 0 little, 1 big), times (u64)
//! 5 Framed  header length (u32), header, block length (u64), source
//! 6 Coded   coder (u8: 1 Sha256Hex, 2 Crc32, 3 VmdkGrains), for 3 the first sector (u64), from (u64), to (u64), source
//! ```
//! A source is a list itself: the number of its extents (u32) and these, to a depth of at most 8.
//! All integers are little-endian. Variant numbers never change meaning; new ones may come.

use bytes::{Buf, Bytes};

use super::{Coder, Endian, Extent, VirtualFile, Width};
use crate::types::Digest;

const MAGIC: &[u8; 3] = b"IFX";
const VERSION: u8 = 1;
/// How deep lists may lie in one another: an archive with a digest over a coded file, compressed, needs 5.
const DEPTH: u8 = 8;

/// A stored extent list that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    /// Not an extent list, or one of a version that this program does not know.
    #[error("not an extent list of version {VERSION}")]
    Version,
    /// A variant number that this program does not know.
    #[error("unknown extent variant {0}")]
    Variant(u8),
    /// The list ends too early, goes on too long, its lengths overflow, or a field holds what it cannot.
    #[error("the extent list is cut short or damaged")]
    Damaged,
}

impl VirtualFile {
    /// The stored form of the canonical extent list.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        out.push(VERSION);
        encode_list(self, &mut out);
        out
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are not exactly one extent list of a known version.
    pub fn decode(stored: impl Into<Bytes>) -> Result<Self, DecodeError> {
        let mut rest: Bytes = stored.into();
        if rest.len() < 8 || rest[..3] != MAGIC[..] || rest[3] != VERSION {
            return Err(DecodeError::Version);
        }
        rest.advance(4);
        let file = decode_list(&mut rest, DEPTH)?;
        if rest.has_remaining() { Err(DecodeError::Damaged) } else { Ok(file) }
    }
}

/// The number of extents and these.
fn encode_list(file: &VirtualFile, out: &mut Vec<u8>) {
    out.extend_from_slice(&(file.extents().len() as u32).to_le_bytes());
    for extent in file.extents() {
        match extent {
            Extent::Inline(bytes) => {
                out.push(1);
                out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
                out.extend_from_slice(bytes);
            }
            Extent::Blob { digest, offset, len } => {
                out.push(2);
                out.extend_from_slice(digest.raw());
                out.extend_from_slice(&offset.to_le_bytes());
                out.extend_from_slice(&len.to_le_bytes());
            }
            Extent::Repeat { unit, times } => {
                out.push(3);
                out.extend_from_slice(&(unit.len() as u32).to_le_bytes());
                out.extend_from_slice(unit);
                out.extend_from_slice(&times.to_le_bytes());
            }
            Extent::Count { first, step, width, endian, times } => {
                out.push(4);
                out.extend_from_slice(&first.to_le_bytes());
                out.extend_from_slice(&step.to_le_bytes());
                out.push(width.bytes());
                out.push(u8::from(*endian == Endian::Big));
                out.extend_from_slice(&times.to_le_bytes());
            }
            Extent::Framed { header, block, source } => {
                out.push(5);
                out.extend_from_slice(&(header.len() as u32).to_le_bytes());
                out.extend_from_slice(header);
                out.extend_from_slice(&block.to_le_bytes());
                encode_list(source, out);
            }
            Extent::Coded { coder, source, range } => {
                out.extend_from_slice(&[6, coder.number()]);
                if let Coder::VmdkGrains { first_sector } = coder {
                    out.extend_from_slice(&first_sector.to_le_bytes());
                }
                out.extend_from_slice(&range.start.to_le_bytes());
                out.extend_from_slice(&range.end.to_le_bytes());
                encode_list(source, out);
            }
        }
    }
}

/// Reads a list in which others lie `depth` deep at most.
fn decode_list(rest: &mut Bytes, depth: u8) -> Result<VirtualFile, DecodeError> {
    let count = rest.try_get_u32_le().map_err(|_| DecodeError::Damaged)?;
    let mut extents = Vec::new();
    let mut total: u64 = 0;
    for _ in 0..count {
        let extent = decode_extent(rest, depth)?;
        total = total.checked_add(extent.len()).ok_or(DecodeError::Damaged)?;
        extents.push(extent);
    }
    Ok(VirtualFile::from_extents(extents))
}

fn decode_extent(rest: &mut Bytes, depth: u8) -> Result<Extent, DecodeError> {
    let damaged = |_| DecodeError::Damaged;
    match rest.try_get_u8().map_err(damaged)? {
        1 => Ok(Extent::Inline(take(rest)?)),
        2 => {
            if rest.len() < 32 {
                return Err(DecodeError::Damaged);
            }
            let mut raw = [0; 32];
            rest.copy_to_slice(&mut raw);
            let offset = rest.try_get_u64_le().map_err(damaged)?;
            let len = rest.try_get_u64_le().map_err(damaged)?;
            offset.checked_add(len).ok_or(DecodeError::Damaged)?;
            Ok(Extent::Blob { digest: Digest::from_raw(raw), offset, len })
        }
        3 => {
            let unit = take(rest)?;
            let times = rest.try_get_u64_le().map_err(damaged)?;
            (unit.len() as u64).checked_mul(times).ok_or(DecodeError::Damaged)?;
            Ok(Extent::Repeat { unit, times })
        }
        4 => {
            let first = rest.try_get_u64_le().map_err(damaged)?;
            let step = rest.try_get_u64_le().map_err(damaged)?;
            let width = rest.try_get_u8().ok().and_then(Width::new).ok_or(DecodeError::Damaged)?;
            let endian = match rest.try_get_u8().map_err(damaged)? {
                0 => Endian::Little,
                1 => Endian::Big,
                _ => return Err(DecodeError::Damaged),
            };
            let times = rest.try_get_u64_le().map_err(damaged)?;
            if (width.mask(first), width.mask(step)) != (first, step) {
                return Err(DecodeError::Damaged);
            }
            times.checked_mul(u64::from(width.bytes())).ok_or(DecodeError::Damaged)?;
            Ok(Extent::Count { first, step, width, endian, times })
        }
        5 => {
            let header = take(rest)?;
            let block = rest.try_get_u64_le().map_err(damaged)?;
            let source = decode_source(rest, depth)?;
            let frame = block.checked_add(header.len() as u64).ok_or(DecodeError::Damaged)?;
            if header.is_empty() || block == 0 || !source.len().is_multiple_of(block) {
                return Err(DecodeError::Damaged);
            }
            frame.checked_mul(source.len() / block).ok_or(DecodeError::Damaged)?;
            Ok(Extent::Framed { header, block, source })
        }
        6 => {
            let coder = match rest.try_get_u8().map_err(damaged)? {
                1 => Coder::Sha256Hex,
                2 => Coder::Crc32,
                3 => Coder::VmdkGrains { first_sector: rest.try_get_u64_le().map_err(damaged)? },
                _ => return Err(DecodeError::Damaged),
            };
            let range = rest.try_get_u64_le().map_err(damaged)?..rest.try_get_u64_le().map_err(damaged)?;
            let source = decode_source(rest, depth)?;
            let coded = coder.coded_len(source.len()).ok_or(DecodeError::Damaged)?;
            if range.start > range.end || range.end > coded {
                return Err(DecodeError::Damaged);
            }
            let (coder, source, range) = coder.narrow(&source, range);
            Ok(Extent::Coded { coder, source, range })
        }
        other => Err(DecodeError::Variant(other)),
    }
}

/// A list inside an extent.
fn decode_source(rest: &mut Bytes, depth: u8) -> Result<VirtualFile, DecodeError> {
    decode_list(rest, depth.checked_sub(1).ok_or(DecodeError::Damaged)?)
}

/// A length and as many bytes.
fn take(rest: &mut Bytes) -> Result<Bytes, DecodeError> {
    let len = rest.try_get_u32_le().map_err(|_| DecodeError::Damaged)? as usize;
    if rest.len() < len {
        return Err(DecodeError::Damaged);
    }
    Ok(rest.split_to(len))
}
