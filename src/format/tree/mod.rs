//! The file tree that archive and file system writers take, and that readers give.
//!
//! A [`FileTree`] maps relative paths to [`Node`]s. File contents are [`VirtualFile`]s, so that a tree of gigabytes is
//! small in memory. Owner is always root and times are the writer's, so nodes hold neither.

mod path;

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::virtual_file::VirtualFile;

use path::TreePath;
pub use path::{MAX_NAME, MAX_PATH, PathError};

/// Longest symlink target in bytes: one less than Linux' page of 4096.
pub const MAX_TARGET: usize = 4095;

/// Why a tree could not be changed as asked.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TreeError {
    /// Not a path that a tree can hold.
    #[error(transparent)]
    Path(#[from] PathError),
    /// What stands above the path is no directory.
    #[error("{path:?}: its parent {parent:?} is not a directory")]
    ParentNotDirectory {
        /// The path to be inserted.
        path: String,
        /// The nearest node above it that is no directory.
        parent: String,
    },
    /// The target of a hard link is not in the tree, or a directory.
    #[error("hard link {link:?}: its target {target:?} is {what}")]
    LinkTarget {
        /// The new name.
        link: String,
        /// The name of what it should be a link to.
        target: String,
        /// What is wrong with the target.
        what: &'static str,
    },
    /// A symlink target that Linux refuses.
    #[error("symlink {path:?}: a target of {len} bytes (1 to {MAX_TARGET} are possible)")]
    SymlinkTarget {
        /// The symlink's path.
        path: String,
        /// Length of the target in bytes.
        len: usize,
    },
}

/// What a path stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A directory; its entries are the paths below it.
    Directory,
    /// A regular file with its contents.
    File(VirtualFile),
    /// A symbolic link with its target, 1 to [`MAX_TARGET`] bytes.
    Symlink(Bytes),
    /// A character device.
    CharDevice {
        /// Major number, 12 bits in Linux.
        major: u32,
        /// Minor number, 20 bits in Linux.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number, 12 bits in Linux.
        major: u32,
        /// Minor number, 20 bits in Linux.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// A file, directory or special file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// Permission bits (`0o7777`), without the file type.
    pub mode: u16,
    /// What it is, with contents.
    pub kind: Kind,
    /// Value of `security.selinux`, without a final NUL.
    pub selinux: Option<Bytes>,
    /// The same number marks hard links to one inode; `None` for a file with one name. [`FileTree::link`] sets it.
    pub inode: Option<u64>,
}

impl Node {
    /// A node of any kind, without label.
    pub fn new(mode: u16, kind: Kind) -> Self {
        Self { mode: mode & 0o7777, kind, selinux: None, inode: None }
    }

    /// A directory.
    pub fn directory(mode: u16) -> Self {
        Self::new(mode, Kind::Directory)
    }

    /// A regular file.
    pub fn file(mode: u16, contents: VirtualFile) -> Self {
        Self::new(mode, Kind::File(contents))
    }

    /// A symbolic link, mode 0777 as Linux has it.
    pub fn symlink(target: impl Into<Bytes>) -> Self {
        Self::new(0o777, Kind::Symlink(target.into()))
    }

