//! The core type: a file that is an expression over content-addressed blobs.
//!
//! A [`VirtualFile`] is a list of [`Extent`]s with running offsets. Its length is known at once and any range of it can
//! be read at once; nothing is ever built. Bytes of blobs come from a [`ReadBlob`].

mod codec;
mod coder;
mod count;
mod holes;
mod outline;
mod read;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::types::Digest;

pub use codec::DecodeError;
pub use coder::Coder;
pub use count::{Endian, Width};
pub use outline::{Outline, Parts};
pub use read::{NoBlobs, Pieces, ReadBlob, ReadError, Reader};

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
    /// `source` in blocks, each behind the same header: stored blocks of compressed streams.
    Framed {
        /// What stands before each block; never empty.
        header: Bytes,
        /// Bytes a block; never 0.
        block: u64,
        /// The blocks' contents: a whole number of blocks.
        source: VirtualFile,
    },
    /// A range of what a coder makes of `source`: bytes that depend on contents, made as they are read.
    Coded {
        /// What makes them.
        coder: Coder,
        /// What they are made of.
        source: VirtualFile,
        /// Which of the coded bytes.
        range: Range<u64>,
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
            Self::Framed { header, block, source } => (header.len() as u64 + block) * (source.len() / block),
            Self::Coded { range, .. } => range.end - range.start,
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

    /// The blocks of `block` bytes of `source`, each behind `header`; what is left behind the last whole block is left
    /// out. Neither `header` nor `block` may be nothing.
    pub fn framed(header: impl Into<Bytes>, block: u64, source: &Self) -> Self {
        let source = source.slice(0..source.len() - source.len() % block);
        Self::from_extents([Extent::Framed { header: header.into(), block, source }])
    }

    /// What `coder` makes of `source`; a file of no bytes when that is no whole number of the coder's units.
    pub fn coded(coder: Coder, source: Self) -> Self {
        let range = 0..coder.coded_len(source.len()).unwrap_or(0);
        Self::from_extents([Extent::Coded { coder, source, range }])
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

    /// The blobs that are under the file, one time for each place where they are, and up to which byte they are needed.
    pub fn blobs(&self) -> Vec<(Digest, u64)> {
        let under = |extent: &Extent| match extent {
            Extent::Blob { digest, offset, len } => vec![(*digest, offset.saturating_add(*len))],
            Extent::Framed { source, .. } | Extent::Coded { source, .. } => source.blobs(),
            Extent::Inline(_) | Extent::Repeat { .. } | Extent::Count { .. } => Vec::new(),
        };
        self.extents.iter().flat_map(under).collect()
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

/// The extents that stand for `range` of one extent: one, or more where a range cuts into units.
fn cut(extent: &Extent, range: Range<u64>) -> Vec<Extent> {
    let bytes = |bytes: &Bytes, part: Range<u64>| Extent::Inline(bytes.slice(part.start as usize..part.end as usize));
    match extent {
        Extent::Inline(all) => vec![bytes(all, range)],
        Extent::Blob { digest, offset, .. } => {
            vec![Extent::Blob { digest: *digest, offset: offset + range.start, len: range.end - range.start }]
        }
        Extent::Repeat { unit, .. } => {
            let whole = |units: Range<u64>| Extent::Repeat { unit: unit.clone(), times: units.end - units.start };
            cut_units(unit.len() as u64, range, |_, part| vec![bytes(unit, part)], whole)
        }
        Extent::Count { first, step, width, endian, .. } => {
            let number = |index: u64| first.wrapping_add(step.wrapping_mul(index));
            let part = |index, part: Range<u64>| {
                let mut bytes = vec![0; (part.end - part.start) as usize];
                count::fill(number(index), *step, *width, *endian, part.start, &mut bytes);
                vec![Extent::Inline(bytes.into())]
            };
            let whole = |units: Range<u64>| Extent::Count {
                first: number(units.start),
                step: *step,
                width: *width,
                endian: *endian,
                times: units.end - units.start,
            };
            cut_units(u64::from(width.bytes()), range, part, whole)
        }
        Extent::Framed { header, block, source } => {
            let head = header.len() as u64;
            let part = |index: u64, part: Range<u64>| {
                let front = bytes(header, part.start.min(head)..part.end.min(head));
                let inside = |at: u64| index * block + at.saturating_sub(head);
                [front].into_iter().chain(source.parts(inside(part.start)..inside(part.end))).collect()
            };
            let whole = |units: Range<u64>| Extent::Framed {
                header: header.clone(),
                block: *block,
                source: source.slice(units.start * block..units.end * block),
            };
            cut_units(head + block, range, part, whole)
        }
        Extent::Coded { coder, source, range: coded } => {
            let wanted = coded.start + range.start..coded.start + range.end;
            let (coder, source, range) = coder.narrow(source, wanted);
            vec![Extent::Coded { coder, source, range }]
        }
    }
}

/// Cuts a row of units of `unit` bytes: the end of a unit, whole units, the beginning of one.
///
/// `part` gives a range of the unit of an index, `whole` the extent of a range of units.
fn cut_units(
    unit: u64,
    range: Range<u64>,
    part: impl Fn(u64, Range<u64>) -> Vec<Extent>,
    whole: impl Fn(Range<u64>) -> Extent,
) -> Vec<Extent> {
    let (first, last) = (range.start / unit, (range.end - 1) / unit);
    let (head, tail) = (range.start % unit, (range.end - 1) % unit + 1);
    if first == last && tail - head != unit {
        return part(first, head..tail);
    }
    let whole_from = if head == 0 { first } else { first + 1 };
    let whole_to = if tail == unit { last + 1 } else { last };
    let mut parts = Vec::with_capacity(3);
    if head != 0 {
        parts.extend(part(first, head..unit));
    }
    parts.push(whole(whole_from..whole_to));
    if tail != unit {
        parts.extend(part(last, 0..tail));
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
        (Some(Extent::Framed { header, block, source }), Extent::Framed { header: h, block: b, source: s })
            if (&*header, &*block) == (h, b) =>
        {
            *source = VirtualFile::concat([source.clone(), s.clone()]);
        }
        (Some(Extent::Coded { coder, source, range }), Extent::Coded { coder: c, source: s, range: r })
            if (&*coder, &*source, range.end) == (c, s, r.start) =>
        {
            range.end = r.end;
        }
        (Some(Extent::Coded { coder, source, range }), Extent::Coded { coder: c, source: s, range: r })
            if coder.is_blockwise()
                && coder.advanced(source.len()) == *c
                && Some(range.end) == coder.coded_len(source.len())
                && r.start == 0 =>
        {
            range.end += r.end;
            *source = VirtualFile::concat([source.clone(), s.clone()]);
        }
        _ => joined.push(extent),
    }
}

#[cfg(test)]
mod tests;
