//! The cpio archives of an initramfs: the "newc" format, written as a layout and read as a stream.
//!
//! Specification: `Documentation/driver-api/early-userspace/buffer-format.rst` of Linux, and cpio(5). An entry is a
//! header of 110 ASCII bytes, the name with a NUL, zeros to a multiple of 4, the data, zeros to a multiple of 4. An entry
//! called `TRAILER!!!` ends the archive. Numbers are 8 hex digits, so no file of 4 GiB or more can be held.

pub mod read;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::tree::{FileTree, Kind, Node, TreeError, check_entry};
use crate::virtual_file::VirtualFile;

pub use read::{Entry, Limits, ReadError, Reader};

/// Length of a newc header in bytes.
const HEADER: usize = 110;
/// The name that ends an archive.
const TRAILER: &[u8] = b"TRAILER!!!";
/// Where an archive that firmware or the boot loader hands to the kernel early is padded to, in bytes.
pub const EARLY_PADDING: u64 = 512;

/// Why an archive cannot be laid out.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum WriteError {
    /// A path or symlink target that cannot be.
    #[error("cpio: {0}")]
    Tree(#[from] TreeError),
    /// The name that would end the archive.
    #[error("cpio: {:?} ends an archive, so nothing in it can be called that", String::from_utf8_lossy(TRAILER))]
    Trailer,
    /// A file of 4 GiB or more.
    #[error("cpio: {path:?} has {len} bytes; the format ends at {}", u32::MAX)]
    TooLong {
        /// The file's path.
        path: String,
        /// Its length in bytes.
        len: u64,
    },
}

/// An archive being laid out, in the order in which entries are added.
///
/// Made reproducible: inodes are numbered from 0 in order, device 0, owner 0:0, one mtime. The same calls give the same
/// bytes.
#[derive(Debug)]
pub struct Archive {
    mtime: u32,
    entries: Vec<(Bytes, Node)>,
}

impl Archive {
    /// An archive without entries; `mtime` in seconds since 1970 stands in each of them.
    pub fn new(mtime: u32) -> Self {
        Self { mtime, entries: Vec::new() }
    }

    /// Adds one entry. Parent directories are not added by themselves: the kernel makes no missing ones.
    ///
    /// # Errors
    /// A path that no tree could hold, or the trailer's, or a file of 4 GiB or more.
    pub fn add(&mut self, path: impl AsRef<[u8]>, node: Node) -> Result<(), WriteError> {
        let path = path.as_ref();
        check_entry(path, &node)?;
        if path == TRAILER {
            return Err(WriteError::Trailer);
        }
        if let Kind::File(contents) = &node.kind
            && u32::try_from(contents.len()).is_err()
        {
            let path = String::from_utf8_lossy(path).into_owned();
            return Err(WriteError::TooLong { path, len: contents.len() });
        }
        self.entries.push((Bytes::copy_from_slice(path), node));
        Ok(())
    }

    /// Adds a regular file with mode 0644, as the extensions' images and their list have it.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn add_file(&mut self, path: impl AsRef<[u8]>, contents: VirtualFile) -> Result<(), WriteError> {
        self.add(path, Node::file(0o644, contents))
    }

    /// Adds all of a tree in its order, without its root. The tree's hard links are links in the archive.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn add_tree(&mut self, tree: &FileTree) -> Result<(), WriteError> {
        // The tree's own numbers may meet those of another tree: they are moved behind all that are there.
        let first = self.entries.iter().filter_map(|(_, node)| node.inode).max().map_or(0, |inode| inode + 1);
        for (path, node) in tree.iter() {
            self.add(path, Node { inode: node.inode.map(|inode| first + inode), ..node.clone() })?;
        }
        Ok(())
    }

    /// The archive with its trailer; the length is a multiple of 4.
    pub fn finish(self) -> VirtualFile {
        let mut links: BTreeMap<u64, Links> = BTreeMap::new();
        for (at, (_, node)) in self.entries.iter().enumerate() {
            if let Some(inode) = node.inode {
                let link = links.entry(inode).or_insert(Links { count: 0, number: 0, last: 0 });
                *link = Links { count: link.count + 1, number: 0, last: at };
            }
        }
        let mut next = 0;
        let mut parts = Vec::with_capacity(self.entries.len() * 3 + 1);
        for (at, (path, node)) in self.entries.iter().enumerate() {
            let link = node.inode.and_then(|inode| links.get_mut(&inode));
            let first = link.as_ref().is_none_or(|link| link.number == 0);
            let number = if first { next } else { link.as_ref().map_or(next, |link| link.number - 1) };
            next += u32::from(first);
            let (count, carries_data) = match link {
                Some(link) => {
                    link.number = number + 1;
                    // As GNU cpio: the last name of an inode carries its data.
                    (link.count, link.last == at)
                }
                None => (if node.is_directory() { 2 } else { 1 }, true),
            };
            let data = match &node.kind {
                Kind::File(contents) if carries_data => contents.clone(),
                Kind::Symlink(target) => VirtualFile::inline(target.clone()),
                _ => VirtualFile::empty(),
            };
            let header = Header {
                inode: number,
                mode: node.st_mode(),
                links: count,
                mtime: self.mtime,
                size: data.len() as u32,
                device: match node.kind {
                    Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => (major, minor),
                    _ => (0, 0),
                },
            };
            parts.push(VirtualFile::inline(header.encode(path)));
            let padding = data.len().next_multiple_of(4) - data.len();
            parts.push(data);
            parts.push(VirtualFile::inline(vec![0; padding as usize]));
        }
        let trailer = Header { inode: 0, mode: 0, links: 1, mtime: 0, size: 0, device: (0, 0) };
        parts.push(VirtualFile::inline(trailer.encode(TRAILER)));
        VirtualFile::concat(parts)
    }

    /// As [`Self::finish`], with zeros behind it to a multiple of `to` bytes.
    pub fn finish_padded(self, to: u64) -> VirtualFile {
        let archive = self.finish();
        let padding = archive.len().next_multiple_of(to.max(1)) - archive.len();
        VirtualFile::concat([archive, VirtualFile::zeros(padding)])
    }
}

/// What is known of an inode with several names.
struct Links {
    count: u32,
    /// Its number in the archive plus 1; 0 before its first name.
    number: u32,
    /// Index of the entry that names it last.
    last: usize,
}

/// The fields of a header that are not always 0.
struct Header {
    inode: u32,
    mode: u32,
    links: u32,
    mtime: u32,
    size: u32,
    device: (u32, u32),
}

impl Header {
    /// Header, name, NUL and zeros to a multiple of 4.
    fn encode(&self, name: &[u8]) -> Vec<u8> {
        let fields = [
            self.inode,
            self.mode,
            0,
            0,
            self.links,
            self.mtime,
            self.size,
            0,
            0,
            self.device.0,
            self.device.1,
            name.len() as u32 + 1,
            0,
        ];
        let mut bytes = b"070701".to_vec();
        for field in fields {
            bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        bytes.extend_from_slice(name);
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }
}

#[cfg(test)]
mod tests;
