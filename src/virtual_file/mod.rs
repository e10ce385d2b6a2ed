//! The core type: a file that is an expression over content-addressed blobs.
//!
//! A [`VirtualFile`] is a list of [`Extent`]s with running offsets. Its length is known at once and any range of it can
//! be read at once; nothing is ever built. Bytes of blobs come from a [`ReadBlob`].

mod codec;
mod count;
mod read;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::types::Digest;

pub use codec::DecodeError;
pub use count::{Endian, Width};
pub use read::{Pieces, ReadBlob, ReadError, Reader};

/// A run of bytes of a virtual file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Extent {
    /// The bytes themselves: headers, tables, small files.
    Inline(Bytes),
    /// A range of a blob.
    Blob {
        /// The blob's digest.
        digest: Digest,
        /// First byte of the range in the blob.
        offset: u64,
        /// Length of the range in bytes.
        len: u64,
    },
    /// `unit`, written `times` times: padding and holes.
    Repeat {
        /// What is repeated; never empty.
        unit: Bytes,
        /// How often.
        times: u64,
    },
    /// The numbers `first`, `first + step`, ... cut to `width` bytes each: allocation chains, tables of offsets.
    Count {
        /// The first number.
        first: u64,
        /// What each number is more than the one before it.
        step: u64,
        /// Bytes a number.
        width: Width,
        /// Byte order of each number.
        endian: Endian,
        /// How many numbers.
        times: u64,
    },
}

impl Extent {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Blob { len, .. } => *len,
            Self::Repeat { unit, times } => unit.len() as u64 * times,
            Self::Count { width, times, .. } => u64::from(width.bytes()) * times,
        }
    }

    /// Whether the extent holds no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An immutable file made of extents; cheap to clone.
///
/// Two files with one content may differ in extents; equality is that of the canonical extent list: no empty extent,
/// neighbours that continue one another are joined.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct VirtualFile {
    extents: Arc<[Extent]>,
    /// Where each extent ends, in bytes from the start of the file.
    ends: Arc<[u64]>,
}

/// Zeros that padding borrows from.
static ZERO: [u8; 1] = [0];

impl VirtualFile {
    /// A file of no bytes.
    pub fn empty() -> Self {
        Self::default()
    }

    /// A file of these bytes, held inline.
    pub fn inline(bytes: impl Into<Bytes>) -> Self {
        Self::from_extents([Extent::Inline(bytes.into())])
    }

    /// A whole blob of `len` bytes.
    pub fn blob(digest: Digest, len: u64) -> Self {
        Self::from_extents([Extent::Blob { digest, offset: 0, len }])
    }

    /// `len` zero bytes.
    pub fn zeros(len: u64) -> Self {
        Self::repeat(Bytes::from_static(&ZERO), len)
    }

    /// `unit`, `times` times over.
    pub fn repeat(unit: impl Into<Bytes>, times: u64) -> Self {
        Self::from_extents([Extent::Repeat { unit: unit.into(), times }])
    }

    /// The numbers `first`, `first + step`, ..., `times` of them, cut to `width` bytes each.
    pub fn count(first: u64, step: u64, width: Width, endian: Endian, times: u64) -> Self {
        Self::from_extents([Extent::Count { first, step, width, endian, times }])
    }

    /// The files one after another.
    pub fn concat(files: impl IntoIterator<Item = Self>) -> Self {
        let files: Vec<Self> = files.into_iter().collect();
        Self::from_extents(files.iter().flat_map(|file| file.extents.iter().cloned()))
    }

    /// Makes the canonical extent list out of any.
    pub fn from_extents(extents: impl IntoIterator<Item = Extent>) -> Self {
        let mut joined: Vec<Extent> = Vec::new();
        // Inline neighbours are gathered first and joined once, so that many small ones cost no more than their sum.
        let mut run: Vec<Bytes> = Vec::new();
        for extent in extents {
            match extent {
                _ if extent.is_empty() => {}
                Extent::Inline(bytes) => run.push(bytes),
                Extent::Count { first, step, width, endian, times } => {
                    flush(&mut run, &mut joined);
                    let (first, step) = (width.mask(first), width.mask(step));
                    push_joined(&mut joined, Extent::Count { first, step, width, endian, times });
                }
                other => {
                    flush(&mut run, &mut joined);
                    push_joined(&mut joined, other);
                }
            }
        }
        flush(&mut run, &mut joined);
        let mut end = 0;
        let ends = joined
            .iter()
            .map(|extent| {
                end += extent.len();
                end
            })
            .collect();
        Self { extents: joined.into(), ends }
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Whether the file holds no byte.
    pub fn is_empty(&self) -> bool {
        self.extents.is_empty()
    }

    /// The canonical extents in order.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// The part of the file inside `range`; what lies behind the end is left out.
    pub fn slice(&self, range: Range<u64>) -> Self {
        Self::from_extents(self.parts(range))
    }

    /// The extent that holds the byte `at`, and which of its bytes that is.
    fn at(&self, at: u64) -> Option<(&Extent, u64)> {
        let index = self.ends.partition_point(|end| *end <= at);
        let extent = self.extents.get(index)?;
        Some((extent, at - (self.ends[index] - extent.len())))
    }

    /// The extents that cover `range`, cut to it.
    fn parts(&self, range: Range<u64>) -> impl Iterator<Item = Extent> + '_ {
        let range = range.start..range.end.min(self.len());
        let first = self.ends.partition_point(|end| *end <= range.start);
        self.extents[first.min(self.extents.len())..]
            .iter()
            .zip(self.ends[first.min(self.ends.len())..].iter())
            .map_while(move |(extent, end)| {
                let start = end - extent.len();
                (start < range.end && range.start < range.end).then(|| {
                    let from = range.start.max(start) - start;
                    let to = range.end.min(*end) - start;
                    cut(extent, from..to)
                })
            })
            .flatten()
    }
}

