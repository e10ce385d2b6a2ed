//! The writer: tree in, image out.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Seek, SeekFrom, Write};
use std::sync::LazyLock;

use bytes::Bytes;

use super::codec::{Compression, Compressor};
use super::data::Data;
use super::inode::{self, Common, Entry, Labels};
use super::metadata::{Metadata, PIECE_STORED, Place, table};
use super::superblock::{self, Superblock};
use super::{BLOCK_SIZE, EPOCH};
use crate::format::tree::{FileTree, Kind, Node};
use crate::virtual_file::ReadBlob;

/// What an image is padded to in bytes; a loop device drops what does not fill a sector.
const PADDING: u64 = 4096;
/// Bytes of compressed data that are held in memory before a temporary file is made.
const IN_MEMORY: usize = 4 << 20;
/// Bytes of it that are copied at a time.
const COPIED: usize = 256 << 10;

/// Processors that compress one image. Asked for once: the answer takes a dozen system calls.
static PROCESSORS: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from).min(4));

/// How an image is made. The same options and tree give the same bytes for one version of the compressor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How data and metadata are compressed.
    pub compression: Compression,
    /// Time of the image and of all files, in seconds since 1970.
    pub mtime: u32,
    /// Block size in bytes: a power of two from 4 KiB to 1 MiB.
    pub block_size: u32,
}

impl Default for Options {
    /// As extensions are made: [`Compression::DEFAULT`], [`EPOCH`], [`BLOCK_SIZE`].
    fn default() -> Self {
        Self { compression: Compression::DEFAULT, mtime: EPOCH, block_size: BLOCK_SIZE }
    }
}

/// Why no image could be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A block size that the format does not have.
    #[error("squashfs: block size {0} is no power of two from 4096 to 1048576")]
    BlockSize(u32),
    /// Contents could not be read, or the image not written.
    #[error("squashfs: {doing}: {source}")]
    Io {
        /// What was tried.
        doing: String,
        /// What happened.
        source: io::Error,
    },
}

impl WriteError {
    fn io(doing: &str) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io { doing: doing.to_owned(), source }
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Length of the image in bytes, padding included.
    pub len: u64,
    /// Number of inodes, the root's included.
    pub inodes: u32,
}

/// Writes `tree` as an image to `out`, from start to end.
///
/// All files belong to root. Hard links stay links. Labels (`security.selinux`) are kept; of an inode with several names
/// the first path that has one gives it. Data goes through a temporary file, since the superblock in front of it needs
/// its length. Blocks.
///
/// # Errors
/// [`WriteError`]; what was written to `out` is no image then.
pub fn write(
    tree: &FileTree,
    options: &Options,
    blobs: &dyn ReadBlob,
    out: &mut dyn Write,
) -> Result<Written, WriteError> {
    write_with(tree, options, blobs, out, *PROCESSORS)
}

/// [`write()`] with at most as many processors.
pub(super) fn write_with(
    tree: &FileTree,
    options: &Options,
    blobs: &dyn ReadBlob,
    out: &mut dyn Write,
    processors: usize,
) -> Result<Written, WriteError> {
    if !options.block_size.is_power_of_two() || !(4096..=1 << 20).contains(&options.block_size) {
        return Err(WriteError::BlockSize(options.block_size));
    }
    let processors = if options.compression.is_stateless() { processors.max(1) } else { 1 };
    let new = || Compressor::new(options.compression, options.block_size);
    let mut compressors = (0..processors)
        .map(|_| new())
        .collect::<io::Result<Vec<_>>>()
        .map_err(WriteError::io("setting the compressors up"))?;
    let front = compressor_options(options.compression);
    let mut scratch = tempfile::spooled_tempfile(IN_MEMORY);
    let mut data = Data::new(&mut scratch, blobs, options.block_size, (superblock::LEN + front.len()) as u64);
    data.add_all(tree, &mut compressors).map_err(WriteError::io("writing the files"))?;
    let compressor = &mut compressors[0];
    let mut writer = Writer::new(tree, options.mtime, compressor, data);
    let root = writer.run(tree)?;
    let Writer { data, inodes, directories, references, labels, .. } = writer;
    let tables = (|| {
        let (end, fragments) = data.finish(compressor)?;
        let mut tables = Tables { start: end, bytes: Vec::new() };
        let mut sb = Superblock {
            inodes: references.len() as u32,
            mtime: options.mtime,
            block_size: options.block_size,
            fragments: (fragments.len() / 16) as u32,
            compressor: options.compression.id(),
            ids: 1,
            root: root.reference(),
            ..Superblock::default()
        };
        sb.inode_table = tables.append(&inodes.finish(compressor)?.0);
        sb.directory_table = tables.append(&directories.finish(compressor)?.0);
        sb.fragment_table = tables.table(&fragments, compressor)?;
        let export: Vec<u8> = references.iter().flat_map(|reference| reference.to_le_bytes()).collect();
        sb.export_table = tables.table(&export, compressor)?;
        sb.id_table = tables.table(&[0; 4], compressor)?;
        sb.xattr_table = tables.labels(&labels, compressor)?;
        sb.bytes_used = tables.end();
        sb.flags = flags(options.compression, !front.is_empty(), sb.fragments > 0, !labels.all.is_empty());
        Ok((sb, tables.bytes))
    })();
    let (sb, tables) = tables.map_err(WriteError::io("compressing the tables"))?;
    let len = sb.bytes_used.next_multiple_of(PADDING);
    (|| {
        out.write_all(&sb.encode())?;
        out.write_all(&front)?;
        scratch.seek(SeekFrom::Start(0))?;
        io::copy(&mut BufReader::with_capacity(COPIED, &mut scratch), out)?;
        out.write_all(&tables)?;
        io::copy(&mut io::Read::take(io::repeat(0), len - sb.bytes_used), out)
    })()
    .map_err(WriteError::io("writing the image"))?;
    Ok(Written { len, inodes: sb.inodes })
}

