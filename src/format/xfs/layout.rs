//! From a tree to a volume: inodes and blocks for each file, then all bytes in order.

use std::collections::BTreeMap;
use std::ops::Range;

use super::directory::{FileType, directory, directory_len};
use super::geometry::{BLOCK, CHUNK, GROUPS, Geometry, INODES_PER_BLOCK, INODES_PER_CHUNK, LOG_GROUP};
use super::group::{CHUNKS_MAX, Group};
use super::inode::{Contents, EXTENTS_MAX, FORK, Inodes};
use super::place::{Room, Run};
use super::superblock::Superblock;
use super::{Options, Volume, XfsError, log};
use crate::format::sparse::sparse;
use crate::format::tree::{FileTree, Kind};
use crate::virtual_file::VirtualFile;

/// The longest label in bytes.
const LABEL_MAX: usize = 12;
/// Inodes that a volume has by itself beside the root: those of a real-time device. They come right behind the root.
const REAL_TIME: usize = 2;

/// A file or directory on its way into the volume. Item 0 is the root.
struct Item<'a> {
    path: &'a str,
    mode: u16,
    /// A file's bytes; `None`: a directory.
    file: Option<&'a VirtualFile>,
    /// The item of the directory above.
    parent: usize,
    /// A directory's items.
    inside: Vec<usize>,
    /// A file's blocks.
    runs: Vec<Run>,
}

impl Item<'_> {
    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }

    fn file_type(&self) -> FileType {
        if self.file.is_some() { FileType::File } else { FileType::Directory }
    }
}

/// Lays out a volume that holds a tree.
///
/// Inodes and files stand in the tree's order. A file goes whole into the first group that has room for it, in pieces
/// only if none has. Everything belongs to root and bears one time; labels and links are not kept: each name of a file
/// has an inode and bytes of its own.
///
/// # Errors
/// [`XfsError`].
pub fn lay_out(tree: &FileTree, options: &Options<'_>) -> Result<Volume, XfsError> {
    let geometry = Geometry::new(options.size, options.sector_size)?;
    if options.label.len() > LABEL_MAX || options.label.contains('\0') {
        return Err(XfsError::Label(options.label.to_owned()));
    }
    let mut items = items(tree)?;
    check_directories(&items)?;
    let used = items.len() + REAL_TIME;
    let chunks = used.div_ceil(INODES_PER_CHUNK);
    if chunks > CHUNKS_MAX {
        let most = CHUNKS_MAX * INODES_PER_CHUNK - REAL_TIME - 1;
        return Err(XfsError::Inodes { count: items.len() - 1, most });
    }
    let mut room = Room::new(&geometry, geometry.inodes() + chunks as u32 * CHUNK);
    place(&mut items, &mut room, options)?;
    let groups = (0..GROUPS).map(|number| Group {
        geometry: &geometry,
        uuid: options.uuid,
        number,
        inodes: if number == 0 { used } else { 0 },
        used_end: room.next(number),
    });
    let mut parts = metadata(&geometry, &groups.collect::<Vec<_>>(), options);
    parts.push((geometry.offset(0, geometry.inodes()), inodes(&geometry, &items, chunks, options)));
    let mut extents = BTreeMap::new();
    for item in &items {
        let Some(file) = item.file.filter(|file| !file.is_empty()) else { continue };
        let pieces = pieces(&geometry, &item.runs, file.len());
        let mut at = 0;
        for piece in &pieces {
            let len = piece.end - piece.start;
            parts.push((piece.start, file.slice(at..at + len)));
            at += len;
        }
        extents.insert(item.path.to_owned(), pieces);
    }
    Ok(Volume { image: join(parts, options.size), extents })
}

/// The tree's nodes as items, in its order, behind the root.
fn items(tree: &FileTree) -> Result<Vec<Item<'_>>, XfsError> {
    let item = |path, mode, file, parent| Item { path, mode, file, parent, inside: Vec::new(), runs: Vec::new() };
    let mut items = vec![item("", tree.root().mode, None, 0)];
    // The directories above the node at hand, the root first.
    let mut above = vec![0];
    for (path, node) in tree.iter() {
        let lossy = || String::from_utf8_lossy(path).into_owned();
        let path = str::from_utf8(path).map_err(|_| XfsError::Path { path: lossy() })?;
        let file = match &node.kind {
            Kind::Directory => None,
            Kind::File(file) => Some(file),
            _ => return Err(XfsError::Kind { path: path.to_owned() }),
        };
        above.truncate(1 + path.matches('/').count());
        let (parent, index) = (above.last().copied().unwrap_or(0), items.len());
        items[parent].inside.push(index);
        above.push(index);
        items.push(item(path, node.mode, file, parent));
    }
    Ok(items)
}

