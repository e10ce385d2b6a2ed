//! From bytes to characters: UTF-8, or UTF-16 where a byte order mark says so.
//!
//! Bytes are decoded in pieces of 512 and only as far as the scanner needs them, as the reference does: what stands
//! behind the first document is looked at only where it shares a piece with it.

use super::error::YamlError;

/// Bytes that are decoded at once.
const PIECE: usize = 512;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Utf8,
    Utf16 { big_endian: bool },
}

/// The characters of an input, decoded on demand.
pub struct Reader<'a> {
    bytes: &'a [u8],
    /// Offset of the first byte that is not decoded yet.
    offset: usize,
    encoding: Encoding,
    chars: Vec<char>,
    at: usize,
}

/// What cannot be decoded: the number of bytes it takes, and why.
enum Bad {
    Incomplete(&'static str),
    Invalid(String),
}

impl<'a> Reader<'a> {
    /// A reader at the beginning of `bytes`, behind their byte order mark.
    pub fn new(bytes: &'a [u8]) -> Self {
        let (encoding, offset) = match bytes {
            [0xff, 0xfe, ..] => (Encoding::Utf16 { big_endian: false }, 2),
            [0xfe, 0xff, ..] => (Encoding::Utf16 { big_endian: true }, 2),
            [0xef, 0xbb, 0xbf, ..] => (Encoding::Utf8, 3),
            _ => (Encoding::Utf8, 0),
        };
        Self { bytes, offset, encoding, chars: Vec::new(), at: 0 }
    }

    /// The character `ahead` of the current one; NUL (which no input may hold) behind the last.
    pub fn peek(&mut self, ahead: usize) -> Result<char, YamlError> {
        self.ensure(ahead + 1)?;
        Ok(self.chars.get(self.at + ahead).copied().unwrap_or('\0'))
    }

    /// Decodes until `count` characters can be peeked at, or the input ends.
    pub fn ensure(&mut self, count: usize) -> Result<(), YamlError> {
        while self.chars.len() - self.at < count && self.offset < self.bytes.len() {
            self.decode_piece()?;
        }
        Ok(())
    }

    /// Goes to the next character.
    pub const fn advance(&mut self) {
        if self.at < self.chars.len() {
            self.at += 1;
        }
    }

    /// Whether nothing was consumed yet.
    pub const fn at_start(&self) -> bool {
        self.at == 0
    }

    fn decode_piece(&mut self) -> Result<(), YamlError> {
        // The first piece holds the byte order mark.
        let start = if self.chars.is_empty() { 0 } else { self.offset };
        let end = (start + PIECE).min(self.bytes.len());
        while self.offset < end {
            let rest = &self.bytes[self.offset..end];
            let decoded = match self.encoding {
                Encoding::Utf8 => utf8(rest),
                Encoding::Utf16 { big_endian } => utf16(rest, big_endian),
            };
            match decoded {
                Ok((c, _)) if !is_allowed(c) => {
                    return Err(self.error(format!("control characters are not allowed (U+{:04X})", u32::from(c))));
                }
                Ok((c, width)) => {
                    self.chars.push(c);
                    self.offset += width;
                }
                Err(Bad::Incomplete(_)) if end < self.bytes.len() => break,
                Err(Bad::Incomplete(problem)) => return Err(self.error(problem.to_owned())),
                Err(Bad::Invalid(problem)) => return Err(self.error(problem)),
            }
        }
        Ok(())
    }

    fn error(&self, problem: String) -> YamlError {
        let mut line = 1;
        for (at, c) in self.chars.iter().enumerate() {
            line += usize::from(match c {
                '\r' => self.chars.get(at + 1) != Some(&'\n'),
                c => super::analyze::is_break(*c),
            });
        }
        YamlError::Encoding { line, offset: self.offset, problem }
    }
}

const fn is_allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}')
}

fn utf8(rest: &[u8]) -> Result<(char, usize), Bad> {
    let first = rest[0];
    let width = match first {
        0x00..=0x7f => return Ok((char::from(first), 1)),
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf7 => 4,
        _ => return Err(Bad::Invalid(format!("invalid UTF-8: no character begins with byte 0x{first:02X}"))),
    };
    let Some(sequence) = rest.get(..width) else { return Err(Bad::Incomplete("incomplete UTF-8 character")) };
    match std::str::from_utf8(sequence).ok().and_then(|text| text.chars().next()) {
        Some(c) => Ok((c, width)),
        None => Err(Bad::Invalid(format!("invalid UTF-8: bytes {} are no character", hex::encode(sequence)))),
    }
}

fn utf16(rest: &[u8], big_endian: bool) -> Result<(char, usize), Bad> {
    let unit = |at: usize| {
        let pair = [*rest.get(at)?, *rest.get(at + 1)?];
        Some(if big_endian { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) })
    };
    let incomplete = Bad::Incomplete("incomplete UTF-16 character");
    let Some(first) = unit(0) else { return Err(incomplete) };
    let units = match first {
        0xd800..=0xdbff => match unit(2) {
            Some(second) => vec![first, second],
            None => return Err(incomplete),
        },
        _ => vec![first],
    };
    match char::decode_utf16(units.iter().copied()).next() {
        Some(Ok(c)) => Ok((c, 2 * units.len())),
        _ => Err(Bad::Invalid(format!("invalid UTF-16: unit 0x{first:04X} is no character"))),
    }
}
