//! Applying the layers of an image to a file tree.
//!
//! Specification: OCI image-spec `layer.md`: layers in order, each a tar archive, plain or compressed; whiteouts
//! (`.wh.<name>`) and opaque whiteouts (`.wh..wh..opq`) hide what lower layers hold, never what their own layer does.
//! What the specification leaves open is done as container runtimes do it: a symlink among a path's parents is followed
//! inside the image's root, and an entry replaces what stood at its path.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Read};

use bytes::Bytes;

use super::tar::{self, Entry, EntryKind};
use super::tree::{FileTree, Kind, Node, TreeError};
use crate::virtual_file::VirtualFile;

/// Most symlinks that are followed for one path, as in Linux.
const MAX_SYMLINKS: u32 = 40;
/// Largest window of a zstd layer, as a power of two.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Why a layer could not be applied. Layers count from 0.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The source failed before the archive began.
    #[error("layer {layer}: {source}")]
    Io {
        /// Which layer.
        layer: usize,
        /// What happened.
        source: io::Error,
    },
    /// The archive is damaged, refused or too large.
    #[error("layer {layer}: {source}")]
    Tar {
        /// Which layer.
        layer: usize,
        /// What is wrong with it.
        source: tar::ReadError,
    },
    /// An entry that does not fit into the tree.
    #[error("layer {layer}: {source}")]
    Tree {
        /// Which layer.
        layer: usize,
        /// What does not fit.
        source: TreeError,
    },
    /// A path whose symlinks go round in circles.
    #[error("layer {layer}: {path:?}: more than {MAX_SYMLINKS} symlinks on the way")]
    Symlinks {
        /// Which layer.
        layer: usize,
        /// The path.
        path: String,
    },
    /// A whiteout of nothing.
    #[error("layer {layer}: whiteout {path:?} names nothing that can be removed")]
    Whiteout {
        /// Which layer.
        layer: usize,
        /// Its path.
        path: String,
    },
    /// A wanted hard link to a file that was left out.
    #[error("layer {layer}: hard link {path:?}: its target {target:?} was left out")]
    LeftOut {
        /// Which layer.
        layer: usize,
        /// The link's path.
        path: String,
        /// What it links to.
        target: String,
    },
    /// The contents of a file could not be stored.
    #[error("layer {layer}: storing {path:?}: {source}")]
    Store {
        /// Which layer.
        layer: usize,
        /// The file's path.
        path: String,
        /// What the store said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Stores the contents of a file: gets its path, length in bytes, and the contents, which it must read to the end.
pub type Store<'a> =
    dyn FnMut(&[u8], u64, &mut dyn Read) -> Result<VirtualFile, Box<dyn std::error::Error + Send + Sync>> + 'a;

/// How much the layers of one image may hold together.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all archives, decompressed.
    pub bytes: u64,
    /// Entries of all archives.
    pub entries: u64,
}

impl Default for Limits {
    /// 8 GiB and 500,000 entries.
    fn default() -> Self {
        Self { bytes: 8 << 30, entries: 500_000 }
    }
}

/// The image's tree as layer after layer is applied.
pub struct Layers<'a> {
    tree: FileTree,
    wanted: &'a dyn Fn(&[u8]) -> bool,
    limits: Limits,
    /// Layers applied so far.
    layer: usize,
    /// Paths of files that are in the image but were left out.
    left_out: BTreeSet<Vec<u8>>,
    /// What the present layer holds, wanted or not, with the directories above.
    fresh: BTreeSet<Vec<u8>>,
    /// The whiteouts of the present layer that were applied.
    whiteouts: BTreeSet<Vec<u8>>,
}

impl<'a> Layers<'a> {
    /// No layers yet. Regular files whose path is not `wanted` are left out; everything else is small and kept.
    pub fn new(limits: Limits, wanted: &'a dyn Fn(&[u8]) -> bool) -> Self {
        let (left_out, fresh, whiteouts) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        Self { tree: FileTree::new(), wanted, limits, layer: 0, left_out, fresh, whiteouts }
    }

    /// The tree of the layers applied so far.
    pub fn into_tree(self) -> FileTree {
        self.tree
    }

    /// Applies the next layer: a tar archive, plain or compressed with gzip or zstd, which its first bytes tell.
    ///
    /// `store` gets the contents of each wanted file, also of those that a later layer replaces. The source is read to
    /// the end of the archive, not always to its own end.
    ///
    /// # Errors
    /// [`LayerError`]; the tree is of no use then.
    pub fn apply(&mut self, source: impl Read, store: &mut Store<'_>) -> Result<(), LayerError> {
        let source = decompress(source).map_err(|source| LayerError::Io { layer: self.layer, source })?;
        let limits = tar::Limits { bytes: self.limits.bytes, entries: self.limits.entries };
        let mut archive = tar::Reader::new(source, limits);
        self.fresh.clear();
        self.whiteouts.clear();
        while let Some(entry) = archive.next_entry().map_err(|source| LayerError::Tar { layer: self.layer, source })? {
            self.entry(entry, &mut archive, store)?;
        }
        let (bytes, entries) = archive.consumed();
        self.limits = Limits {
            bytes: self.limits.bytes.saturating_sub(bytes),
            entries: self.limits.entries.saturating_sub(entries),
        };
        self.layer += 1;
        Ok(())
    }

