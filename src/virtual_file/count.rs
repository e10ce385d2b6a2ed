//! Numbers that count up: allocation chains and offset tables, never stored expanded.

/// Byte order of the numbers of an [`Extent::Count`](super::Extent::Count).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endian {
    /// The lowest byte first.
    Little,
    /// The highest byte first.
    Big,
}

/// Bytes a number of an [`Extent::Count`](super::Extent::Count): 1 to 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Width(u8);

impl Width {
    /// Two bytes.
    pub const U16: Self = Self(2);
    /// Four bytes.
    pub const U32: Self = Self(4);
    /// Eight bytes.
    pub const U64: Self = Self(8);

    /// A width of 1 to 8 bytes; `None` for any other.
    pub fn new(bytes: u8) -> Option<Self> {
        (1..=8).contains(&bytes).then_some(Self(bytes))
    }

    /// The width in bytes.
    pub fn bytes(self) -> u8 {
        self.0
    }

    /// The bits of `number` that fit.
    pub(super) fn mask(self, number: u64) -> u64 {
        number & (u64::MAX >> (64 - 8 * u32::from(self.0)))
    }
}

/// Writes the bytes from byte `from` of `first, first + step, ...` into `out`.
pub(super) fn fill(first: u64, step: u64, width: Width, endian: Endian, from: u64, out: &mut [u8]) {
    let size = usize::from(width.0);
    let (index, skip) = (from / size as u64, (from % size as u64) as usize);
    let mut number = first.wrapping_add(step.wrapping_mul(index));
    let mut next = || {
        // The number's bytes stand at the front, in either order.
        let bytes = match endian {
            Endian::Little => number.to_le_bytes(),
            Endian::Big => (number << (64 - 8 * u32::from(width.0))).to_be_bytes(),
        };
        number = number.wrapping_add(step);
        bytes
    };
    let (head, rest) = out.split_at_mut(if skip == 0 { 0 } else { (size - skip).min(out.len()) });
    if !head.is_empty() {
        head.copy_from_slice(&next()[skip..skip + head.len()]);
    }
    for place in rest.chunks_mut(size) {
        place.copy_from_slice(&next()[..place.len()]);
    }
}
