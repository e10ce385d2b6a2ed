//! Reading the contents of files.

use std::io::{Read, Seek};

use super::super::STORED;
use super::{ReadError, Squashfs};

/// Where a file's contents are in its image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    pub(super) start: u64,
    pub(super) size: u64,
    /// A length word for each block.
    pub(super) words: Vec<u32>,
    /// The fragment that holds what no block does, and the offset in it.
    pub(super) fragment: Option<(u32, u32)>,
}

impl Contents {
    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// Hands the contents to `out` block by block; their length in bytes.
pub(super) fn copy<R: Read + Seek>(
    image: &mut Squashfs<R>,
    contents: &Contents,
    out: &mut dyn FnMut(&[u8]) -> Result<(), ReadError>,
) -> Result<u64, ReadError> {
    let block_size = image.superblock.block_size as usize;
    let mut left = contents.size;
    let mut at = contents.start;
    for word in &contents.words {
        let expected = left.min(block_size as u64) as usize;
        let (len, stored) = length(*word, block_size)?;
        if *word == 0 {
            out(&vec![0; expected])?;
        } else {
            let block = image.pieces.block(at, len, stored, expected)?;
            if block.len() != expected {
                let found = block.len();
                return Err(ReadError::damaged(format!("the block at {at} holds {found} bytes, not {expected}")));
            }
            out(&block)?;
        }
        // Within the image, or the block could not have been read.
        at = at.saturating_add(len as u64);
        left -= expected as u64;
    }
    if let Some((number, offset)) = contents.fragment {
        if image.fragment.as_ref().is_none_or(|(kept, _)| *kept != number) {
            image.fragment = Some((number, fragment(image, number)?));
        }
        let whole = image.fragment.as_ref().map(|(_, bytes)| &bytes[..]).unwrap_or_default();
        let from = offset as usize;
        let part = usize::try_from(left).ok().and_then(|len| whole.get(from..from.checked_add(len)?));
        let Some(part) = part else {
            return Err(ReadError::damaged(format!("fragment {number} holds no {left} bytes at {offset}")));
        };
        out(part)?;
    }
    Ok(contents.size)
}

/// Length on disk, and whether the block is stored.
fn length(word: u32, block_size: usize) -> Result<(usize, bool), ReadError> {
    let len = (word & !STORED) as usize;
    if len > block_size {
        return Err(ReadError::damaged(format!("a block of {len} bytes on disk")));
    }
    Ok((len, word & STORED != 0))
}

/// A fragment's bytes.
fn fragment<R: Read + Seek>(image: &mut Squashfs<R>, number: u32) -> Result<Vec<u8>, ReadError> {
    let fragments = image.superblock.fragments;
    if number >= fragments {
        return Err(ReadError::damaged(format!("fragment {number} of {fragments}")));
    }
    let block_size = image.superblock.block_size as usize;
    let mut record = image.record(image.superblock.fragment_table, number)?;
    let start = record.u64(&mut image.pieces)?;
    let (len, stored) = length(record.u32(&mut image.pieces)?, block_size)?;
    image.pieces.block(start, len, stored, block_size)
}
