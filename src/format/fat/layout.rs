//! From a tree to a volume: which clusters each file takes, then all bytes in order.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::directory::{ARCHIVE, DIRECTORY, LABEL, READ_ONLY, Stamp, entry, long_entries};
use super::geometry::{Geometry, ROOT_ENTRIES_FAT16};
use super::name::{BadName, Name, names};
use super::table::{Run, table};
use super::{ENTRY, FIRST_CLUSTER, FatError, Format, Options, Volume, boot};
use crate::format::tree::{FileTree, Kind};
use crate::virtual_file::VirtualFile;

/// The most entries of a directory: 2 MiB of them.
const ENTRIES_MAX: usize = 65_536;
/// Names of a directory itself and of the one above it.
const SELF: &[u8; 11] = b".          ";
const PARENT: &[u8; 11] = b"..         ";
/// Bits of a mode that let anybody write.
const WRITE: u16 = 0o222;

/// A file or directory on its way into the volume. Item 0 is the root.
struct Item<'a> {
    path: &'a str,
    read_only: bool,
    /// A file's bytes, or a directory's items.
    contents: Contents,
    /// The item of the directory above.
    parent: usize,
    run: Option<Run>,
}

enum Contents {
    File(VirtualFile),
    Directory { items: Vec<usize>, names: Vec<Name> },
}

impl Item<'_> {
    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }
}

/// Lays out a volume that holds a tree.
///
/// Directories and files stand in the tree's order, each in one run of clusters. A file whose mode lets nobody write has
/// the attribute "read-only"; owners, labels and links are unknown to the format: each name of a file has bytes of its own.
///
/// # Errors
/// [`FatError`].
pub fn lay_out(tree: &FileTree, options: &Options<'_>) -> Result<Volume, FatError> {
    let label = label(options.label)?;
    let geometry = Geometry::new(options)?;
    let mut items = items(tree)?;
    name_entries(&mut items)?;
    place(&mut items, &geometry, options)?;
    let runs: Vec<Run> = items.iter().filter_map(|item| item.run).collect();
    let free = geometry.clusters - runs.iter().map(|run| run.len).sum::<u64>();
    let next = first_free(&runs, geometry.clusters);
    let table = table(geometry.format, &runs, u64::from(geometry.table) * u64::from(geometry.sector_size));
    let reserved = boot::reserved(&geometry, &label, options.serial, free, next);
    let mut parts = vec![reserved, table.clone(), table];
    let stamp = Stamp::new(options.mtime);
    let mut offsets = BTreeMap::new();
    if geometry.format == Format::Fat16 {
        let root = directory(&items, 0, &label, stamp);
        let rest = u64::from(geometry.root) * u64::from(geometry.sector_size) - root.len();
        parts.extend([root, VirtualFile::zeros(rest)]);
    }
    let mut at = geometry.data_offset();
    for (index, item) in items.iter().enumerate() {
        let Some(run) = item.run else { continue };
        let contents = match &item.contents {
            Contents::File(file) => {
                offsets.insert(item.path.to_owned(), geometry.offset(run.first));
                file.clone()
            }
            Contents::Directory { .. } => directory(&items, index, &label, stamp),
        };
        let start = geometry.offset(run.first);
        parts.push(VirtualFile::zeros(start - at));
        at = start + contents.len();
        parts.push(contents);
    }
    parts.push(VirtualFile::zeros(options.size - at));
    Ok(Volume {
        image: VirtualFile::concat(parts),
        offsets,
        format: geometry.format,
        cluster_size: geometry.cluster_size(),
        clusters: geometry.clusters,
    })
}

fn label(text: &str) -> Result<[u8; 11], FatError> {
    let valid = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || " _-".contains(c);
    let mut label = [b' '; 11];
    if text.is_empty() || text.len() > label.len() || text.starts_with(' ') || !text.chars().all(valid) {
        return Err(FatError::Label(text.to_owned()));
    }
    label[..text.len()].copy_from_slice(text.as_bytes());
    Ok(label)
}

