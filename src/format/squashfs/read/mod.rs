//! The reader of foreign images: zstd, xz and gzip.
//!
//! Everything is looked up when it is asked for; nothing of an image is believed: positions, lengths, counts and names
//! are checked, and what one walk or file may cost is bound.

mod contents;
mod inode;
mod metadata;

use std::io::{self, Read, Seek, SeekFrom, Write};

use bytes::Bytes;

use super::codec::{GZIP, XZ, ZSTD};
use super::superblock::{self, Superblock};
use crate::format::tree::{FileTree, Kind, MAX_PATH, Node, TreeError};
use crate::virtual_file::VirtualFile;

pub use contents::Contents;
use metadata::Pieces;

/// Why an image could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No image, or one of another version.
    #[error("squashfs: the superblock is not right: {0}")]
    Superblock(String),
    /// A compressor that is not supported.
    #[error("squashfs: compressed with {0}, which is not supported (zstd, xz and gzip are)")]
    Compressor(String),
    /// Something does not hang together.
    #[error("squashfs: damaged: {0}")]
    Damaged(String),
    /// More entries or bytes than allowed.
    #[error("squashfs: more than {0}")]
    TooMuch(String),
    /// The image could not be read.
    #[error("squashfs: reading {len} bytes at {at}: {source}")]
    Io {
        /// Position in the image.
        at: u64,
        /// How many bytes were wanted.
        len: usize,
        /// What happened.
        source: io::Error,
    },
    /// What was read could not be handed on.
    #[error("squashfs: handing contents on: {0}")]
    Write(io::Error),
    /// The contents of a file could not be stored.
    #[error("squashfs: storing {path:?}: {source}")]
    Store {
        /// The file's path.
        path: String,
        /// What the store said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Entries that make no tree.
    #[error("squashfs: {0}")]
    Tree(#[from] TreeError),
}

impl ReadError {
    fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }
}

/// How much one walk takes before it refuses.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Entries.
    pub entries: u64,
    /// Bytes of all files together.
    pub bytes: u64,
}

impl Default for Limits {
    /// 500,000 entries, 8 GiB.
    fn default() -> Self {
        Self { entries: 500_000, bytes: 8 << 30 }
    }
}

/// What the paths of a walk may take on average, in bytes.
const MEAN_PATH: u64 = 128;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundKind {
    /// A directory.
    Directory,
    /// A regular file.
    File(Contents),
    /// A symbolic link with its target.
    Symlink(Bytes),
    /// A character device: major and minor number.
    CharDevice(u32, u32),
    /// A block device: major and minor number.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// An entry of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its path, without a leading slash; empty for the root.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: FoundKind,
    /// Permission bits (`0o7777`).
    pub mode: u16,
    /// Its inode's number; hard links have one number.
    pub inode: u32,
    /// Number of names, of a directory 2 and its subdirectories, as the inode says.
    pub links: u32,
    /// Its `security.selinux` label without a final NUL.
    pub selinux: Option<Bytes>,
}

/// A directory entry: name and where its inode is.
struct Name {
    name: Vec<u8>,
    reference: u64,
}

/// An image that is being read.
pub struct Squashfs<R> {
    pieces: Pieces<R>,
    superblock: Superblock,
    limits: Limits,
    /// The fragment decompressed last, with its number: small files lie beside one another.
    fragment: Option<(u32, Vec<u8>)>,
}

impl<R: Read + Seek> Squashfs<R> {
    /// Opens an image that begins at byte 0 of `source`.
    ///
    /// # Errors
    /// [`ReadError::Superblock`], [`ReadError::Compressor`].
    pub fn open(mut source: R, limits: Limits) -> Result<Self, ReadError> {
        let mut bytes = [0; superblock::LEN];
        source
            .seek(SeekFrom::Start(0))
            .and_then(|_| source.read_exact(&mut bytes))
            .map_err(|source| ReadError::Io { at: 0, len: bytes.len(), source })?;
        let superblock = Superblock::decode(&bytes).map_err(ReadError::Superblock)?;
        let name = match superblock.compressor {
            GZIP | XZ | ZSTD => None,
            2 => Some("lzma".to_owned()),
            3 => Some("lzo".to_owned()),
            5 => Some("lz4".to_owned()),
            other => Some(format!("number {other}")),
        };
        if let Some(name) = name {
            return Err(ReadError::Compressor(name));
        }
        let pieces = Pieces::new(source, superblock.compressor, superblock.bytes_used);
        Ok(Self { pieces, superblock, limits, fragment: None })
    }