/// Finds directories that do not fit into their inodes.
fn check_directories(items: &[Item<'_>]) -> Result<(), XfsError> {
    for item in items {
        let needed = directory_len(item.inside.iter().map(|inside| items[*inside].name()));
        if needed > FORK {
            return Err(XfsError::Entries { path: item.path.to_owned(), needed, most: FORK });
        }
    }
    Ok(())
}

/// Gives each file its blocks.
fn place(items: &mut [Item<'_>], room: &mut Room, options: &Options<'_>) -> Result<(), XfsError> {
    let blocks = |item: &Item<'_>| item.file.map_or(0, |file| file.len().div_ceil(BLOCK));
    let (needed, available) = (items.iter().map(blocks).fold(0, u64::saturating_add), room.left());
    if needed > available {
        let (needed, available) = (needed.saturating_mul(BLOCK), available * BLOCK);
        return Err(XfsError::Full { size: options.size, needed, available });
    }
    for item in items {
        item.runs = room.take(blocks(item));
        let extents = item.runs.len();
        if extents > EXTENTS_MAX {
            let len = item.file.map_or(0, VirtualFile::len);
            return Err(XfsError::Extents { path: item.path.to_owned(), len, extents, most: EXTENTS_MAX });
        }
    }
    Ok(())
}

/// Headers and trees of all groups, and the log, with where they start in the volume.
fn metadata(geometry: &Geometry, groups: &[Group<'_>], options: &Options<'_>) -> Vec<(u64, VirtualFile)> {
    let inodes: usize = groups.iter().map(|group| group.inodes).sum();
    let all_inodes = inodes.next_multiple_of(INODES_PER_CHUNK);
    let superblock = Superblock {
        label: options.label,
        uuid: options.uuid,
        root: root(geometry),
        inodes: all_inodes as u64,
        free_inodes: (all_inodes - inodes) as u64,
        free_blocks: groups.iter().map(Group::free_blocks).sum(),
    };
    let superblock = superblock.bytes(geometry);
    let mut parts = Vec::new();
    for group in groups {
        let headers = [std::slice::from_ref(&superblock), &group.headers()].concat().concat();
        parts.push((geometry.offset(group.number, 0), sparse(&headers)));
        parts.push((geometry.offset(group.number, geometry.roots()), sparse(&group.trees().concat())));
    }
    let log = log::clean(options.sector_size, &options.uuid);
    parts.push((geometry.offset(LOG_GROUP, geometry.roots_end()), sparse(&log)));
    parts
}

/// The root directory's inode.
fn root(geometry: &Geometry) -> u32 {
    geometry.inodes() * INODES_PER_BLOCK
}

/// All chunks of inodes.
fn inodes(geometry: &Geometry, items: &[Item<'_>], chunks: usize, options: &Options<'_>) -> VirtualFile {
    let inodes = Inodes { geometry, uuid: options.uuid, mtime: options.mtime };
    let root = root(geometry);
    let number = |index: usize| root + if index == 0 { 0 } else { (index + REAL_TIME) as u32 };
    let used = |(index, item): (usize, &Item<'_>)| {
        let contents = match item.file {
            Some(file) => Contents::File { len: file.len(), runs: item.runs.clone() },
            None => {
                let inside = || item.inside.iter().map(|inside| (*inside, &items[*inside]));
                let entries = inside().map(|(index, item)| (item.name(), item.file_type(), number(index)));
                let directories = inside().filter(|(_, item)| item.file.is_none()).count() as u32;
                Contents::Directory { entries: directory(number(item.parent), entries), directories }
            }
        };
        inodes.used(number(index), item.mode, &contents)
    };
    let mut all: Vec<Vec<u8>> = items.iter().enumerate().map(used).collect();
    let real_time = [true, false].into_iter().zip(root + 1..).map(|(bitmap, number)| inodes.real_time(number, bitmap));
    all.splice(1..1, real_time);
    let unused = root + all.len() as u32..root + (chunks * INODES_PER_CHUNK) as u32;
    all.extend(unused.map(|number| inodes.unused(number)));
    sparse(&all.concat())
}

/// Where in the volume the bytes of a file of `len` bytes stand.
fn pieces(geometry: &Geometry, runs: &[Run], len: u64) -> Vec<Range<u64>> {
    let mut rest = len;
    let piece = |run: &Run| {
        let start = geometry.offset(run.group, run.agbno);
        let len = rest.min(u64::from(run.len) * BLOCK);
        rest -= len;
        start..start + len
    };
    runs.iter().map(piece).collect()
}

/// Parts and their offsets as one file, zeros between them.
fn join(mut parts: Vec<(u64, VirtualFile)>, size: u64) -> VirtualFile {
    parts.sort_by_key(|(start, _)| *start);
    let (mut all, mut at) = (Vec::with_capacity(parts.len() * 2 + 1), 0);
    for (start, part) in parts {
        all.push(VirtualFile::zeros(start - at));
        at = start + part.len();
        all.push(part);
    }
    all.push(VirtualFile::zeros(size - at));
    VirtualFile::concat(all)
}