    fn entry(&mut self, entry: Entry, contents: &mut dyn Read, store: &mut Store<'_>) -> Result<(), LayerError> {
        let Entry { path, kind, mode, size, selinux } = entry;
        if path.is_empty() {
            if kind == EntryKind::Directory {
                self.tree.set_root(mode, selinux);
            }
            return Ok(());
        }
        let path = self.resolve(&path)?;
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            let above = &path[..path.len() - name.len()];
            return self.whiteout(&path, above, hidden);
        }
        let kind = match kind {
            EntryKind::HardLink(target) => return self.hard_link(path, &target),
            EntryKind::File if !(self.wanted)(&path) => {
                self.leave_out(path);
                return Ok(());
            }
            EntryKind::File => match store(&path, size, contents) {
                Ok(file) => Kind::File(file),
                Err(source) => return Err(LayerError::Store { layer: self.layer, path: text(&path), source }),
            },
            EntryKind::Symlink(target) => Kind::Symlink(Bytes::from(target)),
            EntryKind::Directory => Kind::Directory,
            EntryKind::CharDevice(major, minor) => Kind::CharDevice { major, minor },
            EntryKind::BlockDevice(major, minor) => Kind::BlockDevice { major, minor },
            EntryKind::Fifo => Kind::Fifo,
        };
        self.insert(path, Node { selinux, ..Node::new(mode, kind) })
    }

    fn insert(&mut self, path: Vec<u8>, node: Node) -> Result<(), LayerError> {
        self.tree.insert(&path, node).map_err(|source| LayerError::Tree { layer: self.layer, source })?;
        self.left_out.remove(&path);
        self.keep(&path);
        Ok(())
    }

    /// Notes a file that is in the image but not wanted.
    fn leave_out(&mut self, path: Vec<u8>) {
        self.tree.remove(&path);
        self.keep(&path);
        self.left_out.insert(path);
    }

    /// Notes that the present layer holds `path`.
    fn keep(&mut self, path: &[u8]) {
        let mut end = path.len();
        while self.fresh.insert(path[..end].to_vec()) {
            match path[..end].iter().rposition(|byte| *byte == b'/') {
                Some(slash) => end = slash,
                None => break,
            }
        }
    }

    fn hard_link(&mut self, path: Vec<u8>, target: &[u8]) -> Result<(), LayerError> {
        let target = self.resolve(target)?;
        if self.left_out.contains(&target) {
            if (self.wanted)(&path) {
                let (path, target) = (text(&path), text(&target));
                return Err(LayerError::LeftOut { layer: self.layer, path, target });
            }
            self.leave_out(path);
            return Ok(());
        }
        self.tree.link(&target, &path).map_err(|source| LayerError::Tree { layer: self.layer, source })?;
        self.left_out.remove(&path);
        self.keep(&path);
        Ok(())
    }

    /// Hides `above/hidden` of lower layers, or for an opaque whiteout all of them below `above`.
    fn whiteout(&mut self, path: &[u8], above: &[u8], hidden: &[u8]) -> Result<(), LayerError> {
        let opaque = hidden == b".wh..opq";
        let under = match hidden {
            _ if opaque => above[..above.len().saturating_sub(1)].to_vec(),
            b"" | b"." | b".." => return Err(LayerError::Whiteout { layer: self.layer, path: text(path) }),
            // Other names of the kind were AUFS' own and hide nothing.
            _ if hidden.starts_with(b".wh.") => return Ok(()),
            _ => [above, hidden].concat(),
        };
        if !self.whiteouts.insert(path.to_vec()) {
            return Ok(());
        }
        let lower = |path: &[u8]| !self.fresh.contains(path) && (!opaque || path != under);
        let gone: Vec<Vec<u8>> = if under.is_empty() {
            self.tree.iter().map(|(path, _)| path.to_vec()).filter(|path| lower(path)).collect()
        } else {
            self.tree.iter_under(&under).map(|(path, _)| path.to_vec()).filter(|path| lower(path)).collect()
        };
        // What is below `under` lies between "under/" and "under0" in the order of bytes.
        let below = match &under[..] {
            b"" => Vec::new()..vec![u8::MAX],
            under => [under, b"/"].concat()..[under, b"0"].concat(),
        };
        let unseen: Vec<Vec<u8>> =
            self.left_out.range(below).chain(self.left_out.get(&under)).filter(|path| lower(path)).cloned().collect();
        for path in gone {
            self.tree.remove(path);
        }
        for path in unseen {
            self.left_out.remove(&path);
        }
        Ok(())
    }

    /// Follows symlinks among the parents of `path`, inside the tree's root. The last component is left as it is.
    fn resolve(&self, path: &[u8]) -> Result<Vec<u8>, LayerError> {
        let mut todo: Vec<Vec<u8>> = path.rsplit(|byte| *byte == b'/').map(<[u8]>::to_vec).collect();
        let mut done: Vec<u8> = Vec::with_capacity(path.len());
        let mut followed = 0;
        while let Some(part) = todo.pop() {
            let before = done.len();
            match &part[..] {
                b"" | b"." => continue,
                b".." => {
                    done.truncate(done.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                    continue;
                }
                name => {
                    if !done.is_empty() {
                        done.push(b'/');
                    }
                    done.extend_from_slice(name);
                }
            }
            if todo.is_empty() {
                break;
            }
            if let Some(Node { kind: Kind::Symlink(target), .. }) = self.tree.get(&done) {
                followed += 1;
                if followed > MAX_SYMLINKS {
                    return Err(LayerError::Symlinks { layer: self.layer, path: text(path) });
                }
                done.truncate(if target.starts_with(b"/") { 0 } else { before });
                todo.extend(target.rsplit(|byte| *byte == b'/').map(<[u8]>::to_vec));
            }
        }
        Ok(done)
    }
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// The plain archive behind a layer's bytes.
fn decompress<'a>(source: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut source = BufReader::with_capacity(1 << 16, source);
    let mut first = Vec::with_capacity(4);
    source.by_ref().take(4).read_to_end(&mut first)?;
    let source = io::Cursor::new(first.clone()).chain(source);
    Ok(match &first[..] {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        _ => Box::new(source),
    })
}

#[cfg(test)]
mod tests;