    /// The same node with a `security.selinux` label; a final NUL is dropped.
    #[must_use]
    pub fn with_selinux(mut self, label: impl Into<Bytes>) -> Self {
        let mut label: Bytes = label.into();
        if label.last() == Some(&0) {
            label.truncate(label.len() - 1);
        }
        self.selinux = Some(label);
        self
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// The contents of a regular file.
    pub fn contents(&self) -> Option<&VirtualFile> {
        match &self.kind {
            Kind::File(contents) => Some(contents),
            _ => None,
        }
    }

    /// Permission bits with the file type bits of `st_mode`, as cpio wants them.
    pub fn st_mode(&self) -> u32 {
        let kind = match self.kind {
            Kind::Fifo => 0o010_000,
            Kind::CharDevice { .. } => 0o020_000,
            Kind::Directory => 0o040_000,
            Kind::BlockDevice { .. } => 0o060_000,
            Kind::File(_) => 0o100_000,
            Kind::Symlink(_) => 0o120_000,
        };
        kind | u32::from(self.mode)
    }
}

/// Checks that a tree could hold `node` at `path`, whatever else is in it.
///
/// # Errors
/// [`TreeError::Path`], [`TreeError::SymlinkTarget`].
pub fn check_entry(path: impl AsRef<[u8]>, node: &Node) -> Result<(), TreeError> {
    check(path.as_ref(), node).map(drop)
}

fn check(path: &[u8], node: &Node) -> Result<TreePath, TreeError> {
    let path = TreePath::new(path)?;
    match &node.kind {
        Kind::Symlink(target) if !(1..=MAX_TARGET).contains(&target.len()) => {
            Err(TreeError::SymlinkTarget { path: path.text(), len: target.len() })
        }
        _ => Ok(path),
    }
}

/// A tree of files under a root directory.
///
/// Paths are bytes, relative, without `.`, `..`, empty components or NUL. Order is that of a walk that sorts each
/// directory by name bytes and enters a directory right after naming it: `a`, `a/b`, `a-b`. Above every path stand
/// directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileTree {
    root: Node,
    nodes: BTreeMap<TreePath, Node>,
    /// The next unused inode number for hard links.
    next_inode: u64,
}

impl Default for FileTree {
    fn default() -> Self {
        Self::new()
    }
}

impl FileTree {
    /// A root directory of mode 0755 with nothing in it.
    pub fn new() -> Self {
        Self { root: Node::directory(0o755), nodes: BTreeMap::new(), next_inode: 0 }
    }

    /// The root directory.
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// Gives the root directory a mode and a label.
    pub fn set_root(&mut self, mode: u16, selinux: Option<Bytes>) {
        self.root = Node { selinux, ..Node::directory(mode) };
    }

    /// Number of nodes without the root.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is nothing but the root.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// What stands at `path`.
    pub fn get(&self, path: impl AsRef<[u8]>) -> Option<&Node> {
        self.nodes.get(&TreePath::new(path.as_ref()).ok()?)
    }

    /// Puts `node` at `path` in place of what was there; missing parents become directories of mode 0755.
    ///
    /// A directory in place of a directory keeps what is in it; anything else goes with its whole subtree. A final
    /// slash of `path` is ignored.
    ///
    /// # Errors
    /// A path or symlink target that cannot be, or something above `path` that is no directory.
    pub fn insert(&mut self, path: impl AsRef<[u8]>, node: Node) -> Result<(), TreeError> {
        let path = check(path.as_ref(), &node)?;
        self.make_parents(&path)?;
        if !node.is_directory() {
            self.remove_below(&path);
        }
        if let Some(inode) = node.inode {
            self.next_inode = self.next_inode.max(inode.saturating_add(1));
        }
        self.nodes.insert(path, node);
        Ok(())
    }

    /// Gives what stands at `target` the second name `link`.
    ///
    /// # Errors
    /// As [`Self::insert`]; or the target is missing or a directory.
    pub fn link(&mut self, target: impl AsRef<[u8]>, link: impl AsRef<[u8]>) -> Result<(), TreeError> {
        let (target, link) = (TreePath::new(target.as_ref())?, TreePath::new(link.as_ref())?);
        let refuse = |what| Err(TreeError::LinkTarget { link: link.text(), target: target.text(), what });
        let fresh = self.next_inode;
        let node = match self.nodes.get_mut(&target) {
            None => return refuse("not there"),
            Some(node) if node.is_directory() => return refuse("a directory"),
            Some(_) if link == target => return Ok(()),
            Some(node) => {
                node.inode.get_or_insert(fresh);
                node.clone()
            }
        };
        self.next_inode = self.next_inode.max(node.inode.map_or(0, |inode| inode.saturating_add(1)));
        self.insert(link.bytes(), node)
    }

