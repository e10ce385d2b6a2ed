//! Reading inodes, directory listings and labels.

use std::io::{Read, Seek};

use bytes::Bytes;

use super::super::NONE;
use super::metadata::Cursor;
use super::{Contents, Found, FoundKind, Name, ReadError, Squashfs};
use crate::format::tree::{MAX_NAME, MAX_TARGET};

/// Most attributes of one inode.
const MAX_ATTRIBUTES: u32 = 1024;
/// Longest attribute value in bytes (Linux: `XATTR_SIZE_MAX`).
const MAX_VALUE: u32 = 1 << 16;

/// Where a directory's listing is.
#[derive(Clone, Copy)]
pub(super) struct Listing {
    piece: u32,
    offset: u16,
    /// Its length in bytes, and 3.
    size: u32,
}

impl<R: Read + Seek> Squashfs<R> {
    /// The inode at `reference`, which has the name `path`; of a directory also its listing.
    pub(super) fn inode(&mut self, path: Vec<u8>, reference: u64) -> Result<(Found, Option<Listing>), ReadError> {
        let pieces = &mut self.pieces;
        let mut at = Cursor::reference(self.superblock.inode_table, reference)?;
        let kind = at.u16(pieces)?;
        let mode = at.u16(pieces)? & 0o7777;
        // Owner, group and time: everything is root's, and times are the writer's.
        let _: [u8; 8] = at.take(pieces)?;
        let number = at.u32(pieces)?;
        let (mut links, mut xattr, mut listing) = (1, NONE, None);
        let kind = match kind {
            1 => {
                let piece = at.u32(pieces)?;
                links = at.u32(pieces)?;
                let (size, offset) = (u32::from(at.u16(pieces)?), at.u16(pieces)?);
                listing = Some(Listing { piece, offset, size });
                FoundKind::Directory
            }
            8 => {
                links = at.u32(pieces)?;
                let (size, piece) = (at.u32(pieces)?, at.u32(pieces)?);
                let _parent_and_index: [u8; 6] = at.take(pieces)?;
                listing = Some(Listing { piece, offset: at.u16(pieces)?, size });
                xattr = at.u32(pieces)?;
                FoundKind::Directory
            }
            2 => {
                let start = u64::from(at.u32(pieces)?);
                let fragment = (at.u32(pieces)?, at.u32(pieces)?);
                let size = u64::from(at.u32(pieces)?);
                FoundKind::File(self.contents(at, start, size, fragment)?)
            }
            9 => {
                let (start, size, _sparse) = (at.u64(pieces)?, at.u64(pieces)?, at.u64(pieces)?);
                links = at.u32(pieces)?;
                let fragment = (at.u32(pieces)?, at.u32(pieces)?);
                xattr = at.u32(pieces)?;
                FoundKind::File(self.contents(at, start, size, fragment)?)
            }
            3 | 10 => {
                links = at.u32(pieces)?;
                let len = at.u32(pieces)? as usize;
                if !(1..=MAX_TARGET).contains(&len) {
                    return Err(ReadError::damaged(format!("a symlink target of {len} bytes")));
                }
                let target = at.bytes(pieces, len)?;
                if kind == 10 {
                    xattr = at.u32(pieces)?;
                }
                FoundKind::Symlink(target.into())
            }
            4 | 5 | 11 | 12 => {
                links = at.u32(pieces)?;
                let device = at.u32(pieces)?;
                if kind > 7 {
                    xattr = at.u32(pieces)?;
                }
                let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
                if kind % 7 == 4 { FoundKind::BlockDevice(major, minor) } else { FoundKind::CharDevice(major, minor) }
            }
            6 | 7 | 13 | 14 => {
                links = at.u32(pieces)?;
                if kind > 7 {
                    xattr = at.u32(pieces)?;
                }
                if kind == 6 || kind == 13 { FoundKind::Fifo } else { FoundKind::Socket }
            }
            other => return Err(ReadError::damaged(format!("an inode of type {other}"))),
        };
        let selinux = self.label(xattr)?;
        Ok((Found { path, kind, mode, inode: number, links, selinux }, listing))
    }

    /// The contents that an inode describes; `at` is in front of its length words.
    fn contents(&mut self, mut at: Cursor, start: u64, size: u64, fragment: (u32, u32)) -> Result<Contents, ReadError> {
        let block = u64::from(self.superblock.block_size);
        if size > self.limits.bytes {
            return Err(ReadError::TooMuch(format!("{} bytes, in a file of {size}", self.limits.bytes)));
        }
        let count = if fragment.0 == NONE { size.div_ceil(block) } else { size / block };
        // The vector grows with what is there: a count alone takes no memory.
        let mut words = Vec::new();
        for _ in 0..count {
            words.push(at.u32(&mut self.pieces)?);
        }
        Ok(Contents { start, size, words, fragment: (fragment.0 != NONE).then_some(fragment) })
    }

