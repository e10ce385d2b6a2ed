//! The stored form of an extent list.
//!
//! ```text
//! "IFX" version=1, number of extents (u32), then for each extent a variant number and its fields:
//! 1 Inline  length (u32), bytes
//! 2 Blob    32 raw digest bytes, offset (u64), length (u64)
//! 3 Repeat  unit length (u32), unit, times (u64)
//! 4 Count   first (u64), step (u64), width in bytes (u8), byte order (u8: 0 little, 1 big), times (u64)
//! ```
//! All integers are little-endian. Variant numbers never change meaning; new ones may come.

use bytes::{Buf, Bytes};

use super::{Endian, Extent, VirtualFile, Width};
use crate::types::Digest;

const MAGIC: &[u8; 3] = b"IFX";
const VERSION: u8 = 1;

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
        out.extend_from_slice(&(self.extents().len() as u32).to_le_bytes());
        for extent in self.extents() {
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
            }
        }
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
        let count = rest.get_u32_le();
        let mut extents = Vec::new();
        let mut total: u64 = 0;
        for _ in 0..count {
            let extent = decode_extent(&mut rest)?;
            total = total.checked_add(extent.len()).ok_or(DecodeError::Damaged)?;
            extents.push(extent);
        }
        if rest.has_remaining() {
            return Err(DecodeError::Damaged);
        }
        Ok(Self::from_extents(extents))
    }
}

fn decode_extent(rest: &mut Bytes) -> Result<Extent, DecodeError> {
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
        other => Err(DecodeError::Variant(other)),
    }
}

/// A length and as many bytes.
fn take(rest: &mut Bytes) -> Result<Bytes, DecodeError> {
    let len = rest.try_get_u32_le().map_err(|_| DecodeError::Damaged)? as usize;
    if rest.len() < len {
        return Err(DecodeError::Damaged);
    }
    Ok(rest.split_to(len))
}
