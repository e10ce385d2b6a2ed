//! The writer: entries in, layout out.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::{BLOCK, PAX_SELINUX};
use crate::format::tree::{FileTree, Kind, Node};
use crate::virtual_file::{Outline, Parts, VirtualFile};

/// Field lengths of the header, in bytes.
const NAME: usize = 100;
const PREFIX: usize = 155;
/// The largest size that 11 octal digits hold.
const MAX_OCTAL_SIZE: u64 = 0o77_777_777_777;
/// The largest device number that 7 octal digits hold.
const MAX_OCTAL_DEVICE: u32 = 0o7_777_777;

/// Why an archive cannot be laid out.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum WriteError {
    /// A name that no archive can hold.
    #[error("tar: name {0:?} is empty, holds a NUL, or is no UTF-8 where PAX needs it")]
    Name(String),
    /// A device number over 21 bits.
    #[error("tar: {path:?}: device number {number} is too large")]
    Device {
        /// The entry's name.
        path: String,
        /// The number that does not fit.
        number: u32,
    },
}

/// An archive being laid out, in the order in which entries are added.
///
/// Reproducible: owner 0:0 without names, one mtime. Names are written as given: with a final slash for a directory or
/// without. ustar headers where they suffice, else PAX.
#[derive(Debug)]
pub struct Layout {
    mtime: u32,
    parts: Parts,
}

impl Layout {
    /// An archive without entries; `mtime` in seconds since 1970 stands in each of them.
    pub fn new(mtime: u32) -> Self {
        Self { mtime, parts: Parts::default() }
    }

    /// Adds a regular file.
    ///
    /// # Errors
    /// [`WriteError::Name`].
    pub fn add_file(&mut self, path: impl AsRef<[u8]>, mode: u16, contents: VirtualFile) -> Result<(), WriteError> {
        self.add(path, &Node::file(mode, contents))
    }

    /// Adds a regular file whose parts `outline` names.
    ///
    /// # Errors
    /// [`WriteError::Name`].
    pub fn add_outlined_file(
        &mut self,
        path: &str,
        mode: u16,
        contents: VirtualFile,
        outline: &Outline,
    ) -> Result<(), WriteError> {
        self.entry(path.as_bytes(), &Node::file(mode, contents), b'0', b"", outline)
    }

    /// Adds a directory.
    ///
    /// # Errors
    /// [`WriteError::Name`].
    pub fn add_directory(&mut self, path: impl AsRef<[u8]>, mode: u16) -> Result<(), WriteError> {
        self.add(path, &Node::directory(mode))
    }

    /// Adds any node, with its label; a mark of hard links on it is not looked at.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn add(&mut self, path: impl AsRef<[u8]>, node: &Node) -> Result<(), WriteError> {
        let link = match &node.kind {
            Kind::Symlink(target) => target.clone(),
            _ => Bytes::new(),
        };
        let kind = match node.kind {
            Kind::File(_) => b'0',
            Kind::Symlink(_) => b'2',
            Kind::CharDevice { .. } => b'3',
            Kind::BlockDevice { .. } => b'4',
            Kind::Directory => b'5',
            Kind::Fifo => b'6',
        };
        self.entry(path.as_ref(), node, kind, &link, &Outline::default())
    }

    /// Adds all of a tree in its order, without its root, each path behind `prefix` (empty, or ending in a slash).
    /// The tree's hard links are links in the archive.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn add_tree(&mut self, prefix: &str, tree: &FileTree) -> Result<(), WriteError> {
        let mut first_names: HashMap<u64, Vec<u8>> = HashMap::new();
        for (path, node) in tree.iter() {
            let name = [prefix.as_bytes(), path].concat();
            match node.inode.and_then(|inode| first_names.get(&inode)) {
                Some(target) => self.entry(&name, node, b'1', target, &Outline::default())?,
                None => self.add(&name, node)?,
            }
            if let Some(inode) = node.inode {
                first_names.entry(inode).or_insert(name);
            }
        }
        Ok(())
    }

    /// The archive with the two blocks of zeros that end it.
    pub fn finish(self) -> VirtualFile {
        self.finish_outlined().0
    }

    /// The same, and what its parts are.
    pub fn finish_outlined(mut self) -> (VirtualFile, Outline) {
        self.parts.push(VirtualFile::inline(vec![0; 2 * BLOCK]), "end of the archive");
        self.parts.finish()
    }

    fn entry(&mut self, path: &[u8], node: &Node, kind: u8, link: &[u8], outline: &Outline) -> Result<(), WriteError> {
        let text = || String::from_utf8_lossy(path).into_owned();
        if path.is_empty() || path.contains(&0) || link.contains(&0) {
            return Err(WriteError::Name(text()));
        }
        let contents = match (&node.kind, kind) {
            (Kind::File(contents), b'0') => contents.clone(),
            _ => VirtualFile::empty(),
        };
        let device = match node.kind {
            Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => (major, minor),
            _ => (0, 0),
        };
        if let Some(number) = [device.0, device.1].into_iter().find(|number| *number > MAX_OCTAL_DEVICE) {
            return Err(WriteError::Device { path: text(), number });
        }
        let split = split_path(path);
        let mut pax: BTreeMap<&str, &[u8]> = BTreeMap::new();
        let mut needs_pax = false;
        if !path.is_ascii() || path.len() > NAME {
            pax.insert("path", path);
            needs_pax |= split.is_none();
        }
        if !link.is_ascii() || link.len() > NAME {
            pax.insert("linkpath", link);
            needs_pax = true;
        }
        let size = contents.len().to_string();
        if contents.len() > MAX_OCTAL_SIZE {
            pax.insert("size", size.as_bytes());
            needs_pax = true;
        }
        if let Some(label) = &node.selinux {
            pax.insert(PAX_SELINUX, label);
            needs_pax = true;
        }
        let mut header = Header { mode: node.mode, size: contents.len(), mtime: self.mtime, kind, ..Header::default() };
        if needs_pax {
            if ["path", "linkpath"].iter().any(|key| pax.get(key).is_some_and(|text| str::from_utf8(text).is_err())) {
                return Err(WriteError::Name(text()));
            }
            self.pax(path, &pax);
            (header.name, header.link) = (ascii(path), ascii(link));
        } else {
            (header.name, header.link) = (path.to_vec(), link.to_vec());
            if let Some((prefix, name)) = split {
                (header.prefix, header.name) = (prefix.to_vec(), name.to_vec());
            }
        }
        header.device = Some(device);
        self.parts.push(VirtualFile::inline(header.encode()), format!("header of {}", text()));
        self.body(contents, &text(), outline);
        Ok(())
    }

    /// The extra entry of PAX records in front of an entry.
    fn pax(&mut self, path: &[u8], records: &BTreeMap<&str, &[u8]>) {
        let mut body = Vec::new();
        for (key, value) in records {
            body.extend_from_slice(&pax_record(key, value));
        }
        // Directory, "PaxHeaders.0", base name; a final slash leaves no base name.
        let (directory, base) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => path.split_at(at + 1),
            None => (&b""[..], path),
        };
        let mut name = ascii(&[directory, b"PaxHeaders.0/", base].concat());
        name.truncate(NAME);
        while name.last() == Some(&b'/') {
            name.pop();
        }
        let header = Header { name, size: body.len() as u64, kind: b'x', ..Header::default() };
        self.parts.push(VirtualFile::inline(header.encode()), "header of PAX records");
        self.body(VirtualFile::inline(body), "PAX records", &Outline::default());
    }

    fn body(&mut self, contents: VirtualFile, name: &str, outline: &Outline) {
        let padding = contents.len().next_multiple_of(BLOCK as u64) - contents.len();
        self.parts.push_file(contents, name, outline);
        self.parts.push(VirtualFile::inline(vec![0; padding as usize]), "padding");
    }
}

