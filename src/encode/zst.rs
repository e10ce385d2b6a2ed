//! Zstandard frames.
//!
//! Specification: RFC 8878, sections 3.1.1 (frames) and 3.1.1.2 (blocks). One frame holds all that stands between two
//! prepared blobs, which are frames of their own. Each frame says how long its contents are, none has a checksum.

use std::ops::Range;

use super::segments::{Segment, framed, run, segments};
use super::{Codec, Known};
use crate::virtual_file::{Outline, Parts, VirtualFile};

/// The longest block in bytes, and the window of our frames.
const BLOCK: u64 = 128 << 10;

const RAW: u64 = 0;
const RUN: u64 = 1;

pub(super) fn encode(file: &VirtualFile, outline: &Outline, known: &dyn Known) -> Parts {
    let mut parts = Parts::default();
    let segments = segments(file, Codec::Zst, known);
    let is_packed = |segment: &Segment| matches!(segment, Segment::Packed { .. });
    for frame in segments.chunk_by(|(_, before), (_, next)| !is_packed(before) && !is_packed(next)) {
        match frame {
            [(place, segment @ Segment::Packed { packed, .. })] => {
                parts.push_made(packed.clone(), segment.how(), outline, place);
            }
            _ => push_frame(&mut parts, frame, outline),
        }
    }
    if segments.is_empty() {
        push_frame(&mut parts, &[], outline);
    }
    parts
}

/// Appends a frame of segments that were not prepared.
fn push_frame(parts: &mut Parts, segments: &[(Range<u64>, Segment)], outline: &Outline) {
    let len: u64 = segments.iter().map(|(place, _)| place.end - place.start).sum();
    let mut head = vec![0x28, 0xB5, 0x2F, 0xFD];
    // A content size of eight bytes; a window of 2^(10 + 7) bytes.
    head.extend([3 << 6, 7 << 3]);
    head.extend(len.to_le_bytes());
    parts.push(VirtualFile::inline(head), "frame header");
    for (number, (place, segment)) in segments.iter().enumerate() {
        let blocks = match segment {
            Segment::Run { byte, len } => run_blocks(*byte, *len, number == 0),
            Segment::Stored(source) | Segment::Packed { source, .. } => stored(source),
        };
        parts.push_made(blocks, segment.how(), outline, place);
    }
    parts.push(VirtualFile::inline(header(0, RAW, true)), "last block");
}

fn stored(source: &VirtualFile) -> VirtualFile {
    framed(source, BLOCK, |len| header(len, RAW, false))
}

/// Blocks of one byte. The reference decoder before 1.4.4 does not take a frame whose first block is a run.
fn run_blocks(byte: u8, len: u64, first: bool) -> VirtualFile {
    let raw = if first { stored(&VirtualFile::inline(vec![byte])) } else { VirtualFile::empty() };
    let rest = run(len - u64::from(first), &[BLOCK], |len| [header(len, RUN, false), vec![byte]].concat());
    VirtualFile::concat([raw, rest])
}

/// A block's header.
fn header(len: u64, kind: u64, last: bool) -> Vec<u8> {
    (len << 3 | kind << 1 | u64::from(last)).to_le_bytes()[..3].to_vec()
}
