//! Zstandard frames.
//!
//! Specification: RFC 8878, sections 3.1.1 (frames) and 3.1.1.2 (blocks). One frame holds all that stands between two
//! prepared blobs, which are frames of their own. Each frame says how long its contents are, none has a checksum.

use super::segments::{Segment, framed, run, segments};
use super::{Codec, Known};
use crate::virtual_file::VirtualFile;

/// The longest block in bytes, and the window of our frames.
const BLOCK: u64 = 128 << 10;

const RAW: u64 = 0;
const RUN: u64 = 1;

pub(super) fn encode(file: &VirtualFile, known: &dyn Known) -> VirtualFile {
    let (mut parts, mut frame) = (Vec::new(), Frame::default());
    for segment in segments(file, Codec::Zst, known) {
        match segment {
            Segment::Stored(source) => frame.stored(&source),
            Segment::Run { byte, len } => frame.run(byte, len),
            Segment::Packed { packed, .. } => {
                parts.extend(std::mem::take(&mut frame).finish());
                parts.push(packed);
            }
        }
    }
    match frame.finish() {
        None if parts.is_empty() => parts.push(Frame::default().close()),
        last => parts.extend(last),
    }
    VirtualFile::concat(parts)
}

/// A frame being laid out.
#[derive(Default)]
struct Frame {
    blocks: Vec<VirtualFile>,
    len: u64,
}

impl Frame {
    fn stored(&mut self, source: &VirtualFile) {
        self.len += source.len();
        self.blocks.push(framed(source, BLOCK, |len| header(len, RAW, false)));
    }

    fn run(&mut self, byte: u8, len: u64) {
        // The reference decoder before 1.4.4 does not take a frame whose first block is a run.
        let raw = u64::from(self.blocks.is_empty());
        if raw > 0 {
            self.stored(&VirtualFile::inline(vec![byte]));
        }
        self.len += len - raw;
        self.blocks.push(run(len - raw, &[BLOCK], |len| [header(len, RUN, false), vec![byte]].concat()));
    }

    /// The frame, if there is anything in it.
    fn finish(self) -> Option<VirtualFile> {
        (self.len > 0).then(|| self.close())
    }

    fn close(self) -> VirtualFile {
        let mut head = vec![0x28, 0xB5, 0x2F, 0xFD];
        // A content size of eight bytes; a window of 2^(10 + 7) bytes.
        head.extend([3 << 6, 7 << 3]);
        head.extend(self.len.to_le_bytes());
        let last = VirtualFile::inline(header(0, RAW, true));
        VirtualFile::concat([VirtualFile::inline(head)].into_iter().chain(self.blocks).chain([last]))
    }
}

/// A block's header.
fn header(len: u64, kind: u64, last: bool) -> Vec<u8> {
    (len << 3 | kind << 1 | u64::from(last)).to_le_bytes()[..3].to_vec()
}
