//! The superblock, which begins every group.

use super::geometry::{BLOCK, BLOCK_LOG, CHUNK, GROUPS, Geometry, INODE, INODES_PER_BLOCK, LOG, LOG_GROUP};
use super::structure::Structure;

/// Version 5 with quotas' and alignment's bits that it always has.
const VERSION: u16 = 0xb4a5;
/// Bit of the version: sectors are not of 512 bytes.
const VERSION_SECTOR: u16 = 0x0800;
/// Features that version 5 always has: lazy counters, attributes of the second form, 32-bit projects, checksums.
const FEATURES2: u32 = 0x18a;
/// Features that readers need not know: free inodes' tree, shared blocks, counts of inodes' blocks.
const READ_ONLY_COMPATIBLE: u32 = 0x1 | 0x4 | 0x8;
/// Features that readers must know: file types in directories, sparse inodes, times beyond 2038.
const INCOMPATIBLE: u32 = 0x1 | 0x2 | 0x8;
/// Percent of the volume that inodes may take.
const INODES_PERCENT: u8 = 25;
/// Blocks to which a sparse chunk of inodes is aligned.
const SPARSE_ALIGNMENT: u32 = 4;

/// What a superblock tells beside the geometry.
pub(super) struct Superblock<'a> {
    pub label: &'a str,
    pub uuid: [u8; 16],
    /// The root directory's inode.
    pub root: u32,
    /// Inodes in all chunks, and those of them that are not in use.
    pub inodes: u64,
    pub free_inodes: u64,
    /// Blocks that are free or kept for trees.
    pub free_blocks: u64,
}

impl Superblock<'_> {
    /// The superblock's sector.
    pub fn bytes(&self, geometry: &Geometry) -> Vec<u8> {
        let (sector, large) = (geometry.sector_size, geometry.sector_size > 512);
        let sector_log = sector.ilog2() as u8;
        let root = u64::from(self.root);
        Structure::new(sector as usize)
            .bytes(0x00, b"XFSB")
            .u32s(0x04, &[BLOCK as u32])
            .u64s(0x08, &[geometry.blocks])
            .bytes(0x20, &self.uuid)
            .u64s(0x30, &[geometry.number(LOG_GROUP, geometry.roots_end())])
            .u64s(0x38, &[root, root + 1, root + 2])
            // One block a real-time extent, though there is none of them.
            .u32s(0x50, &[1, geometry.group, GROUPS, 0, LOG])
            .u16s(0x64, &[VERSION | if large { VERSION_SECTOR } else { 0 }, sector as u16])
            .u16s(0x68, &[INODE as u16, INODES_PER_BLOCK as u16])
            .bytes(0x6c, self.label.as_bytes())
            .bytes(0x78, &[BLOCK_LOG, sector_log, INODE.ilog2() as u8, INODES_PER_BLOCK.ilog2() as u8])
            .bytes(0x7c, &[geometry.group_log() as u8, 0, 0, INODES_PERCENT])
            .u64s(0x80, &[self.inodes, self.free_inodes, self.free_blocks])
            .u32s(0xb4, &[CHUNK])
            // The log's sectors are told only where they are not of 512 bytes.
            .bytes(0xc1, &[if large { sector_log } else { 0 }])
            .u16s(0xc2, &[if large { sector as u16 } else { 0 }])
            .u32s(0xc4, &[if large { sector } else { 1 }])
            .u32s(0xc8, &[FEATURES2, FEATURES2])
            .u32s(0xd4, &[READ_ONLY_COMPATIBLE, INCOMPATIBLE])
            .u32s(0xe4, &[SPARSE_ALIGNMENT])
            .sealed(0xe0)
    }
}
