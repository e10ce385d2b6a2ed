//! Inodes.

use super::geometry::{Geometry, INODE};
use super::place::Run;
use super::structure::Structure;

/// Bytes of an inode for a directory's entries or a file's extents.
pub(super) const FORK: usize = INODE - FORK_AT;
const FORK_AT: usize = 0xb0;
/// Bytes an extent.
const EXTENT: usize = 16;
/// Extents that fit into an inode.
pub(super) const EXTENTS_MAX: usize = FORK / EXTENT;
/// Version of an inode with a checksum.
const VERSION: u8 = 3;
/// What the fork holds: itself, or a list of extents.
const LOCAL: u8 = 1;
const EXTENTS: u8 = 2;
/// Flag of the inode that was made for the bitmap of a real-time device.
const NEW_BITMAP: u16 = 4;
/// Second flags: times as nanoseconds since 1901.
const BIG_TIME: u64 = 8;
/// Count of changes to start from.
const CHANGES: u64 = 2;
/// Where the checksum stands.
const CHECKSUM: usize = 0x64;

/// What an inode is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Contents {
    /// A directory's entries, and the number of directories in it.
    Directory { entries: Vec<u8>, directories: u32 },
    /// A file's length in bytes, and where its blocks are.
    File { len: u64, runs: Vec<Run> },
}

/// Writes the inodes of a volume, whose UUID and time they bear.
pub(super) struct Inodes<'a> {
    pub geometry: &'a Geometry,
    pub uuid: [u8; 16],
    /// Seconds since 1970.
    pub mtime: u32,
}

impl Inodes<'_> {
    /// What every inode has, in use or not.
    fn common(&self, number: u32) -> Structure {
        Structure::new(INODE)
            .bytes(0x00, b"IN")
            .bytes(0x04, &[VERSION])
            .u32s(0x60, &[u32::MAX]) // no next one that was unlinked
            .u64s(0x98, &[number.into()])
            .bytes(0xa0, &self.uuid)
    }

    /// One that is not in use.
    pub fn unused(&self, number: u32) -> Vec<u8> {
        self.common(number).sealed(CHECKSUM)
    }

    /// One of the two that a real-time device would need; there is none. They are empty files.
    pub fn real_time(&self, number: u32, bitmap: bool) -> Vec<u8> {
        let file = Contents::File { len: 0, runs: Vec::new() };
        let flags = if bitmap { NEW_BITMAP } else { 0 };
        self.inode(number, 0, &file).u16s(0x5a, &[flags]).sealed(CHECKSUM)
    }

    /// A file or directory; `mode` holds the permissions alone.
    pub fn used(&self, number: u32, mode: u16, contents: &Contents) -> Vec<u8> {
        self.inode(number, mode, contents).sealed(CHECKSUM)
    }

    fn inode(&self, number: u32, mode: u16, contents: &Contents) -> Structure {
        let (kind, format, links, len, runs, fork) = match contents {
            Contents::Directory { entries, directories } => {
                (0o040_000, LOCAL, 2 + directories, entries.len() as u64, &[][..], entries.clone())
            }
            Contents::File { len, runs } => (0o100_000, EXTENTS, 1, *len, &runs[..], self.extents(runs)),
        };
        let time = (u64::from(self.mtime) + (1 << 31)) * 1_000_000_000;
        let blocks = runs.iter().map(|run| u64::from(run.len)).sum();
        self.common(number)
            .u16s(0x02, &[kind | mode & 0o7777])
            .bytes(0x05, &[format])
            .u32s(0x10, &[links])
            .u64s(0x20, &[time, time, time, len, blocks])
            .u32s(0x4c, &[runs.len() as u32])
            .bytes(0x53, &[EXTENTS]) // of the attributes, which there are none of
            .u64s(0x68, &[CHANGES, 0, BIG_TIME])
            .u64s(0x90, &[time])
            .bytes(FORK_AT, &fork)
    }

    /// The list of a file's extents: first block within the file, first block within the volume, number of blocks.
    fn extents(&self, runs: &[Run]) -> Vec<u8> {
        let (mut out, mut at) = (Vec::with_capacity(runs.len() * EXTENT), 0u128);
        for run in runs {
            let first = u128::from(self.geometry.number(run.group, run.agbno));
            out.extend_from_slice(&(at << 73 | first << 21 | u128::from(run.len)).to_be_bytes());
            at += u128::from(run.len);
        }
        out
    }
}
