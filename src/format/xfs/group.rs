//! What begins a group beside the superblock: three headers, and the trees, each of which is a root only.

use super::geometry::{BLOCK, CHUNK, FREE_LIST, Geometry, INODES_PER_BLOCK, INODES_PER_CHUNK};
use super::structure::Structure;

/// "There is none".
const NONE: u32 = u32::MAX;
/// Lists of unlinked inodes that a group has.
const UNLINKED: usize = 64;
/// Bytes before the records of a tree's block.
const TREE_HEADER: usize = 56;
/// Bytes of the record of a chunk of inodes.
const CHUNK_RECORD: usize = 16;
/// Chunks of inodes that one block of a tree records.
pub(super) const CHUNKS_MAX: usize = (BLOCK as usize - TREE_HEADER) / CHUNK_RECORD;

/// What a group holds.
pub(super) struct Group<'a> {
    pub geometry: &'a Geometry,
    pub uuid: [u8; 16],
    pub number: u32,
    /// Inodes in use: they fill chunks from the first on. Only the first group has any.
    pub inodes: usize,
    /// The first agbno behind all that is in use.
    pub used_end: u32,
}

impl Group<'_> {
    /// Free runs of blocks, as agbno and length, sorted by agbno: what is behind all that is in use; and, in the group
    /// with inodes, what their alignment leaves.
    fn free_runs(&self) -> Vec<(u32, u32)> {
        let fixed_end = self.geometry.fixed_end(self.number);
        let inodes = if self.inodes > 0 { self.geometry.inodes() } else { fixed_end };
        let tail = (self.used_end, self.geometry.group_len(self.number) - self.used_end);
        [(fixed_end, inodes - fixed_end), tail].into_iter().filter(|(_, len)| *len > 0).collect()
    }

    /// How many blocks are free or kept for trees.
    pub fn free_blocks(&self) -> u64 {
        let free = self.free_runs().into_iter().map(|(_, len)| u64::from(len));
        u64::from(FREE_LIST) + free.sum::<u64>()
    }

    fn chunks(&self) -> usize {
        self.inodes.div_ceil(INODES_PER_CHUNK)
    }

    /// The sectors behind the superblock's.
    pub fn headers(&self) -> [Vec<u8>; 3] {
        [self.free_space(), self.inode_header(), self.free_list()]
    }

    /// The header of free space ("AGF").
    fn free_space(&self) -> Vec<u8> {
        let (geometry, free) = (self.geometry, self.free_runs());
        let root = geometry.roots();
        let longest = free.iter().map(|(_, len)| *len).max().unwrap_or(0);
        let blocks = free.iter().map(|(_, len)| *len).sum();
        Structure::new(geometry.sector_size as usize)
            .bytes(0x00, b"XAGF")
            .u32s(0x04, &[1, self.number, geometry.group_len(self.number)])
            // Roots and levels of the trees by start and by length, without one of reverse mapping.
            .u32s(0x10, &[root, root + 1, 0])
            .u32s(0x1c, &[1, 1, 0])
            .u32s(0x28, &[1, FREE_LIST, FREE_LIST, blocks, longest, 0]) // the kept blocks' first, last, number
            .bytes(0x40, &self.uuid)
            .u32s(0x50, &[0, 1, root + 4, 1]) // the tree of shared blocks: blocks, root, levels
            .sealed(0xd8)
    }

    /// The header of inodes ("AGI").
    fn inode_header(&self) -> Vec<u8> {
        let (geometry, chunks) = (self.geometry, self.chunks());
        let root = geometry.roots() + 2;
        let count = (chunks * INODES_PER_CHUNK) as u32;
        let newest = chunks.checked_sub(1).map_or(NONE, |last| self.first_inode(last));
        Structure::new(geometry.sector_size as usize)
            .bytes(0x00, b"XAGI")
            .u32s(0x04, &[1, self.number, geometry.group_len(self.number)])
            .u32s(0x10, &[count, root, 1, count - self.inodes as u32, newest, NONE])
            .u32s(0x28, &[NONE; UNLINKED])
            .bytes(0x128, &self.uuid)
            .u32s(0x148, &[root + 1, 1, 1, 1]) // the tree of free inodes, and how many blocks both trees have
            .sealed(0x138)
    }

    /// The blocks kept for trees ("AGFL"): slots from the second on are in use.
    fn free_list(&self) -> Vec<u8> {
        let sector = self.geometry.sector_size as usize;
        let first = self.geometry.free_list(self.number);
        let mut slots = vec![NONE; (sector - 0x24) / 4];
        for (slot, agbno) in slots.iter_mut().skip(1).zip(first..first + FREE_LIST) {
            *slot = agbno;
        }
        Structure::new(sector)
            .bytes(0x00, b"XAFL")
            .u32s(0x04, &[self.number])
            .bytes(0x08, &self.uuid)
            .u32s(0x24, &slots)
            .sealed(0x20)
    }

    /// The roots of all trees, a block each.
    pub fn trees(&self) -> [Vec<u8>; 5] {
        let by_start = self.free_runs();
        let mut by_len = by_start.clone();
        by_len.sort_by_key(|(start, len)| (*len, *start));
        let runs = |runs: Vec<(u32, u32)>| runs.into_iter().map(|(start, len)| [start, len]).collect::<Vec<_>>();
        let chunks: Vec<_> = (0..self.chunks()).map(|chunk| self.chunk(chunk)).collect();
        let with_free: Vec<_> = chunks.iter().copied().filter(|[_, counts, ..]| counts & 0xff != 0).collect();
        [
            self.tree(0, b"AB3B", &runs(by_start)),
            self.tree(1, b"AB3C", &runs(by_len)),
            self.tree(2, b"IAB3", &chunks),
            self.tree(3, b"FIB3", &with_free),
            self.tree::<3>(4, b"R3FC", &[]),
        ]
    }

    /// The first inode of a chunk.
    fn first_inode(&self, chunk: usize) -> u32 {
        (self.geometry.inodes() + chunk as u32 * CHUNK) * INODES_PER_BLOCK
    }

    /// The record of a chunk: first inode; holes (none), number of inodes, of free ones; a bit for each that is free.
    fn chunk(&self, chunk: usize) -> [u32; 4] {
        let used = (self.inodes - chunk * INODES_PER_CHUNK).min(INODES_PER_CHUNK);
        let free = INODES_PER_CHUNK - used;
        let mask = u64::MAX.checked_shl(used as u32).unwrap_or(0);
        let counts = (INODES_PER_CHUNK << 8 | free) as u32;
        [self.first_inode(chunk), counts, (mask >> 32) as u32, mask as u32]
    }

    /// The root of a tree that has no other block.
    fn tree<const WORDS: usize>(&self, index: u32, magic: &[u8; 4], records: &[[u32; WORDS]]) -> Vec<u8> {
        let address = self.geometry.offset(self.number, self.geometry.roots() + index) / 512;
        Structure::new(BLOCK as usize)
            .bytes(0x00, magic)
            .u16s(0x04, &[0, records.len() as u16])
            .u32s(0x08, &[NONE, NONE]) // neighbours
            .u64s(0x10, &[address])
            .bytes(0x20, &self.uuid)
            .u32s(0x30, &[self.number])
            .u32s(TREE_HEADER, records.as_flattened())
            .sealed(0x34)
    }
}
