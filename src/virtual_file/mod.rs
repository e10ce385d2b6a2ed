//! The core type: a file that is an expression over content-addressed blobs.
//!
//! A [`VirtualFile`] is a list of [`Extent`]s with running offsets. Its length is known at once and any range of it can
//! be read at once; nothing is ever built. Bytes of blobs come from a [`ReadBlob`].

mod codec;
mod read;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::types::Digest;

pub use codec::DecodeError;
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
}

impl Extent {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Blob { len, .. } => *len,
            Self::Repeat { unit, times } => unit.len() as u64 * times,
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
            let size = unit.len() as u64;
            let (first, last) = (range.start / size, (range.end - 1) / size);
            let (head, tail) = ((range.start % size) as usize, ((range.end - 1) % size + 1) as usize);
            if first == last {
                return if tail - head == unit.len() {
                    vec![Extent::Repeat { unit: unit.clone(), times: 1 }]
                } else {
                    vec![Extent::Inline(unit.slice(head..tail))]
                };
            }
            let whole_from = if head == 0 { first } else { first + 1 };
            let whole_to = if tail == unit.len() { last + 1 } else { last };
            let mut parts = Vec::with_capacity(3);
            if head != 0 {
                parts.push(Extent::Inline(unit.slice(head..)));
            }
            parts.push(Extent::Repeat { unit: unit.clone(), times: whole_to - whole_from });
            if tail != unit.len() {
                parts.push(Extent::Inline(unit.slice(..tail)));
            }
            parts
        }
    }
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
        _ => joined.push(extent),
    }
}

#[cfg(test)]
mod tests;
