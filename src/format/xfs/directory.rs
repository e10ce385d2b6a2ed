//! Directories short enough to stand in their inodes.

/// Where the first entry would stand in a block of its own, had the directory one.
const FIRST_OFFSET: usize = 0x60;
/// What a directory takes beside its entries, and an entry beside its name, in bytes.
const HEADER: usize = 6;
const ENTRY: usize = 8;
/// What an entry would take in a block beside its name, in bytes.
const BLOCK_ENTRY: usize = 12;

/// What an entry stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileType {
    File = 1,
    Directory = 2,
}

/// Length of a directory in bytes.
pub(super) fn directory_len<'a>(names: impl Iterator<Item = &'a str>) -> usize {
    HEADER + names.map(|name| ENTRY + name.len()).sum::<usize>()
}

/// A directory of entries with their names and inodes. Neither their number nor their offsets overflow in what fits into
/// an inode.
pub(super) fn directory<'a>(parent: u32, entries: impl Iterator<Item = (&'a str, FileType, u32)>) -> Vec<u8> {
    let mut out = vec![0; 2];
    out.extend_from_slice(&parent.to_be_bytes());
    let (mut count, mut offset) = (0u8, FIRST_OFFSET);
    for (name, file_type, inode) in entries {
        out.push(name.len() as u8);
        out.extend_from_slice(&(offset as u16).to_be_bytes());
        out.extend_from_slice(name.as_bytes());
        out.push(file_type as u8);
        out.extend_from_slice(&inode.to_be_bytes());
        offset += (BLOCK_ENTRY + name.len()).next_multiple_of(8);
        count += 1;
    }
    // The second byte counts inode numbers of eight bytes: there are none.
    out[0] = count;
    out
}