/// The extents that stand for `range` of one extent: one, or three where a range cuts into repeated units.
fn cut(extent: &Extent, range: Range<u64>) -> Vec<Extent> {
    match extent {
        Extent::Inline(bytes) => vec![Extent::Inline(bytes.slice(range.start as usize..range.end as usize))],
        Extent::Blob { digest, offset, .. } => {
            vec![Extent::Blob { digest: *digest, offset: offset + range.start, len: range.end - range.start }]
        }
        Extent::Repeat { unit, .. } => {
            let whole = |_, times| Extent::Repeat { unit: unit.clone(), times };
            cut_units(unit.len(), range, |_, part| unit.slice(part), whole)
        }
        Extent::Count { first, step, width, endian, .. } => {
            let number = |index: u64| first.wrapping_add(step.wrapping_mul(index));
            let part = |index, part: Range<usize>| {
                let mut bytes = vec![0; part.len()];
                count::fill(number(index), *step, *width, *endian, part.start as u64, &mut bytes);
                bytes.into()
            };
            let whole = |index, times| Extent::Count {
                first: number(index),
                step: *step,
                width: *width,
                endian: *endian,
                times,
            };
            cut_units(usize::from(width.bytes()), range, part, whole)
        }
    }
}

/// Cuts a row of units of `size` bytes: the end of a unit, whole units, the beginning of one.
///
/// `part` gives bytes of the unit of an index, `whole` the extent of as many units from an index on.
fn cut_units(
    size: usize,
    range: Range<u64>,
    part: impl Fn(u64, Range<usize>) -> Bytes,
    whole: impl Fn(u64, u64) -> Extent,
) -> Vec<Extent> {
    let unit = size as u64;
    let (first, last) = (range.start / unit, (range.end - 1) / unit);
    let (head, tail) = ((range.start % unit) as usize, ((range.end - 1) % unit + 1) as usize);
    if first == last && tail - head != size {
        return vec![Extent::Inline(part(first, head..tail))];
    }
    let whole_from = if head == 0 { first } else { first + 1 };
    let whole_to = if tail == size { last + 1 } else { last };
    let mut parts = Vec::with_capacity(3);
    if head != 0 {
        parts.push(Extent::Inline(part(first, head..size)));
    }
    parts.push(whole(whole_from, whole_to - whole_from));
    if tail != size {
        parts.push(Extent::Inline(part(last, 0..tail)));
    }
    parts
}

/// Joins the gathered inline bytes into one extent.
fn flush(run: &mut Vec<Bytes>, joined: &mut Vec<Extent>) {
    match run.len() {
        0 => {}
        1 => joined.extend(run.pop().map(Extent::Inline)),
        _ => joined.push(Extent::Inline(run.drain(..).flatten().collect::<Vec<u8>>().into())),
    }
}

/// Appends `extent`, or lengthens the last one where it continues it.
fn push_joined(joined: &mut Vec<Extent>, extent: Extent) {
    match (joined.last_mut(), &extent) {
        (Some(Extent::Blob { digest, offset, len }), Extent::Blob { digest: d, offset: o, len: l })
            if digest == d && *offset + *len == *o =>
        {
            *len += l;
        }
        (Some(Extent::Repeat { unit, times }), Extent::Repeat { unit: u, times: t }) if unit == u => *times += t,
        (
            Some(Extent::Count { first, step, width, endian, times }),
            Extent::Count { first: f, step: s, width: w, endian: e, times: t },
        ) if (&*step, &*width, &*endian) == (s, w, e)
            && width.mask(first.wrapping_add(step.wrapping_mul(*times))) == *f =>
        {
            *times += t;
        }
        _ => joined.push(extent),
    }
}

#[cfg(test)]
mod tests;
