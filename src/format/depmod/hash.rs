//! The order in which kmod's hash tables give out their keys.

/// kmod's hash of a key, in 32-bit arithmetic.
pub fn hash(key: &[u8]) -> u32 {
    let byte = |at: usize| u32::from(key[at]);
    let mut h = key.len() as u32;
    let mut at = 0;
    while key.len() - at >= 4 {
        h = h.wrapping_add(byte(at) + 256 * byte(at + 1));
        let t = ((byte(at + 2) + 256 * byte(at + 3)) << 11) ^ h;
        h = (h << 16) ^ t;
        h = h.wrapping_add(h >> 11);
        at += 4;
    }
    match key.len() - at {
        3 => {
            h = h.wrapping_add(byte(at) + 256 * byte(at + 1));
            h ^= h << 16;
            h ^= byte(at + 2) << 18;
            h = h.wrapping_add(h >> 11);
        }
        2 => {
            h = h.wrapping_add(byte(at) + 256 * byte(at + 1));
            h ^= h << 11;
            h = h.wrapping_add(h >> 17);
        }
        1 => {
            h = h.wrapping_add(byte(at));
            h ^= h << 10;
            h = h.wrapping_add(h >> 1);
        }
        _ => {}
    }
    h ^= h << 3;
    h = h.wrapping_add(h >> 5);
    h ^= h << 4;
    h = h.wrapping_add(h >> 17);
    h ^= h << 25;
    h.wrapping_add(h >> 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_kmods() {
        for (key, want) in [
            ("", 0),
            ("a", 0x115e_a782),
            ("ab", 0x516b_8b44),
            ("abc", 0xd2be_198a),
            ("abcd", 0xdad8_b8db),
            ("ext4", 0xe679_ab16),
            ("nf_nat", 0x66f6_8e84),
            ("module_layout", 0xa1f7_60be),
        ] {
            assert_eq!(hash(key.as_bytes()), want, "{key}");
        }
    }
}