/// The options behind the superblock, as a stored metadata piece; empty for the defaults.
fn compressor_options(compression: Compression) -> Vec<u8> {
    match compression {
        Compression::Zstd { level } if level != 15 => {
            [&(4 | PIECE_STORED).to_le_bytes()[..], &level.to_le_bytes()].concat()
        }
        _ => Vec::new(),
    }
}

fn flags(compression: Compression, options: bool, fragments: bool, xattrs: bool) -> u16 {
    let when = |condition: bool, flag: u16| if condition { flag } else { 0 };
    superblock::FLAGS
        | when(compression == Compression::Stored, superblock::FLAGS_STORED)
        | when(options, superblock::FLAG_OPTIONS)
        | when(!fragments, superblock::FLAG_NO_FRAGMENTS)
        | when(!xattrs, superblock::FLAG_NO_XATTRS)
}

/// The tables behind the data.
struct Tables {
    /// Byte of the image where the first begins.
    start: u64,
    bytes: Vec<u8>,
}

impl Tables {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Appends finished bytes; where they begin.
    fn append(&mut self, bytes: &[u8]) -> u64 {
        let at = self.end();
        self.bytes.extend_from_slice(bytes);
        at
    }

    /// Appends a table of records; where its index begins.
    fn table(&mut self, records: &[u8], compressor: &mut Compressor) -> io::Result<u64> {
        let (bytes, index) = table(records, self.end(), compressor)?;
        self.append(&bytes);
        Ok(index)
    }

    /// Appends pairs, records and header of the labels; where the header begins.
    fn labels(&mut self, labels: &Labels, compressor: &mut Compressor) -> io::Result<u64> {
        if labels.all.is_empty() {
            return Ok(u64::MAX);
        }
        let (mut pairs, mut records) = (Metadata::default(), Vec::new());
        for label in &labels.all {
            records.extend_from_slice(&inode::label_record(label, pairs.place()?));
            pairs.push(&inode::label_pair(label), compressor)?;
        }
        let first = self.append(&pairs.finish(compressor)?.0);
        let (bytes, index) = table(&records, self.end(), compressor)?;
        // The header stands between the records' pieces and their index.
        let split = (index - self.end()) as usize;
        self.append(&bytes[..split]);
        self.append(&first.to_le_bytes());
        self.append(&(labels.all.len() as u32).to_le_bytes());
        self.append(&[0; 4]);
        self.append(&bytes[split..]);
        Ok(index)
    }
}

/// An inode that has several names.
struct Shared {
    names: u32,
    selinux: Option<Bytes>,
    /// Number and place, once it is written.
    written: Option<(u32, Place)>,
}

/// A directory whose entries are being written.
struct Open<'a> {
    path: &'a [u8],
    node: &'a Node,
    number: u32,
    entries: Vec<Entry>,
    subdirectories: u32,
}

/// Writes data, inodes and listings in one walk through the tree.
struct Writer<'a, 'c, 'd> {
    mtime: u32,
    compressor: &'c mut Compressor,
    data: Data<'d>,
    inodes: Metadata,
    directories: Metadata,
    /// Inode references by number, from number 1.
    references: Vec<u64>,
    /// The last number given out. The root has the highest, which is the length of `references`.
    number: u32,
    labels: Labels,
    shared: BTreeMap<u64, Shared>,
    /// The directories that the walk is in, the root first.
    open: Vec<Open<'a>>,
}

