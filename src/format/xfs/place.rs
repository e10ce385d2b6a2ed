//! Which blocks each file takes.

use super::geometry::{GROUPS, Geometry};

/// The most blocks of an extent: their number has 21 bits.
const EXTENT_MAX: u32 = (1 << 21) - 1;

/// Blocks of a file that follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub group: u32,
    pub agbno: u32,
    pub len: u32,
}

/// What is left of the groups: one run each.
#[derive(Clone, Debug)]
pub(super) struct Room {
    next: [u32; GROUPS as usize],
    end: [u32; GROUPS as usize],
}

impl Room {
    /// All that is behind the fixed parts and the chunks of inodes, which end at `inodes_end` in the first group.
    pub fn new(geometry: &Geometry, inodes_end: u32) -> Self {
        let (mut next, mut end) = ([0; GROUPS as usize], [0; GROUPS as usize]);
        for group in 0..GROUPS {
            next[group as usize] = if group == 0 { inodes_end } else { geometry.fixed_end(group) };
            end[group as usize] = geometry.files_end(group);
        }
        Self { next, end }
    }

    /// The first agbno of a group that no file has.
    pub fn next(&self, group: u32) -> u32 {
        self.next[group as usize]
    }

    /// Blocks left in all groups.
    pub fn left(&self) -> u64 {
        (0..GROUPS).map(|group| u64::from(self.left_in(group))).sum()
    }

    fn left_in(&self, group: u32) -> u32 {
        self.end[group as usize].saturating_sub(self.next[group as usize])
    }

    /// Takes blocks for a file, no more than are left: from the first group that has enough, else from as few as
    /// possible.
    pub fn take(&mut self, blocks: u64) -> Vec<Run> {
        let mut groups: Vec<u32> = (0..GROUPS).collect();
        match groups.iter().find(|group| u64::from(self.left_in(**group)) >= blocks) {
            Some(group) => groups = vec![*group],
            None => groups.sort_by_key(|group| std::cmp::Reverse(self.left_in(*group))),
        }
        let (mut runs, mut rest) = (Vec::new(), blocks);
        for group in groups {
            while rest > 0 && self.left_in(group) > 0 {
                let len = rest.min(self.left_in(group).min(EXTENT_MAX).into()) as u32;
                runs.push(Run { group, agbno: self.next(group), len });
                self.next[group as usize] += len;
                rest -= u64::from(len);
            }
        }
        runs
    }
}
