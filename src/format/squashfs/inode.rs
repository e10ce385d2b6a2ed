//! Encoding inodes, directory listings and extended attributes.

use std::collections::HashMap;

use bytes::Bytes;

use super::NONE;
use super::data::Placed;
use super::metadata::Place;
use crate::format::tree::Kind;

/// Longest listing of a basic directory inode: its size field, which counts 3 more, has 16 bits.
const MAX_BASIC_LISTING: usize = 65532;
/// Most entries of one run of a listing.
const MAX_RUN: usize = 256;

/// What stands in front of every inode.
pub(super) struct Common {
    pub mode: u16,
    pub mtime: u32,
    /// From 1 to the number of inodes.
    pub number: u32,
    /// Index of its attributes, or [`NONE`].
    pub xattr: u32,
    /// Number of names; of a directory 2 and its subdirectories.
    pub links: u32,
}

impl Common {
    fn header(&self, kind: u16) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        // Owner and group are the ids' first record: root.
        for half in [kind, self.mode, 0, 0] {
            out.extend_from_slice(&half.to_le_bytes());
        }
        words(&mut out, &[self.mtime, self.number]);
        out
    }
}

fn words(out: &mut Vec<u8>, words: &[u32]) {
    out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
}

/// The basic type number of a kind, as directory entries carry it; extended inodes have 7 more.
pub(super) fn basic_type(kind: &Kind) -> u16 {
    match kind {
        Kind::Directory => 1,
        Kind::File(_) => 2,
        Kind::Symlink(_) => 3,
        Kind::BlockDevice { .. } => 4,
        Kind::CharDevice { .. } => 5,
        Kind::Fifo => 6,
    }
}

/// The inode of a directory whose listing of `len` bytes begins at `listing`.
pub(super) fn directory(common: &Common, listing: Place, len: usize, parent: u32) -> Vec<u8> {
    let size = len as u32 + 3;
    if common.xattr == NONE && len <= MAX_BASIC_LISTING {
        let mut out = common.header(1);
        words(&mut out, &[listing.piece, common.links]);
        out.extend_from_slice(&(size as u16).to_le_bytes());
        out.extend_from_slice(&listing.offset.to_le_bytes());
        words(&mut out, &[parent]);
        return out;
    }
    let mut out = common.header(8);
    words(&mut out, &[common.links, size, listing.piece, parent]);
    out.extend_from_slice(&0_u16.to_le_bytes());
    out.extend_from_slice(&listing.offset.to_le_bytes());
    words(&mut out, &[common.xattr]);
    out
}

/// The inode of a regular file.
pub(super) fn file(common: &Common, placed: &Placed) -> Vec<u8> {
    let (fragment, offset) = placed.fragment;
    let mut out;
    match (u32::try_from(placed.start), u32::try_from(placed.size)) {
        (Ok(start), Ok(size)) if common.xattr == NONE && common.links == 1 && placed.sparse == 0 => {
            out = common.header(2);
            words(&mut out, &[start, fragment, offset, size]);
        }
        _ => {
            out = common.header(9);
            for long in [placed.start, placed.size, placed.sparse] {
                out.extend_from_slice(&long.to_le_bytes());
            }
            words(&mut out, &[common.links, fragment, offset, common.xattr]);
        }
    }
    words(&mut out, &placed.words);
    out
}

/// The inode of anything but directories and regular files.
pub(super) fn special(common: &Common, kind: &Kind) -> Vec<u8> {
    let extended = common.xattr != NONE;
    let mut out = common.header(basic_type(kind) + if extended { 7 } else { 0 });
    words(&mut out, &[common.links]);
    match kind {
        Kind::Symlink(target) => {
            words(&mut out, &[target.len() as u32]);
            out.extend_from_slice(target);
        }
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            words(&mut out, &[(minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xfff00) << 12)]);
        }
        Kind::Fifo | Kind::Directory | Kind::File(_) => {}
    }
    if extended {
        words(&mut out, &[common.xattr]);
    }
    out
}

/// An entry of a directory.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub name: Vec<u8>,
    pub kind: u16,
    pub number: u32,
    pub place: Place,
}

/// The listing of a directory; `entries` are sorted by name.
pub(super) fn listing(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = entries;
    while let Some(first) = rest.first() {
        let fits = |entry: &&Entry| {
            let difference = i64::from(entry.number) - i64::from(first.number);
            entry.place.piece == first.place.piece && i16::try_from(difference).is_ok()
        };
        let count = rest.iter().take(MAX_RUN).take_while(fits).count();
        let (run, later) = rest.split_at(count);
        rest = later;
        words(&mut out, &[count as u32 - 1, first.place.piece, first.number]);
        for entry in run {
            let difference = entry.number.wrapping_sub(first.number) as u16;
            for half in [entry.place.offset, difference, entry.kind, entry.name.len() as u16 - 1] {
                out.extend_from_slice(&half.to_le_bytes());
            }
            out.extend_from_slice(&entry.name);
        }
    }
    out
}

/// The labels of an image, each kept once.
#[derive(Default)]
pub(super) struct Labels {
    numbers: HashMap<Bytes, u32>,
    /// In the order of their numbers.
    pub all: Vec<Bytes>,
}

impl Labels {
    /// The number of a label's attribute set, or [`NONE`].
    pub(super) fn number(&mut self, label: Option<&Bytes>) -> u32 {
        let Some(label) = label else { return NONE };
        if let Some(number) = self.numbers.get(label) {
            return *number;
        }
        let number = self.all.len() as u32;
        self.numbers.insert(label.clone(), number);
        self.all.push(label.clone());
        number
    }
}

/// The attribute set of one label: one pair, `security.selinux` and the label.
pub(super) fn label_pair(label: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(15 + label.len());
    out.extend_from_slice(&2_u16.to_le_bytes());
    out.extend_from_slice(&(b"selinux".len() as u16).to_le_bytes());
    out.extend_from_slice(b"selinux");
    out.extend_from_slice(&(label.len() as u32).to_le_bytes());
    out.extend_from_slice(label);
    out
}

/// The record of one label's set, whose pair is at `place` of the pairs.
pub(super) fn label_record(label: &[u8], place: Place) -> Vec<u8> {
    let size = b"security.selinux".len() + 1 + label.len();
    let mut out = place.reference().to_le_bytes().to_vec();
    words(&mut out, &[1, size as u32]);
    out
}