    /// The names of a directory, `room` of them at most.
    pub(super) fn listing(&mut self, listing: Listing, room: u64) -> Result<Vec<Name>, ReadError> {
        let pieces = &mut self.pieces;
        let mut at = Cursor::new(self.superblock.directory_table, u64::from(listing.piece), listing.offset)?;
        let mut left = listing.size.saturating_sub(3);
        let mut names = Vec::new();
        let mut spend = |bytes: u32| {
            left =
                left.checked_sub(bytes).ok_or_else(|| ReadError::damaged("a listing is longer than its directory"))?;
            Ok::<u32, ReadError>(left)
        };
        while spend(0)? > 0 {
            spend(12)?;
            let count = at.u32(pieces)?;
            let piece = at.u32(pieces)?;
            let _base_number = at.u32(pieces)?;
            if count >= 256 {
                return Err(ReadError::damaged(format!("a directory run of {count} and one entries")));
            }
            for _ in 0..=count {
                spend(8)?;
                let offset = at.u16(pieces)?;
                let _number_and_type: [u8; 4] = at.take(pieces)?;
                let len = usize::from(at.u16(pieces)?) + 1;
                if len > MAX_NAME {
                    return Err(ReadError::damaged(format!("a name of {len} bytes")));
                }
                spend(len as u32)?;
                let name = at.bytes(pieces, len)?;
                if name.contains(&b'/') || name.contains(&0) || matches!(&name[..], b"." | b"..") {
                    let name = String::from_utf8_lossy(&name).into_owned();
                    return Err(ReadError::damaged(format!("the name {name:?}")));
                }
                if names.len() as u64 >= room {
                    return Err(ReadError::TooMuch(format!("{} entries", self.limits.entries)));
                }
                names.push(Name { name, reference: u64::from(piece) << 16 | u64::from(offset) });
            }
        }
        Ok(names)
    }

    /// The label in attribute set `number`.
    fn label(&mut self, number: u32) -> Result<Option<Bytes>, ReadError> {
        let table = self.superblock.xattr_table;
        if number == NONE || table == u64::MAX {
            return Ok(None);
        }
        let header = self.pieces.raw(table, 16)?;
        let mut header = &header[..];
        let mut word = || {
            let (first, rest) = header.split_at(4);
            header = rest;
            u32::from_le_bytes([first[0], first[1], first[2], first[3]])
        };
        let first = u64::from(word()) | u64::from(word()) << 32;
        let sets = word();
        if number >= sets {
            return Err(ReadError::damaged(format!("attribute set {number} of {sets}")));
        }
        let mut record = self.record(table.saturating_add(16), number)?;
        let (reference, pairs) = (record.u64(&mut self.pieces)?, record.u32(&mut self.pieces)?);
        if pairs > MAX_ATTRIBUTES {
            return Err(ReadError::damaged(format!("{pairs} attributes of one file")));
        }
        let pieces = &mut self.pieces;
        let mut at = Cursor::reference(first, reference)?;
        for _ in 0..pairs {
            let kind = at.u16(pieces)?;
            let len = usize::from(at.u16(pieces)?);
            let name = at.bytes(pieces, len)?;
            let mut value = at;
            let mut len = at.u32(pieces)?;
            if len > MAX_VALUE {
                return Err(ReadError::damaged(format!("an attribute of {len} bytes")));
            }
            let inline = at.bytes(pieces, len as usize)?;
            if kind & 0xff != 2 || name != b"selinux" {
                continue;
            }
            let mut label = inline;
            if kind & 0x100 != 0 {
                // The value is a reference to where it stands in full.
                len = value.u32(pieces)?;
                if len != 8 {
                    return Err(ReadError::damaged(format!("a reference of {len} bytes")));
                }
                let mut elsewhere = Cursor::reference(first, value.u64(pieces)?)?;
                let len = elsewhere.u32(pieces)?;
                if len > MAX_VALUE {
                    return Err(ReadError::damaged(format!("an attribute of {len} bytes")));
                }
                label = elsewhere.bytes(pieces, len as usize)?;
            }
            if label.last() == Some(&0) {
                label.pop();
            }
            return Ok(Some(label.into()));
        }
        Ok(None)
    }

    /// Record `number` of 16 bytes of the table whose index is at `index`.
    pub(super) fn record(&mut self, index: u64, number: u32) -> Result<Cursor, ReadError> {
        let at = index.saturating_add(u64::from(number / 512) * 8);
        let address = self.pieces.raw(at, 8)?;
        let address = address.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        Cursor::new(address, 0, (number % 512) as u16 * 16)
    }
}
