//! gzip: one member.
//!
//! Specification: RFC 1952; RFC 1951, sections 3.2.4 (stored blocks) and 3.2.7 (blocks with dynamic Huffman codes).
//! Everything ends at a byte: so what was prepared, stored blocks and units of runs stand one after another.

use super::segments::{Segment, framed, run, segments};
use super::{Codec, Known, checksum};
use crate::virtual_file::{Outline, Parts, VirtualFile};

/// The longest stored block, in bytes.
const STORED: u64 = 0xFFFF;
/// Bytes of a run in one unit.
const UNIT: u64 = 1 << 20;
/// Symbols of the alphabet of literals and lengths: end of block, and a length of 258 bytes, which is also the last.
const END: usize = 256;
const LONGEST: usize = 285;
/// No flags, no time, unknown level, made on Unix: as the reference's.
const HEAD: [u8; 10] = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3];

pub(super) fn encode(file: &VirtualFile, outline: &Outline, known: &dyn Known) -> Parts {
    let mut parts = Parts::default();
    parts.push(VirtualFile::inline(HEAD.to_vec()), "header");
    for (place, segment) in segments(file, Codec::Gz, known) {
        let how = segment.how();
        let part = match segment {
            Segment::Stored(source) => framed(&source, STORED, |len| stored(len, false)),
            Segment::Run { byte, len } => run(len, &[UNIT], |len| same(byte, len)),
            Segment::Packed { packed, .. } => packed,
        };
        parts.push_made(part, how, outline, &place);
    }
    parts.push(VirtualFile::inline(stored(0, true)), "last block");
    parts.push(checksum::crc32(file, known), "CRC-32 of the contents");
    parts.push(VirtualFile::inline((file.len() as u32).to_le_bytes().to_vec()), "length of the contents");
    parts
}

/// The header of a stored block that begins at a byte.
fn stored(len: u64, last: bool) -> Vec<u8> {
    let [low, high] = (len as u16).to_le_bytes();
    vec![u8::from(last), low, high, !low, !high]
}

/// One byte `len` times, in a block of its own: one bit for 258 more of it and one for their distance of 1, two bits
/// for a single one and for the end; then an empty stored block, which ends at a byte.
fn same(byte: u8, len: u64) -> Vec<u8> {
    let mut bits = Bits::default();
    // Not the last block; dynamic codes; 286 literals and lengths, 1 distance, 18 lengths of codes of lengths of codes.
    for (value, count) in [(0, 1), (2, 2), (LONGEST as u32 + 1 - 257, 5), (0, 5), (18 - 4, 4)] {
        bits.put(value, count);
    }
    // These in their order 16, 17, 18, 0, 8, 7, ..., 2, 14, 1: the symbols 18, 0, 1, 2 have codes of 1, 2, 3, 3 bits.
    for place in 0..18 {
        bits.put([0, 0, 1, 2].get(place).copied().unwrap_or(if place == 15 || place == 17 { 3 } else { 0 }), 3);
    }
    // Lengths of codes: 2 for the byte and the end, 1 for the longest length, 1 for the distance.
    let mut next = 0;
    for (symbol, is_two) in [(usize::from(byte), true), (END, true), (LONGEST, false)] {
        bits.absent(symbol - next);
        if is_two {
            bits.code(0b111, 3);
        } else {
            bits.code(0b110, 3);
        }
        next = symbol + 1;
    }
    bits.code(0b110, 3);
    // The byte, then as often as fits 258 more of it, then the rest one by one.
    let (longest, single) = ((len - 1) / 258, (len - 1) % 258);
    bits.code(0b10, 2);
    for _ in 0..longest {
        bits.put(0, 2);
    }
    for _ in 0..single {
        bits.code(0b10, 2);
    }
    bits.code(0b11, 2);
    bits.put(0, 3);
    bits.align();
    bits.out.extend([0, 0, 0xFF, 0xFF]);
    bits.out
}

/// Bits as deflate packs them: the lowest of a byte first.
#[derive(Default)]
struct Bits {
    out: Vec<u8>,
    pending: u32,
    count: u32,
}

impl Bits {
    /// The low `count` bits of a number, the lowest first.
    fn put(&mut self, value: u32, count: u32) {
        self.pending |= value << self.count;
        self.count += count;
        while self.count >= 8 {
            self.out.push(self.pending as u8);
            self.pending >>= 8;
            self.count -= 8;
        }
    }

    /// A Huffman code of `count` bits, the highest first.
    fn code(&mut self, code: u32, count: u32) {
        self.put(code.reverse_bits() >> (32 - count), count);
    }

    /// `symbols` symbols that have no code: 11 to 138 of them by symbol 18, fewer one by one.
    fn absent(&mut self, mut symbols: usize) {
        while symbols >= 11 {
            let many = symbols.min(138);
            self.code(0b0, 1);
            self.put(many as u32 - 11, 7);
            symbols -= many;
        }
        for _ in 0..symbols {
            self.code(0b10, 2);
        }
    }

    fn align(&mut self) {
        self.put(0, (8 - self.count % 8) % 8);
    }
}
