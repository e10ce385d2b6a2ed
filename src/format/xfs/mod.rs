//! XFS file systems as pure layouts: the partition from which GRUB starts Linux.
//!
//! Specification: "XFS Algorithms & Data Structures", 3rd edition, for version 5. All integers are big-endian but checksums,
//! CRC-32C in little-endian order. Blocks have 4096 bytes, inodes 512; a volume is four allocation groups of equal length
//! (the last may be shorter), each with its headers and the roots of its B+trees at its begin; the log stands in the
//! third group, all inodes in the first. An *agbno* is the number of a block within its group.
//!
//! The features are those that GRUB reads from 2.06 on: file types in directories, sparse inodes, times beyond 2038, a
//! tree of free inodes, shared blocks, counts of inode blocks; neither reverse mapping nor 64-bit extent counts. Linux
//! mounts the volume read-write: its log is that of a file system unmounted cleanly.
//!
//! Every file is one extent if any group has room for it, so a volume of gigabytes is laid out in some 12 KiB beside its
//! files. The same tree and options give the same bytes.

mod directory;
mod geometry;
mod group;
mod inode;
mod layout;
mod log;
mod place;
mod structure;
mod superblock;

use std::collections::BTreeMap;
use std::ops::Range;

use crate::virtual_file::VirtualFile;

pub use geometry::{SIZE_MAX, SIZE_MIN};
pub use layout::lay_out;

/// How a volume is to be laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options<'a> {
    /// Length of the volume in bytes, whole sectors. Bytes behind the last whole block stay unused.
    pub size: u64,
    /// Bytes a sector: 512 or 4096.
    pub sector_size: u32,
    /// The volume's label, 12 bytes at most.
    pub label: &'a str,
    /// The volume's UUID, its bytes in the order in which it is written as text.
    pub uuid: [u8; 16],
    /// The time that all inodes bear, in seconds since 1970.
    pub mtime: u32,
}

/// A volume, laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its bytes, as many as were asked for.
    pub image: VirtualFile,
    /// Where in it each file stands, by path: ranges of bytes which make the file one after another. A file of no bytes
    /// is nowhere.
    pub extents: BTreeMap<String, Vec<Range<u64>>>,
}

/// Why a volume cannot be laid out.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum XfsError {
    /// A sector size that disks do not have.
    #[error("XFS: sectors of {0} bytes (512 and 4096 are possible)")]
    SectorSize(u32),
    /// A volume of broken sectors, or one too small or too large.
    #[error("XFS: {size} bytes are not {SIZE_MIN} to {SIZE_MAX} in whole sectors of {sector_size} bytes")]
    Size {
        /// Bytes of the volume.
        size: u64,
        /// Bytes a sector.
        sector_size: u32,
    },
    /// A label that the format cannot hold.
    #[error("XFS: label {0:?} is longer than 12 bytes or holds a NUL")]
    Label(String),
    /// Something that is neither file nor directory.
    #[error("XFS: {path:?} is neither a file nor a directory")]
    Kind {
        /// Its path.
        path: String,
    },
    /// A path that is no text.
    #[error("XFS: the path {path:?} is no UTF-8")]
    Path {
        /// The path, its bad bytes replaced.
        path: String,
    },
    /// More files and directories than one block of records of inodes can tell.
    #[error("XFS: {count} files and directories ({most} are possible)")]
    Inodes {
        /// How many there are.
        count: usize,
        /// How many there can be.
        most: usize,
    },
    /// A directory that does not fit into its inode.
    #[error("XFS: the entries of directory {path:?} need {needed} bytes of its inode ({most} are possible)")]
    Entries {
        /// The directory; empty for the root.
        path: String,
        /// Bytes that its entries need.
        needed: usize,
        /// Bytes that an inode has for them.
        most: usize,
    },
    /// A file in more pieces than fit into its inode.
    #[error("XFS: {path:?} has {len} bytes, which need {extents} extents ({most} are possible)")]
    Extents {
        /// The file's path.
        path: String,
        /// Its length in bytes.
        len: u64,
        /// Extents that it needs.
        extents: usize,
        /// Extents that an inode has room for.
        most: usize,
    },
    /// The files need more room than there is.
    #[error("XFS: files need {needed} bytes, a volume of {size} bytes has {available} for them")]
    Full {
        /// Bytes of the volume.
        size: u64,
        /// Bytes that whole blocks of all files take.
        needed: u64,
        /// Bytes that files may take: what Linux needs to work with the volume is left free.
        available: u64,
    },
}

#[cfg(test)]
mod tests;
