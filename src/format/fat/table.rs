//! The allocation table: for each cluster the one that follows it in its file.

use super::{FIRST_CLUSTER, Format};
use crate::virtual_file::{Endian, VirtualFile, Width};

/// A run of clusters that holds one file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Its first cluster.
    pub first: u64,
    /// How many clusters; never 0.
    pub len: u64,
}

impl Run {
    /// The first cluster behind it.
    pub fn end(self) -> u64 {
        self.first + self.len
    }
}

/// Chains of up to as many clusters stand in the layout themselves, together with their neighbours.
const SHORT: u64 = 8;

/// One table of `len` bytes that holds the runs, which come in ascending order.
pub(super) fn table(format: Format, runs: &[Run], len: u64) -> VirtualFile {
    let (width, last, medium) = match format {
        Format::Fat16 => (Width::U16, 0xffff, 0xfff8),
        Format::Fat32 => (Width::U32, 0x0fff_ffff, 0x0fff_fff8),
    };
    let number = |value: u64| VirtualFile::inline(value.to_le_bytes()[..usize::from(width.bytes())].to_vec());
    let free = |count: u64| VirtualFile::zeros(count * u64::from(width.bytes()));
    // The first two entries belong to no cluster: kind of medium; "unmounted in good order".
    let mut parts = vec![number(medium), number(last)];
    let mut next = FIRST_CLUSTER;
    for run in runs {
        if run.first > next {
            parts.push(free(run.first - next));
        }
        if run.len <= SHORT {
            parts.extend((run.first + 1..run.end()).map(number));
        } else {
            parts.push(VirtualFile::count(run.first + 1, 1, width, Endian::Little, run.len - 1));
        }
        parts.push(number(last));
        next = run.end();
    }
    parts.push(free((len / u64::from(width.bytes())).saturating_sub(next)));
    VirtualFile::concat(parts)
}
