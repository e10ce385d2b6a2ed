//! The checksum around what is stored as a small file: extent lists and records.
//!
//! ```text
//! "IFC" version=1, CRC-32C of what follows (u32), contents
//! ```
//! Integers are little-endian. A file that does not begin so was written before there were checksums; it is read as it is.
//! The contents of a record are the length of its key (u32), the key, the value.

use bytes::{Buf, BufMut, Bytes};

const MAGIC: &[u8; 3] = b"IFC";
const VERSION: u8 = 1;

/// The stored form of contents.
pub fn seal(contents: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(contents.len() + 8);
    out.put_slice(MAGIC);
    out.put_u8(VERSION);
    out.put_u32_le(crc32c::crc32c(contents));
    out.put_slice(contents);
    out
}

/// The contents of a stored form; `None` if they are not what was stored.
pub fn unseal(stored: impl Into<Bytes>) -> Option<Bytes> {
    let mut rest: Bytes = stored.into();
    if !rest.starts_with(MAGIC) {
        return Some(rest);
    }
    if rest.len() < 8 || rest[3] != VERSION {
        return None;
    }
    rest.advance(4);
    let check = rest.get_u32_le();
    (crc32c::crc32c(&rest) == check).then_some(rest)
}

/// The stored form of a record.
pub fn seal_record(key: &str, value: &[u8]) -> Vec<u8> {
    let mut contents = Vec::with_capacity(key.len() + value.len() + 4);
    contents.put_u32_le(key.len() as u32);
    contents.put_slice(key.as_bytes());
    contents.put_slice(value);
    seal(&contents)
}

/// Key and value of a record; `None` if they are not what was stored.
pub fn unseal_record(stored: impl Into<Bytes>) -> Option<(String, Bytes)> {
    let contents = unseal(stored)?;
    let len = u32::from_le_bytes(contents.get(..4)?.try_into().ok()?) as usize;
    let key = std::str::from_utf8(contents.get(4..4usize.checked_add(len)?)?).ok()?.to_owned();
    Some((key, contents.slice(4 + len..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_flipped_bit_goes_unseen() {
        let stored = seal_record("key", b"the value");
        assert_eq!(unseal_record(stored.clone()), Some(("key".to_owned(), Bytes::from_static(b"the value"))));
        for bit in 0..stored.len() * 8 {
            let mut flipped = stored.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal_record(flipped), None, "bit {bit}");
        }
        for len in 0..stored.len() {
            assert_eq!(unseal_record(stored[..len].to_vec()), None, "{len} bytes");
        }
    }

    #[test]
    fn what_was_stored_without_a_checksum_is_read() {
        assert_eq!(unseal_record(&b"\x01\0\0\0kvalue"[..]), Some(("k".to_owned(), Bytes::from_static(b"value"))));
        assert_eq!(unseal(&b"IFX\x01"[..]).as_deref(), Some(&b"IFX\x01"[..]));
    }
}
