//! Where what is, by the volume's size and sector size alone.

use super::XfsError;

/// Bytes a block.
pub(super) const BLOCK: u64 = 4096;
/// Base-2 logarithm of a block's bytes.
pub(super) const BLOCK_LOG: u8 = 12;
/// Bytes an inode.
pub(super) const INODE: usize = 512;
/// Inodes a block.
pub(super) const INODES_PER_BLOCK: u32 = 8;
/// Inodes a chunk, the unit in which they are made and recorded.
pub(super) const INODES_PER_CHUNK: usize = 64;
/// Blocks a chunk of inodes.
pub(super) const CHUNK: u32 = INODES_PER_CHUNK as u32 / INODES_PER_BLOCK;
/// Allocation groups of a volume.
pub(super) const GROUPS: u32 = 4;
/// The group that holds the log.
pub(super) const LOG_GROUP: u32 = GROUPS / 2;
/// Length of the log in blocks: 64 MiB, as `mkfs.xfs` has it for volumes up to 128 GiB.
pub(super) const LOG: u32 = 16_384;
/// Free blocks that each group keeps for the growth of its B+trees.
pub(super) const FREE_LIST: u32 = 4;
/// Which part of each group files leave free, so that Linux can reserve what its metadata may need.
const KEPT_FREE: u32 = 32;

/// The least volume, in bytes: smaller ones `mkfs.xfs` and Linux call unsupported.
pub const SIZE_MIN: u64 = 300 << 20;
/// The largest volume, in bytes: groups end at 1 TiB.
pub const SIZE_MAX: u64 = (GROUPS as u64) << 40;

/// Where what is; in blocks where nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Bytes a sector.
    pub sector_size: u32,
    /// All blocks of the volume.
    pub blocks: u64,
    /// Blocks of a group.
    pub group: u32,
}

impl Geometry {
    /// # Errors
    /// Sizes that the format does not have.
    pub fn new(size: u64, sector_size: u32) -> Result<Self, XfsError> {
        if ![512, 4096].contains(&sector_size) {
            return Err(XfsError::SectorSize(sector_size));
        }
        if !(SIZE_MIN..=SIZE_MAX).contains(&size) || !size.is_multiple_of(u64::from(sector_size)) {
            return Err(XfsError::Size { size, sector_size });
        }
        let blocks = size / BLOCK;
        Ok(Self { sector_size, blocks, group: blocks.div_ceil(u64::from(GROUPS)) as u32 })
    }

    /// Blocks of a group of a number; the last may be shorter.
    pub fn group_len(&self, group: u32) -> u32 {
        let before = u64::from(group) * u64::from(self.group);
        u64::from(self.group).min(self.blocks - before) as u32
    }

    /// Bits of an agbno within the number of a block.
    pub fn group_log(&self) -> u32 {
        (self.group - 1).ilog2() + 1
    }

    /// The number of a block among all of the volume: not a distance, since groups begin at powers of two.
    pub fn number(&self, group: u32, agbno: u32) -> u64 {
        u64::from(group) << self.group_log() | u64::from(agbno)
    }

    /// Where a block starts in the volume, in bytes.
    pub fn offset(&self, group: u32, agbno: u32) -> u64 {
        (u64::from(group) * u64::from(self.group) + u64::from(agbno)) * BLOCK
    }

    /// The agbno of the first tree's root: behind four headers of a sector each.
    pub fn roots(&self) -> u32 {
        (u64::from(self.sector_size) * 4).div_ceil(BLOCK) as u32
    }

    /// The agbno behind the roots of all trees: free space by start and by length, inodes, free inodes, shared blocks.
    pub fn roots_end(&self) -> u32 {
        self.roots() + 5
    }

    /// The agbno of the blocks kept for trees: behind the log where there is one.
    pub fn free_list(&self, group: u32) -> u32 {
        self.roots_end() + if group == LOG_GROUP { LOG } else { 0 }
    }

    /// The agbno behind all that a group has by itself.
    pub fn fixed_end(&self, group: u32) -> u32 {
        self.free_list(group) + FREE_LIST
    }

    /// The agbno of the first inode, the root directory's, in the first group: programs that repair expect it here.
    pub fn inodes(&self) -> u32 {
        self.fixed_end(0).next_multiple_of(CHUNK)
    }

    /// The agbno that no file reaches.
    pub fn files_end(&self, group: u32) -> u32 {
        self.group_len(group) - self.group / KEPT_FREE
    }
}
