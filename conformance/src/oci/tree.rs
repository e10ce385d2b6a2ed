//! A small tree of files in memory, written as a tar or as a newc archive with fixed owner and times.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, Result};
use walkdir::WalkDir;

/// Modification time of every entry: seconds since the epoch.
pub const MTIME: u64 = 1_700_000_000;

/// What an entry is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A regular file.
    File(Vec<u8>),
    /// A symbolic link and its target.
    Symlink(String),
    /// A hard link to an earlier path.
    Hardlink(String),
}

/// An entry of a tree.
#[derive(Clone, Debug)]
pub struct Entry {
    path: String,
    mode: u32,
    kind: Kind,
    selinux: Option<String>,
}

/// Entries in the order in which they are written; parent folders come by themselves.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    entries: Vec<Entry>,
    folders: BTreeSet<String>,
}

impl Tree {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    fn parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            self.folder(&path[..at]);
        }
    }

    /// Adds a folder, mode 0755, once.
    pub fn folder(&mut self, path: &str) {
        if !self.folders.contains(path) {
            self.parents(path);
            self.folders.insert(path.to_owned());
            self.push(path, 0o755, Kind::Folder);
        }
    }

    fn push(&mut self, path: &str, mode: u32, kind: Kind) {
        self.entries.push(Entry { path: path.to_owned(), mode, kind, selinux: None });
    }

    /// Adds a regular file.
    pub fn file(&mut self, path: &str, mode: u32, data: impl Into<Vec<u8>>) {
        self.parents(path);
        self.push(path, mode, Kind::File(data.into()));
    }

    /// Adds a regular file with an SELinux label, written as a PAX record.
    pub fn labelled(&mut self, path: &str, mode: u32, data: impl Into<Vec<u8>>, label: &str) {
        self.file(path, mode, data);
        if let Some(entry) = self.entries.last_mut() {
            entry.selinux = Some(label.to_owned());
        }
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.push(path, 0o777, Kind::Symlink(target.to_owned()));
    }

    /// Adds a hard link to a file added before.
    pub fn hardlink(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.push(path, 0o644, Kind::Hardlink(target.to_owned()));
    }

    /// Adds a file from the machine.
    pub fn copy(&mut self, path: &str, from: &Path) -> Result<()> {
        let data = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        let mode = fs::metadata(from)?.permissions().mode() & 0o111;
        self.file(path, if mode == 0 { 0o644 } else { 0o755 }, data);
        Ok(())
    }

    /// Adds a whole folder from the machine, in name order, but what `leave_out` says of its relative path.
    pub fn copy_folder(&mut self, path: &str, from: &Path, leave_out: impl Fn(&str) -> bool) -> Result<()> {
        for entry in WalkDir::new(from).min_depth(1).sort_by_file_name() {
            let entry = entry?;
            let relative = entry.path().strip_prefix(from)?.to_string_lossy().into_owned();
            if leave_out(&relative) {
                continue;
            }
            let target = format!("{path}/{relative}");
            if entry.file_type().is_dir() {
                self.folder(&target);
            } else if entry.file_type().is_symlink() {
                self.symlink(&target, &fs::read_link(entry.path())?.to_string_lossy());
            } else {
                self.copy(&target, entry.path())?;
            }
        }
        Ok(())
    }

    /// The tree as a tar, owned by root.
    pub fn tar(&self) -> Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        for entry in &self.entries {
            if let Some(label) = &entry.selinux {
                tar.append_pax_extensions([("SCHILY.xattr.security.selinux", label.as_bytes())])?;
            }
            let mut header = tar::Header::new_gnu();
            header.set_mode(entry.mode);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(MTIME);
            header.set_size(0);
            match &entry.kind {
                Kind::Folder => {
                    header.set_entry_type(tar::EntryType::Directory);
                    tar.append_data(&mut header, format!("{}/", entry.path), std::io::empty())?;
                }
                Kind::File(data) => {
                    header.set_entry_type(tar::EntryType::Regular);
                    header.set_size(data.len() as u64);
                    tar.append_data(&mut header, &entry.path, data.as_slice())?;
                }
                Kind::Symlink(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    tar.append_link(&mut header, &entry.path, target)?;
                }
                Kind::Hardlink(target) => {
                    header.set_entry_type(tar::EntryType::Link);
                    tar.append_link(&mut header, &entry.path, target)?;
                }
            }
        }
        Ok(tar.into_inner()?)
    }

    /// The tree as a newc archive in name order with inodes from 0, padded to 512 bytes.
    /// Format: the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`.
    pub fn newc(&self) -> Vec<u8> {
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let mut archive = Vec::new();
        for (inode, entry) in entries.iter().enumerate() {
            let (kind, links, data) = match &entry.kind {
                Kind::Folder => (0o040_000, 2, &[][..]),
                Kind::File(data) => (0o100_000, 1, data.as_slice()),
                Kind::Symlink(target) | Kind::Hardlink(target) => (0o120_000, 1, target.as_bytes()),
            };
            newc_entry(&mut archive, &entry.path, inode, kind | entry.mode, links, MTIME, data);
        }
        newc_entry(&mut archive, "TRAILER!!!", 0, 0, 1, 0, &[]);
        archive.resize(archive.len().next_multiple_of(512), 0);
        archive
    }
}

fn newc_entry(archive: &mut Vec<u8>, path: &str, inode: usize, mode: u32, links: u32, mtime: u64, data: &[u8]) {
    let name_size = path.len() + 1;
    let header = format!(
        "070701{inode:08x}{mode:08x}{:08x}{:08x}{links:08x}{mtime:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{name_size:08x}{:08x}",
        0,
        0,
        data.len(),
        0,
        0,
        0,
        0,
        0
    );
    archive.extend_from_slice(header.as_bytes());
    archive.extend_from_slice(path.as_bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend_from_slice(data);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

/// `length` bytes that do not compress: xorshift32 from `seed`.
pub fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed.max(1);
    let mut bytes = Vec::with_capacity(length + 3);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
