//! What the targets share: choices taken from the fuzzer's bytes, blobs of any content, and what must hold for every virtual file.

mod iso;
mod tree;

use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

use bytes::Bytes;
use image_factory::types::Digest;
use image_factory::virtual_file::{Extent, ReadBlob, ReadError, VirtualFile};

pub use iso::iso_files;
pub use tree::tree;

/// Files up to this length are read whole, in bytes.
pub const SMALL: u64 = 1 << 20;
/// Bytes of a range that are compared.
const WINDOW: u64 = 1 << 14;

/// The fuzzer's bytes, taken from the front; zeros and empty texts when they are used up.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of `data`.
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// Whether all is used up.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `len` bytes, or what is left.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        front
    }

    /// A number of `len` bytes, big-endian.
    pub fn number(&mut self, len: usize) -> u64 {
        self.bytes(len).iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }

    /// Bytes behind their length, one byte.
    pub fn short(&mut self) -> &'a [u8] {
        let len = self.number(1) as usize;
        self.bytes(len)
    }

    /// The same as text.
    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(self.short()).into_owned()
    }

    /// A file of at most `max` bytes: a blob of its own, zeros, or text.
    pub fn file(&mut self, max: u64) -> VirtualFile {
        let (kind, number) = (self.number(1), self.number(3));
        // Lengths of every magnitude.
        let len = (number << (kind >> 2 & 0x1f)) % (max + 1);
        match kind & 3 {
            0 => VirtualFile::zeros(len),
            1 => VirtualFile::inline(self.short().to_vec()),
            _ => VirtualFile::blob(Digest::of(&[kind as u8, number as u8]), len),
        }
    }
}

/// Every blob there is: its bytes follow from its digest.
#[derive(Clone, Copy)]
pub struct Blobs;

impl ReadBlob for Blobs {
    fn read(&self, digest: &Digest, range: Range<u64>) -> Result<Bytes, ReadError> {
        let (first, last) = (range.start / 32, range.end.div_ceil(32));
        let mut bytes = Vec::with_capacity(((last - first) * 32) as usize);
        for line in first..last {
            let salt = line as u8 ^ (line >> 8) as u8;
            bytes.extend_from_slice(&digest.raw().map(|byte| byte ^ salt));
        }
        let skip = (range.start % 32) as usize;
        Ok(Bytes::from(bytes).slice(skip..skip + (range.end - range.start) as usize))
    }

    fn read_ready(&self, digest: &Digest, range: Range<u64>) -> Option<Bytes> {
        self.read(digest, range).ok()
    }
}

/// All bytes of a small file; they are as many as it promises.
pub fn bytes(file: &VirtualFile) -> Vec<u8> {
    let mut all = Vec::with_capacity(file.len() as usize);
    for piece in file.pieces(0..file.len(), Blobs, WINDOW) {
        let piece = piece.expect("every blob is there");
        assert!(!piece.is_empty() && piece.len() as u64 <= WINDOW);
        all.extend_from_slice(&piece);
    }
    assert_eq!(all.len() as u64, file.len());
    all
}

/// How many bytes coders read at least before all of the file was read: a digest of a few bytes in the list can stand
/// for a hole of any size.
fn coded(file: &VirtualFile) -> u64 {
    let under = |extent: &Extent| match extent {
        Extent::Coded { source, .. } => source.len().saturating_add(coded(source)),
        Extent::Framed { source, .. } => coded(source),
        Extent::Inline(_) | Extent::Blob { .. } | Extent::Repeat { .. } | Extent::Count { .. } => 0,
    };
    file.extents().iter().map(under).fold(0, u64::saturating_add)
}

/// Asserts what holds for every file: its stored form reads back, and a range of it is the same whichever way it is read.
pub fn hold_ranges(file: &VirtualFile, input: &mut Input<'_>) {
    assert_eq!(VirtualFile::decode(file.encode()).as_ref(), Ok(file));
    if coded(file) > SMALL {
        return;
    }
    let whole = (file.len() <= SMALL).then(|| bytes(file));
    let mut random = input.number(4) ^ file.len();
    let mut next = |below: u64| {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (random >> 16).wrapping_mul(random | 1) % below
    };
    for round in 0..6 {
        // Some of the ranges end at the end.
        let from = if round == 0 { file.len().saturating_sub(WINDOW / 2) } else { next(file.len().max(1)) };
        let range = from..file.len().min(from.saturating_add(next(WINDOW)));
        let slice = file.slice(range.clone());
        assert_eq!(slice.len(), range.end - range.start);
        let sliced = bytes(&slice);
        let mut read = vec![0; sliced.len()];
        let mut reader = file.reader(Blobs);
        reader.seek(SeekFrom::Start(from)).expect("it is a position");
        reader.read_exact(&mut read).expect("it is inside the file");
        assert!(sliced == read, "range {range:?} of {file:?}");
        if let Some(whole) = &whole {
            assert!(sliced == whole[range.start as usize..range.end as usize], "range {range:?} of {file:?}");
        }
    }
}