impl<'a, 'c, 'd> Writer<'a, 'c, 'd> {
    fn new(tree: &'a FileTree, mtime: u32, compressor: &'c mut Compressor, data: Data<'d>) -> Self {
        let mut shared: BTreeMap<u64, Shared> = BTreeMap::new();
        for (_, node) in tree.iter() {
            if let Some(inode) = node.inode {
                let known = shared.entry(inode).or_insert(Shared { names: 0, selinux: None, written: None });
                known.names += 1;
                known.selinux = known.selinux.take().or_else(|| node.selinux.clone());
            }
        }
        let single = tree.iter().filter(|(_, node)| node.inode.is_none()).count();
        let references = vec![0; single + shared.len() + 1];
        let root = Open::new(b"", tree.root(), references.len() as u32);
        Self {
            mtime,
            compressor,
            data,
            inodes: Metadata::default(),
            directories: Metadata::default(),
            references,
            number: 0,
            labels: Labels::default(),
            shared,
            open: vec![root],
        }
    }

    /// Writes the whole tree; the root's place.
    fn run(&mut self, tree: &'a FileTree) -> Result<Place, WriteError> {
        for (path, node) in tree.iter() {
            let text = || format!("writing {:?}", String::from_utf8_lossy(path));
            let split = path.iter().rposition(|byte| *byte == b'/');
            let parent = split.map_or(&b""[..], |at| &path[..at]);
            while self.open.len() > 1 && self.open.last().is_some_and(|open| open.path != parent) {
                self.close().map_err(|source| WriteError::Io { doing: text(), source })?;
            }
            if node.is_directory() {
                self.number += 1;
                self.open.push(Open::new(path, node, self.number));
                continue;
            }
            let name = &path[split.map_or(0, |at| at + 1)..];
            self.leaf(name, node).map_err(|source| WriteError::Io { doing: text(), source })?;
        }
        let mut place = Place { piece: 0, offset: 0 };
        while !self.open.is_empty() {
            place = self.close().map_err(WriteError::io("writing the root"))?;
        }
        Ok(place)
    }

    /// Ends the innermost directory: writes its listing and inode, and enters it in its parent. Its inode's place.
    fn close(&mut self) -> io::Result<Place> {
        let Some(directory) = self.open.pop() else { return Err(io::Error::other("no directory is open")) };
        let place = self.directories.place()?;
        let listing = inode::listing(&directory.entries);
        self.directories.push(&listing, self.compressor)?;
        let common = Common {
            mode: directory.node.mode,
            mtime: self.mtime,
            number: directory.number,
            xattr: self.labels.number(directory.node.selinux.as_ref()),
            links: 2 + directory.subdirectories,
        };
        // The root's parent is one behind the last number.
        let parent = self.open.last().map_or(self.references.len() as u32 + 1, |open| open.number);
        let bytes = inode::directory(&common, place, listing.len(), parent);
        let place = self.inode(directory.number, &bytes)?;
        if let Some(parent) = self.open.last_mut() {
            let name = directory.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
            parent.subdirectories += 1;
            let kind = inode::basic_type(&directory.node.kind);
            parent.entries.push(Entry { name, kind, number: directory.number, place });
        }
        Ok(place)
    }

    /// Writes what is no directory, or a further name of it.
    fn leaf(&mut self, name: &[u8], node: &Node) -> io::Result<()> {
        let shared = node.inode.and_then(|inode| self.shared.get(&inode));
        let (number, place) = match shared.and_then(|shared| shared.written) {
            Some(written) => written,
            None => {
                self.number += 1;
                let common = Common {
                    mode: node.mode,
                    mtime: self.mtime,
                    number: self.number,
                    xattr: self.labels.number(shared.map_or(&node.selinux, |shared| &shared.selinux).as_ref()),
                    links: shared.map_or(1, |shared| shared.names),
                };
                let bytes = match &node.kind {
                    Kind::File(contents) => inode::file(&common, self.data.add(contents, self.compressor)?),
                    other => inode::special(&common, other),
                };
                (common.number, self.inode(common.number, &bytes)?)
            }
        };
        if let Some(shared) = node.inode.and_then(|inode| self.shared.get_mut(&inode)) {
            shared.written = Some((number, place));
        }
        if let Some(parent) = self.open.last_mut() {
            let kind = inode::basic_type(&node.kind);
            parent.entries.push(Entry { name: name.to_vec(), kind, number, place });
        }
        Ok(())
    }

    /// Appends an inode; its place.
    fn inode(&mut self, number: u32, bytes: &[u8]) -> io::Result<Place> {
        let place = self.inodes.place()?;
        self.inodes.push(bytes, self.compressor)?;
        if let Some(reference) = self.references.get_mut(number as usize - 1) {
            *reference = place.reference();
        }
        Ok(place)
    }
}

impl<'a> Open<'a> {
    fn new(path: &'a [u8], node: &'a Node, number: u32) -> Self {
        Self { path, node, number, entries: Vec::new(), subdirectories: 0 }
    }
}
