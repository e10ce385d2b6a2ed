//! LZMA of one byte over and over: a literal, then matches with the byte before.
//!
//! Specification: "LZMA specification" of the LZMA SDK (`lzma-specification.txt`): range coder, probabilities, states.

use std::sync::{Arc, LazyLock};

/// The longest match, in bytes.
const LONGEST: u64 = 273;
/// Matches shorter than these have codes of three bits, and of three others; all longer ones of eight.
const SHORT: u64 = 2 + 8;
const MIDDLE: u64 = SHORT + 8;

/// Chunks by byte and length.
type Chunks = moka::sync::Cache<(u8, u64), Arc<[u8]>>;

/// Chunks that were made: the free space in images differs little, and coding it takes longer than all the rest.
static MADE: LazyLock<Chunks> = LazyLock::new(|| Chunks::new(1000));

/// An LZMA2 chunk that resets dictionary, state and properties: one byte `len` times, 2 MiB at most.
pub(super) fn chunk(byte: u8, len: u64) -> Vec<u8> {
    MADE.get_with((byte, len), || code(byte, len).into()).to_vec()
}

fn code(byte: u8, len: u64) -> Vec<u8> {
    let data = stream(byte, len);
    let (raw, coded) = (len - 1, data.len() as u64 - 1);
    let mut out =
        vec![0xE0 | (raw >> 16) as u8, (raw >> 8) as u8, raw as u8, (coded >> 8) as u8, coded as u8, PROPERTIES];
    out.extend(data);
    out
}

/// No context but the state: lc, lp and pb are 0.
const PROPERTIES: u8 = 0;

/// A probability that the next bit is 0, of 2048.
#[derive(Clone, Copy)]
struct Bit(u16);

impl Default for Bit {
    fn default() -> Self {
        Self(1024)
    }
}

/// What the last symbols were: as far as it happens here.
#[derive(Clone, Copy)]
enum State {
    Start = 0,
    /// A match right behind a literal.
    Match = 8,
    /// A single byte as a match right behind a literal.
    Single = 9,
    /// A match behind a match.
    Matches = 11,
}

/// The range coder's bytes.
fn stream(byte: u8, len: u64) -> Vec<u8> {
    let mut coder = RangeCoder::default();
    let mut literal = [Bit::default(); 256];
    let mut lengths = Lengths::default();
    let [mut is_match, mut is_rep, mut is_other_rep, mut is_long_rep] = [[Bit::default(); 12]; 4];
    coder.bit(&mut is_match[State::Start as usize], false);
    coder.tree(&mut literal, 8, u32::from(byte));
    let (mut rest, mut state) = (len - 1, State::Start);
    while rest > 0 {
        let length = rest.min(LONGEST);
        let at = state as usize;
        coder.bit(&mut is_match[at], true);
        coder.bit(&mut is_rep[at], true);
        coder.bit(&mut is_other_rep[at], false);
        coder.bit(&mut is_long_rep[at], length > 1);
        if length > 1 {
            lengths.put(&mut coder, length);
        }
        state = match (state, length) {
            (State::Start, 1) => State::Single,
            (State::Start, _) => State::Match,
            _ => State::Matches,
        };
        rest -= length;
    }
    coder.finish()
}

/// The coder of a match's length.
struct Lengths {
    is_longer: [Bit; 2],
    short: [Bit; 8],
    middle: [Bit; 8],
    long: [Bit; 256],
}

impl Default for Lengths {
    fn default() -> Self {
        let bit = Bit::default();
        Self { is_longer: [bit; 2], short: [bit; 8], middle: [bit; 8], long: [bit; 256] }
    }
}

impl Lengths {
    fn put(&mut self, coder: &mut RangeCoder, length: u64) {
        coder.bit(&mut self.is_longer[0], length >= SHORT);
        if length < SHORT {
            return coder.tree(&mut self.short, 3, length as u32 - 2);
        }
        coder.bit(&mut self.is_longer[1], length >= MIDDLE);
        match length.checked_sub(MIDDLE) {
            None => coder.tree(&mut self.middle, 3, (length - SHORT) as u32),
            Some(over) => coder.tree(&mut self.long, 8, over as u32),
        }
    }
}

/// An adaptive binary range coder.
struct RangeCoder {
    out: Vec<u8>,
    low: u64,
    range: u32,
    /// A byte that a carry may still change, and how many of 0xFF stand behind it.
    cache: u8,
    pending: u64,
}

impl Default for RangeCoder {
    fn default() -> Self {
        Self { out: Vec::new(), low: 0, range: u32::MAX, cache: 0, pending: 0 }
    }
}

impl RangeCoder {
    fn bit(&mut self, probability: &mut Bit, bit: bool) {
        let bound = (self.range >> 11) * u32::from(probability.0);
        if bit {
            self.low += u64::from(bound);
            self.range -= bound;
            probability.0 -= probability.0 >> 5;
        } else {
            self.range = bound;
            probability.0 += (2048 - probability.0) >> 5;
        }
        if self.range < 1 << 24 {
            self.range <<= 8;
            self.shift();
        }
    }

    /// The low `count` bits of a number, the highest first, each with a probability of its own for what came before.
    fn tree(&mut self, probabilities: &mut [Bit], count: u32, value: u32) {
        let mut node = 1;
        for at in (0..count).rev() {
            let bit = value >> at & 1;
            self.bit(&mut probabilities[node], bit == 1);
            node = node << 1 | bit as usize;
        }
    }

    fn shift(&mut self) {
        let (carry, top) = ((self.low >> 32) as u8, (self.low >> 24) as u8);
        if top != 0xFF || carry > 0 {
            self.out.push(self.cache.wrapping_add(carry));
            self.out.extend(std::iter::repeat_n(0xFFu8.wrapping_add(carry), self.pending as usize));
            (self.cache, self.pending) = (top, 0);
        } else {
            self.pending += 1;
        }
        self.low = (self.low & 0x00FF_FFFF) << 8;
    }

    fn finish(mut self) -> Vec<u8> {
        for _ in 0..5 {
            self.shift();
        }
        self.out
    }
}
