//! What a file is made of, as encoders see it.

use std::ops::Range;

use super::{Codec, Known};
use crate::virtual_file::{Extent, VirtualFile};

/// The shortest run that is worth blocks of its own, in bytes: more costs a list of extents than it saves.
const RUN: u64 = 4096;

/// A stretch of a file.
pub(super) enum Segment {
    /// What stays as it is.
    Stored(VirtualFile),
    /// One byte, over and over.
    Run { byte: u8, len: u64 },
    /// What was prepared, and what it was made of.
    Packed { packed: VirtualFile, source: VirtualFile },
}

impl Segment {
    /// Its length in the file, in bytes.
    fn len(&self) -> u64 {
        match self {
            Self::Stored(source) | Self::Packed { source, .. } => source.len(),
            Self::Run { len, .. } => *len,
        }
    }

    /// How it stands in a stream.
    pub(super) const fn how(&self) -> &'static str {
        match self {
            Self::Stored(_) => "stored",
            Self::Run { .. } => "one byte repeated",
            Self::Packed { .. } => "compressed",
        }
    }
}

/// The file in segments, in order, each with its place in the file; neighbours of one kind are one, but for what was
/// prepared.
pub(super) fn segments(file: &VirtualFile, codec: Codec, known: &dyn Known) -> Vec<(Range<u64>, Segment)> {
    let mut at = 0;
    let place = |segment: Segment| {
        let start = at;
        at += segment.len();
        (start..at, segment)
    };
    split(file, codec, known).into_iter().map(place).collect()
}

fn split(file: &VirtualFile, codec: Codec, known: &dyn Known) -> Vec<Segment> {
    let (mut segments, mut stored) = (Vec::new(), Vec::new());
    for extent in file.extents() {
        let packed = match extent {
            Extent::Blob { digest, offset, len } => known.packed(codec, digest, *offset..offset + len),
            _ => None,
        };
        let segment = match (packed, extent.uniform()) {
            (Some(packed), _) => Segment::Packed { packed, source: VirtualFile::from_extents([extent.clone()]) },
            (None, Some(byte)) if extent.len() >= RUN => Segment::Run { byte, len: extent.len() },
            _ => {
                stored.push(extent.clone());
                continue;
            }
        };
        flush(&mut stored, &mut segments);
        match (segments.last_mut(), &segment) {
            (Some(Segment::Run { byte, len }), Segment::Run { byte: b, len: l }) if byte == b => *len += l,
            _ => segments.push(segment),
        }
    }
    flush(&mut stored, &mut segments);
    segments
}

fn flush(stored: &mut Vec<Extent>, segments: &mut Vec<Segment>) {
    if !stored.is_empty() {
        segments.push(Segment::Stored(VirtualFile::from_extents(stored.drain(..))));
    }
}

/// `source` in blocks of at most `max` bytes, `header(length)` before each.
pub(super) fn framed(source: &VirtualFile, max: u64, header: impl Fn(u64) -> Vec<u8>) -> VirtualFile {
    let whole = source.len() - source.len() % max;
    let rest = source.slice(whole..source.len());
    let last = if rest.is_empty() { Vec::new() } else { header(rest.len()) };
    VirtualFile::concat([VirtualFile::framed(header(max), max, source), VirtualFile::inline(last), rest])
}

/// A run of `len` bytes in units of at most each of `sizes`, the largest first; `unit(length)` is one.
pub(super) fn run(len: u64, sizes: &[u64], unit: impl Fn(u64) -> Vec<u8>) -> VirtualFile {
    let (mut parts, mut rest) = (Vec::new(), len);
    for size in sizes {
        if rest >= *size {
            parts.push(VirtualFile::repeat(unit(*size), rest / size));
            rest %= size;
        }
    }
    if rest > 0 {
        parts.push(VirtualFile::inline(unit(rest)));
    }
    VirtualFile::concat(parts)
}