/// The tree's nodes as items, in its order, behind the root.
fn items(tree: &FileTree) -> Result<Vec<Item<'_>>, FatError> {
    let directory = || Contents::Directory { items: Vec::new(), names: Vec::new() };
    let mut items = vec![Item { path: "", read_only: false, contents: directory(), parent: 0, run: None }];
    // The directories above the node at hand, the root first.
    let mut above = vec![0];
    for (path, node) in tree.iter() {
        let lossy = || String::from_utf8_lossy(path).into_owned();
        let path = str::from_utf8(path).map_err(|_| FatError::Name { path: lossy(), what: "is no UTF-8" })?;
        let contents = match &node.kind {
            Kind::Directory => directory(),
            Kind::File(file) if u32::try_from(file.len()).is_err() => {
                return Err(FatError::TooLong { path: path.to_owned(), len: file.len() });
            }
            Kind::File(file) => Contents::File(file.clone()),
            _ => return Err(FatError::Kind { path: path.to_owned() }),
        };
        above.truncate(1 + path.matches('/').count());
        let (parent, index) = (above.last().copied().unwrap_or(0), items.len());
        if let Contents::Directory { items, .. } = &mut items[parent].contents {
            items.push(index);
        }
        above.push(index);
        items.push(Item { path, read_only: node.mode & WRITE == 0, contents, parent, run: None });
    }
    Ok(items)
}

/// Gives the items of each directory their names.
fn name_entries(items: &mut [Item<'_>]) -> Result<(), FatError> {
    for index in 0..items.len() {
        let Contents::Directory { items: inside, .. } = &items[index].contents else { continue };
        let path = |at: usize| items[inside[at]].path.to_owned();
        let found = names(&inside.iter().map(|item| items[*item].name()).collect::<Vec<_>>());
        let found = found.map_err(|bad| match bad {
            BadName::Invalid(at, what) => FatError::Name { path: path(at), what },
            BadName::Clash(at, other) => FatError::Clash { path: path(at), other: path(other) },
        })?;
        if let Contents::Directory { names, .. } = &mut items[index].contents {
            *names = found;
        }
    }
    Ok(())
}

/// Gives each item its clusters.
fn place(items: &mut [Item<'_>], geometry: &Geometry, options: &Options<'_>) -> Result<(), FatError> {
    let cluster_size = u64::from(geometry.cluster_size());
    let step = (u64::from(options.alignment) / cluster_size).max(1);
    let mut end: u64 = 0;
    for (index, item) in items.iter_mut().enumerate() {
        let in_clusters = index > 0 || geometry.format == Format::Fat32;
        let (len, first) = match &item.contents {
            Contents::File(file) => (file.len(), end.next_multiple_of(step)),
            Contents::Directory { names, .. } => {
                let entries = names.iter().map(Name::entries).sum::<usize>() + if index == 0 { 1 } else { 2 };
                let most = if in_clusters { ENTRIES_MAX } else { ROOT_ENTRIES_FAT16 };
                if entries > most {
                    return Err(FatError::Entries { path: item.path.to_owned(), entries, most });
                }
                (if in_clusters { (entries * ENTRY) as u64 } else { 0 }, end)
            }
        };
        if len > 0 {
            let run = Run { first: FIRST_CLUSTER + first, len: len.div_ceil(cluster_size) };
            item.run = Some(run);
            end = first + run.len;
        }
    }
    if end > geometry.clusters {
        let (needed, available) = (end * cluster_size, geometry.clusters * cluster_size);
        return Err(FatError::Full { size: options.size, needed, available });
    }
    Ok(())
}

/// The lowest cluster that no run holds, if there is one.
fn first_free(runs: &[Run], clusters: u64) -> Option<u64> {
    let mut next = FIRST_CLUSTER;
    for run in runs {
        if next < run.first {
            break;
        }
        next = run.end();
    }
    (next < FIRST_CLUSTER + clusters).then_some(next)
}

/// The entries of a directory.
fn directory(items: &[Item<'_>], index: usize, label: &[u8; 11], stamp: Stamp) -> VirtualFile {
    let first = |item: &Item<'_>| item.run.map_or(0, |run| run.first);
    let mut out = Vec::new();
    if index == 0 {
        entry(&mut out, label, LABEL, stamp, 0, 0);
    } else {
        entry(&mut out, SELF, DIRECTORY, stamp, first(&items[index]), 0);
        // Cluster 0 stands for the root, wherever it is.
        let parent = items[index].parent;
        entry(&mut out, PARENT, DIRECTORY, stamp, if parent == 0 { 0 } else { first(&items[parent]) }, 0);
    }
    let Contents::Directory { items: inside, names } = &items[index].contents else { return VirtualFile::empty() };
    for (item, name) in inside.iter().map(|item| &items[*item]).zip(names) {
        long_entries(&mut out, name);
        let (attributes, len) = match &item.contents {
            Contents::Directory { .. } => (DIRECTORY, 0),
            Contents::File(file) => (ARCHIVE | if item.read_only { READ_ONLY } else { 0 }, file.len() as u32),
        };
        entry(&mut out, &name.short, attributes, stamp, first(item), len);
    }
    VirtualFile::inline(Bytes::from(out))
}