    /// Removes what stands at `path`, a directory with its whole subtree; says what it was.
    pub fn remove(&mut self, path: impl AsRef<[u8]>) -> Option<Node> {
        let path = TreePath::new(path.as_ref()).ok()?;
        let node = self.nodes.remove(&path)?;
        self.remove_below(&path);
        Some(node)
    }

    /// Removes everything below the directory `path` but not itself; the empty path empties the whole tree.
    pub fn clear_below(&mut self, path: impl AsRef<[u8]>) {
        if path.as_ref().is_empty() {
            self.nodes.clear();
        } else if let Ok(path) = TreePath::new(path.as_ref()) {
            self.remove_below(&path);
        }
    }

    /// All paths with their nodes, in the tree's order, without the root.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Node)> {
        self.nodes.iter().map(|(path, node)| (path.bytes(), node))
    }

    /// `path` itself and all below it, in the tree's order.
    pub fn iter_under(&self, path: impl AsRef<[u8]>) -> impl Iterator<Item = (&[u8], &Node)> {
        let start = TreePath::new(path.as_ref()).ok();
        let from = start.clone().map_or(Bound::Unbounded, Bound::Included);
        // A path that cannot be has nothing below it.
        self.nodes
            .range((from, Bound::Unbounded))
            .take_while(move |(path, _)| start.as_ref().is_some_and(|start| path.is_under(start)))
            .map(|(path, node)| (path.bytes(), node))
    }

    /// Takes `prefix` and all below it out of this tree; the paths stay whole.
    ///
    /// The new tree has the directories above `prefix` too, with their modes and labels; they stay here as well, even
    /// if empty now. Nothing at `prefix`: an empty tree.
    pub fn split_off(&mut self, prefix: impl AsRef<[u8]>) -> Self {
        let mut taken = Self { next_inode: self.next_inode, ..Self::new() };
        let Ok(prefix) = TreePath::new(prefix.as_ref()) else { return taken };
        let paths: Vec<TreePath> = self.paths_under(&prefix);
        if paths.is_empty() {
            return taken;
        }
        for above in prefix.parents() {
            taken.nodes.extend(self.nodes.get_key_value(&above).map(|(path, node)| (path.clone(), node.clone())));
        }
        for path in paths {
            taken.nodes.extend(self.nodes.remove_entry(&path));
        }
        taken
    }

    /// A copy of what is below the directory `prefix`, which becomes the root; `None` if no directory is there.
    pub fn subtree(&self, prefix: impl AsRef<[u8]>) -> Option<Self> {
        let prefix = TreePath::new(prefix.as_ref()).ok()?;
        let root = self.nodes.get(&prefix).filter(|node| node.is_directory())?.clone();
        let nodes = self
            .nodes
            .range((Bound::Excluded(prefix.clone()), Bound::Unbounded))
            .take_while(|(path, _)| path.is_under(&prefix))
            .map(|(path, node)| (path.below(&prefix), node.clone()))
            .collect();
        Some(Self { root, nodes, next_inode: self.next_inode })
    }

    fn paths_under(&self, prefix: &TreePath) -> Vec<TreePath> {
        let from = (Bound::Included(prefix.clone()), Bound::Unbounded);
        self.nodes.range(from).map(|(path, _)| path.clone()).take_while(|path| path.is_under(prefix)).collect()
    }

    fn remove_below(&mut self, path: &TreePath) {
        for below in self.paths_under(path) {
            if below != *path {
                self.nodes.remove(&below);
            }
        }
    }

    fn make_parents(&mut self, path: &TreePath) -> Result<(), TreeError> {
        // From the nearest up, so that a path whose parent is there costs one look-up.
        let mut missing = Vec::new();
        for above in path.parents().into_iter().rev() {
            match self.nodes.get(&above) {
                Some(node) if node.is_directory() => break,
                Some(_) => {
                    return Err(TreeError::ParentNotDirectory { path: path.text(), parent: above.text() });
                }
                None => missing.push(above),
            }
        }
        self.nodes.extend(missing.into_iter().map(|path| (path, Node::directory(0o755))));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
