//! xz: one stream, a block for each stretch of contents.
//!
//! Specification: "The .xz File Format", version 1.2.1; for LZMA2 chunks, which it leaves open, the comments of
//! XZ Embedded's `xz_dec_lzma2.c`. Each block's check is a CRC-32, which every decoder knows (the kernel's knows no
//! other) and which is the one that gzip needs too: so one remembered checksum a blob serves both.

mod lzma;

use super::segments::{Segment, framed, run, segments};
use super::{Codec, Known, checksum};
use crate::virtual_file::{Outline, Parts, VirtualFile};

/// The longest LZMA2 chunk of stored bytes.
const STORED: u64 = 64 << 10;
/// Bytes of a run in one chunk, the longest of LZMA2 first.
const UNITS: [u64; 2] = [2 << 20, 64 << 10];
/// How prepared contents are made: `xz -6`, and its dictionary in bytes.
pub(super) const PRESET: u32 = 6;
pub(super) const DICT: u32 = 8 << 20;
/// Dictionaries as block headers write them: 4 KiB, and [`DICT`].
const SMALL_CODE: u8 = 0;
const DICT_CODE: u8 = 22;
/// The check is a CRC-32.
const STREAM_FLAGS: [u8; 2] = [0, 1];
const CHECK_LEN: u64 = 4;

pub(super) fn encode(file: &VirtualFile, outline: &Outline, known: &dyn Known) -> Parts {
    let (mut parts, mut records) = (Parts::default(), Vec::new());
    let header = [&b"\xFD7zXZ\0"[..], &STREAM_FLAGS, &crc(&STREAM_FLAGS)].concat();
    parts.push(VirtualFile::inline(header), "stream header");
    for (place, segment) in segments(file, Codec::Xz, known) {
        let how = segment.how();
        let (source, chunks, dict) = match segment {
            Segment::Stored(source) => {
                let chunks = framed(&source, STORED, stored);
                (source, VirtualFile::concat([chunks, VirtualFile::inline(vec![0])]), SMALL_CODE)
            }
            Segment::Run { byte, len } => {
                let chunks = run(len, &UNITS, |len| lzma::chunk(byte, len));
                let source = VirtualFile::repeat(vec![byte], len);
                (source, VirtualFile::concat([chunks, VirtualFile::inline(vec![0])]), SMALL_CODE)
            }
            Segment::Packed { packed, source } => (source, packed, DICT_CODE),
        };
        let header = block_header(chunks.len(), source.len(), dict);
        records.push((header.len() as u64 + chunks.len() + CHECK_LEN, source.len()));
        let padding = VirtualFile::inline(vec![0; padding(chunks.len())]);
        parts.push(VirtualFile::inline(header), "block header");
        parts.push_made(chunks, how, outline, &place);
        parts.push(VirtualFile::concat([padding, checksum::crc32(&source, known)]), "padding and CRC-32 of the block");
    }
    let index = index(&records);
    let mut footer = (index.len() as u32 / 4 - 1).to_le_bytes().to_vec();
    footer.extend(STREAM_FLAGS);
    let footer = [&crc(&footer), &footer[..], b"YZ"].concat();
    parts.push(VirtualFile::inline(index), "index of blocks");
    parts.push(VirtualFile::inline(footer), "stream footer");
    parts
}

/// The header of an LZMA2 chunk of stored bytes, which resets the dictionary.
fn stored(len: u64) -> Vec<u8> {
    let [low, high, ..] = (len - 1).to_le_bytes();
    vec![1, high, low]
}

/// A block's header: both its lengths, so that decoders may work on blocks at once, and LZMA2 as its filter.
fn block_header(compressed: u64, uncompressed: u64, dict: u8) -> Vec<u8> {
    let mut header = vec![0, 0xC0];
    header.extend(number(compressed));
    header.extend(number(uncompressed));
    header.extend([0x21, 1, dict]);
    sealed(header, |len| (len / 4) as u8)
}

/// The index: unpadded and uncompressed lengths of each block.
fn index(records: &[(u64, u64)]) -> Vec<u8> {
    let mut index = vec![0];
    index.extend(number(records.len() as u64));
    index.extend(
        records.iter().flat_map(|(unpadded, uncompressed)| [number(*unpadded), number(*uncompressed)].concat()),
    );
    sealed(index, |_| 0)
}

/// The bytes padded to a multiple of 4 and their CRC-32, the first byte told by their length.
fn sealed(mut bytes: Vec<u8>, first: impl Fn(usize) -> u8) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes[0] = first(bytes.len());
    let sum = crc(&bytes);
    bytes.extend(sum);
    bytes
}

fn padding(len: u64) -> usize {
    (len.next_multiple_of(4) - len) as usize
}

fn crc(bytes: &[u8]) -> [u8; 4] {
    crc32fast::hash(bytes).to_le_bytes()
}

/// A number of seven bits a byte, the lowest first; all bytes but the last have their high bit set.
fn number(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    out
}
