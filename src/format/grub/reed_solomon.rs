//! Reed-Solomon bytes behind a BIOS core image, so that it starts with some of its sectors overwritten. Optional: GRUB
//! starts without them.
//!
//! The code is over GF(256) with polynomial 0x11d and generator 2, systematic; the roots of its generator polynomial
//! are 2⁰, 2¹, …; a word's first byte is its highest coefficient. Words are columns through 512 byte wide rows, so
//! that a lost sector costs every word one byte.

use super::bios::{LIST_COUNT_AT, PARITY_LEN_AT, PROTECTED_AT};
use super::{GrubError, SECTOR, bound, damaged, put};

/// Rows of data and parity together at most, so that a word stays below the code's 255 bytes.
const ROWS_MAX: usize = 200;
/// Sectors of core image and parity together at most: as much as the firmware can load.
const SECTORS_MAX: usize = 888;
/// The field's polynomial without its highest coefficient.
const POLYNOMIAL: u8 = 0x1d;

/// Adds parity to a core image: as many sectors again as it has, bounded by what the firmware can load and by the
/// sectors of 512 bytes that there are for it.
///
/// # Errors
/// [`GrubError`] when the bytes are no core image, or it does not fit.
pub fn protect(mut core: Vec<u8>, partition_sectors: usize) -> Result<Vec<u8>, GrubError> {
    let sectors = core.len().div_ceil(SECTOR);
    let most = partition_sectors.min(SECTORS_MAX);
    bound("core image", core.len() as u64, (most * SECTOR) as u64)?;
    let all = (sectors * 2).min(most);
    let len = all * SECTOR - core.len();
    let name = "core.img";
    let field = core.get(SECTOR + PROTECTED_AT..SECTOR + PROTECTED_AT + 2);
    let field: [u8; 2] = field.and_then(|field| field.try_into().ok()).ok_or_else(|| damaged(name, "too short"))?;
    put(&mut core, SECTOR + PARITY_LEN_AT, (len as u32).to_le_bytes());
    put(&mut core, LIST_COUNT_AT, (all as u16 - 1).to_le_bytes());
    let data = core.get(SECTOR + usize::from(u16::from_le_bytes(field))..);
    let parity = parity(data.ok_or_else(|| damaged(name, "its protected part lies behind its end"))?, len)?;
    core.extend(parity);
    Ok(core)
}

/// `len` bytes of parity for data, in blocks of at most 200 rows.
///
/// # Errors
/// [`GrubError::TooLarge`] when there is so much more parity than data that a block would hold none.
pub fn parity(data: &[u8], len: usize) -> Result<Vec<u8>, GrubError> {
    let (mut data, mut left, mut out) = (data, len, Vec::with_capacity(len));
    while !data.is_empty() {
        let both = data.len() + left;
        let (mut take, mut give) = (data.len(), left);
        if both > ROWS_MAX * SECTOR {
            take = ROWS_MAX * data.len() / both * SECTOR;
            give = ROWS_MAX * left / both * SECTOR;
            if take == 0 {
                bound("parity", left as u64, ((ROWS_MAX - 1) * data.len()) as u64)?;
            }
        }
        // Rounding both rows down never takes more than there is.
        let (block, rest) = data.split_at(take.min(data.len()));
        block_parity(block, give, &mut out);
        (data, left) = (rest, left - give);
    }
    Ok(out)
}

/// Appends the parity of one block, column by column.
fn block_parity(block: &[u8], len: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + len, 0);
    let mut polynomial = Vec::new();
    for column in 0..SECTOR.min(len) {
        let rows = (len - column).div_ceil(SECTOR);
        if polynomial.len() != rows {
            polynomial = generator(rows);
        }
        let mut rest = vec![0; rows];
        for byte in block.iter().skip(column).step_by(SECTOR) {
            let factor = byte ^ rest[0];
            rest.rotate_left(1);
            rest[rows - 1] = 0;
            rest.iter_mut().zip(&polynomial).for_each(|(rest, coefficient)| *rest ^= multiply(factor, *coefficient));
        }
        out[start + column..].iter_mut().step_by(SECTOR).zip(rest).for_each(|(out, byte)| *out = byte);
    }
}

/// ∏ (x − 2^j) for j from 0 to degree − 1, the highest coefficient, which is 1, left out; the next one first.
fn generator(degree: usize) -> Vec<u8> {
    let (mut out, mut root) = (vec![1], 1);
    for _ in 0..degree {
        out.push(0);
        for i in (1..out.len()).rev() {
            out[i] ^= multiply(out[i - 1], root);
        }
        root = multiply(root, 2);
    }
    out.split_off(1)
}

/// Powers of 2 in the field, twice over, and their exponents.
const POWERS: ([u8; 510], [u8; 256]) = {
    let (mut powers, mut exponents) = ([0; 510], [0; 256]);
    let (mut value, mut i) = (1u8, 0);
    while i < 255 {
        (powers[i], powers[i + 255]) = (value, value);
        exponents[value as usize] = i as u8;
        value = (value << 1) ^ ((value >> 7) * POLYNOMIAL);
        i += 1;
    }
    (powers, exponents)
};

/// The product in the field.
fn multiply(a: u8, b: u8) -> u8 {
    let (powers, exponents) = &POWERS;
    let exponent = |value: u8| usize::from(exponents[usize::from(value)]);
    if a == 0 || b == 0 { 0 } else { powers[exponent(a) + exponent(b)] }
}