/// `length key=value` and a newline; the length counts its own digits.
fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if length.to_string().len() != rest.to_string().len() {
        length = rest + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// The ASCII bytes of a name, for readers that know no PAX.
fn ascii(name: &[u8]) -> Vec<u8> {
    name.iter().copied().filter(u8::is_ascii).collect()
}

/// Splits a long name into the header's prefix and name, if that can be done.
fn split_path(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= NAME || !path.is_ascii() {
        return None;
    }
    let mut length = path.len();
    if length > PREFIX + 1 {
        length = PREFIX + 1;
    } else if path.ends_with(b"/") {
        length -= 1;
    }
    let at = path[..length].iter().rposition(|byte| *byte == b'/')?;
    let name = &path[at + 1..];
    (at > 0 && at <= PREFIX && !name.is_empty() && name.len() <= NAME).then_some((&path[..at], name))
}

/// A ustar header.
#[derive(Default)]
struct Header {
    name: Vec<u8>,
    mode: u16,
    size: u64,
    mtime: u32,
    kind: u8,
    link: Vec<u8>,
    /// Written for entries, left empty for PAX headers.
    device: Option<(u32, u32)>,
    prefix: Vec<u8>,
}

impl Header {
    fn encode(&self) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        put(&mut block[0..100], &self.name);
        octal(&mut block[100..108], u64::from(self.mode));
        octal(&mut block[108..116], 0);
        octal(&mut block[116..124], 0);
        octal(&mut block[124..136], if self.size > MAX_OCTAL_SIZE { 0 } else { self.size });
        octal(&mut block[136..148], u64::from(self.mtime));
        block[156] = self.kind;
        put(&mut block[157..257], &self.link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        if let Some((major, minor)) = self.device {
            octal(&mut block[329..337], u64::from(major));
            octal(&mut block[337..345], u64::from(minor));
        }
        put(&mut block[345..500], &self.prefix);
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        octal(&mut block[148..155], sum);
        block
    }
}

/// Text cut to its field; a cut must not leave a slash at the end, or a file would look like a directory.
fn put(field: &mut [u8], text: &[u8]) {
    let n = text.len().min(field.len());
    field[..n].copy_from_slice(&text[..n]);
    if text.len() > field.len() {
        let end = field.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        field[end..].fill(0);
    }
}

/// Octal digits with leading zeros and a NUL.
fn octal(field: &mut [u8], number: u64) {
    let digits = format!("{number:0width$o}", width = field.len() - 1);
    put(field, digits.as_bytes());
    if let Some(last) = field.last_mut() {
        *last = 0;
    }
}
