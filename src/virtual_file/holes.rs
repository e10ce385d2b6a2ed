//! Where a file holds something else than zeros, as far as its extents tell.

use std::ops::Range;

use super::{Extent, VirtualFile};

impl Extent {
    /// The byte that the whole extent repeats, if that can be seen without reading a blob.
    pub fn uniform(&self) -> Option<u8> {
        let same = |bytes: &[u8]| bytes.first().copied().filter(|first| bytes.iter().all(|byte| byte == first));
        match self {
            Self::Inline(bytes) => same(bytes),
            Self::Repeat { unit, .. } => same(unit),
            Self::Count { first: 0, step: 0, .. } => Some(0),
            _ => None,
        }
    }
}

impl VirtualFile {
    /// The ranges that hold data, in order and apart from one another. They begin at multiples of `unit` bytes and end
    /// at such or at the end; all between them are zeros. `unit` must not be 0.
    pub fn data(&self, unit: u64) -> Vec<Range<u64>> {
        let (mut ranges, mut start): (Vec<Range<u64>>, u64) = (Vec::new(), 0);
        for extent in self.extents() {
            let end = start + extent.len();
            if extent.uniform() != Some(0) {
                let (from, to) = (start - start % unit, end.next_multiple_of(unit).min(self.len()));
                match ranges.last_mut() {
                    Some(last) if from <= last.end => last.end = to,
                    _ => ranges.push(from..to),
                }
            }
            start = end;
        }
        ranges
    }
}
