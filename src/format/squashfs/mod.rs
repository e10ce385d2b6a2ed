//! SquashFS 4.0: a reproducible writer, and a reader of foreign images.
//!
//! Specification: `Documentation/filesystems/squashfs.rst` and `fs/squashfs/squashfs_fs.h` of Linux; the tools'
//! (`mksquashfs`, `unsquashfs`) behaviour where these say nothing. All integers are little-endian. The order on disk is
//! that which the kernel checks: superblock, compressor options, data and fragments, inodes, directories, fragment
//! table, export table, ids, extended attributes; each table's index ends where the next begins.

mod codec;
mod data;
mod inode;
mod metadata;
mod read;
mod superblock;
mod write;

pub use codec::Compression;
pub use read::{Contents, Found, FoundKind, Limits, ReadError, Squashfs, Store};
pub use write::{Options, WriteError, Written, write};

/// Length of a metadata piece before compression, in bytes.
const PIECE: usize = 8192;
/// What a reference to nothing is: no fragment, no extended attributes.
const NONE: u32 = u32::MAX;
/// Bit of a data length word that says "stored, not compressed".
const STORED: u32 = 1 << 24;
/// The fixed time of extensions' images in seconds since 1970 (2019-06-01 21:34:52 UTC).
pub const EPOCH: u32 = 1_559_424_892;
/// Default block size in bytes.
pub const BLOCK_SIZE: u32 = 128 << 10;

#[cfg(test)]
mod tests;