    /// The entry at `path`; symlinks on the way are not followed. The empty path is the root.
    ///
    /// # Errors
    /// A damaged image.
    pub fn find(&mut self, path: impl AsRef<[u8]>) -> Result<Option<Found>, ReadError> {
        let mut found = self.inode(Vec::new(), self.superblock.root)?;
        for part in path.as_ref().split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            let Some(listing) = found.1 else { return Ok(None) };
            let names = self.listing(listing, self.limits.entries)?;
            let Some(name) = names.into_iter().find(|name| name.name == part) else { return Ok(None) };
            found = self.inode(join(&found.0.path, &name.name), name.reference)?;
        }
        Ok(Some(found.0))
    }

    /// The entry at `path` and all below it, each directory before what is in it; nothing if it is not there.
    ///
    /// # Errors
    /// A damaged image, or one beyond the limits.
    pub fn walk(&mut self, path: impl AsRef<[u8]>) -> Result<Vec<Found>, ReadError> {
        let Some(start) = self.find(path)? else { return Ok(Vec::new()) };
        let reference = self.reference(&start.path)?;
        let mut all: Vec<Found> = Vec::new();
        let (mut bytes, mut path_bytes) = (0_u64, 0_u64);
        let mut todo = vec![(start.path, reference)];
        while let Some((path, reference)) = todo.pop() {
            if path.len() > MAX_PATH {
                return Err(ReadError::damaged("a path of more than 4095 bytes"));
            }
            path_bytes += path.len() as u64;
            if path_bytes > self.limits.entries.saturating_mul(MEAN_PATH) {
                return Err(ReadError::TooMuch(format!(
                    "{} bytes of paths",
                    self.limits.entries.saturating_mul(MEAN_PATH)
                )));
            }
            let (found, listing) = self.inode(path, reference)?;
            if let FoundKind::File(contents) = &found.kind {
                bytes = bytes.saturating_add(contents.size());
                if bytes > self.limits.bytes {
                    return Err(ReadError::TooMuch(format!("{} bytes", self.limits.bytes)));
                }
            }
            if let Some(listing) = listing {
                let room = self.limits.entries.saturating_sub((all.len() + todo.len()) as u64);
                let names = self.listing(listing, room)?;
                todo.extend(names.into_iter().rev().map(|name| (join(&found.path, &name.name), name.reference)));
            }
            all.push(found);
        }
        Ok(all)
    }

    /// Copies a file's contents to `out`; their length in bytes.
    ///
    /// # Errors
    /// A damaged image, or `out` fails.
    pub fn copy(&mut self, contents: &Contents, out: &mut dyn Write) -> Result<u64, ReadError> {
        contents::copy(self, contents, &mut |block| out.write_all(block).map_err(ReadError::Write))
    }

    /// A small file's contents; `None` if no regular file is at `path`.
    ///
    /// # Errors
    /// A damaged image, or a file of more than `max` bytes.
    pub fn read_file(&mut self, path: impl AsRef<[u8]>, max: u64) -> Result<Option<Vec<u8>>, ReadError> {
        let Some(Found { kind: FoundKind::File(contents), .. }) = self.find(path)? else { return Ok(None) };
        if contents.size() > max {
            return Err(ReadError::TooMuch(format!("{max} bytes in one file")));
        }
        let mut out = Vec::new();
        self.copy(&contents, &mut out)?;
        Ok(Some(out))
    }

    /// What is below `path` as a tree with whole paths; sockets are left out.
    ///
    /// `store` is given each regular file's path and its contents' reader, once for all names of an inode.
    ///
    /// # Errors
    /// As [`Self::walk`], or what `store` says.
    pub fn tree(&mut self, path: impl AsRef<[u8]>, store: &mut Store<'_>) -> Result<FileTree, ReadError> {
        let mut tree = FileTree::new();
        let mut first_names: std::collections::HashMap<u32, Vec<u8>> = std::collections::HashMap::new();
        for found in self.walk(path)? {
            let Found { path, kind, mode, inode, links, selinux } = found;
            if path.is_empty() {
                tree.set_root(mode, selinux);
                continue;
            }
            if links > 1 && kind != FoundKind::Directory {
                if let Some(first) = first_names.get(&inode) {
                    tree.link(first, &path)?;
                    continue;
                }
                first_names.insert(inode, path.clone());
            }
            let kind = match kind {
                FoundKind::Directory => Kind::Directory,
                FoundKind::File(contents) => Kind::File(self.store(&path, &contents, store)?),
                FoundKind::Symlink(target) => Kind::Symlink(target),
                FoundKind::CharDevice(major, minor) => Kind::CharDevice { major, minor },
                FoundKind::BlockDevice(major, minor) => Kind::BlockDevice { major, minor },
                FoundKind::Fifo => Kind::Fifo,
                FoundKind::Socket => continue,
            };
            tree.insert(&path, Node { selinux, ..Node::new(mode, kind) })?;
        }
        Ok(tree)
    }

    fn store(&mut self, path: &[u8], contents: &Contents, store: &mut Store<'_>) -> Result<VirtualFile, ReadError> {
        let mut copy = |out: &mut dyn Write| self.copy(contents, out).map_err(io::Error::other);
        store(path, contents.size(), &mut copy)
            .map_err(|source| ReadError::Store { path: String::from_utf8_lossy(path).into_owned(), source })
    }

    /// Where the inode of an existing path is.
    fn reference(&mut self, path: &[u8]) -> Result<u64, ReadError> {
        let mut reference = self.superblock.root;
        for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            let (_, listing) = self.inode(Vec::new(), reference)?;
            let listing = listing.ok_or_else(|| ReadError::damaged("a path leads through no directory"))?;
            let names = self.listing(listing, self.limits.entries)?;
            let name = names.into_iter().find(|name| name.name == part);
            reference = name.ok_or_else(|| ReadError::damaged("a name is gone"))?.reference;
        }
        Ok(reference)
    }
}

/// Stores the contents of a file: gets its path, length in bytes, and what copies the contents to a writer.
pub type Store<'a> = dyn FnMut(
        &[u8],
        u64,
        &mut dyn FnMut(&mut dyn Write) -> io::Result<u64>,
    ) -> Result<VirtualFile, Box<dyn std::error::Error + Send + Sync>>
    + 'a;

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}
