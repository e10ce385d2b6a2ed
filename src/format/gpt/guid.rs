//! Globally unique identifiers as partition tables hold them.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// A GUID, its bytes in the order in which it is written as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Guid([u8; 16]);

impl Guid {
    /// Type of a partition that firmware looks for boot loaders in.
    pub const EFI_SYSTEM: Self = Self(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b_u128.to_be_bytes());
    /// Type of the partition that holds GRUB's core image.
    pub const BIOS_BOOT: Self = Self(0x21686148_6449_6e6f_744e_656564454649_u128.to_be_bytes());
    /// Type of a partition with data of Linux.
    pub const LINUX_DATA: Self = Self(0x0fc63daf_8483_4772_8e79_3d69d8477de4_u128.to_be_bytes());
    /// Type of a partition with data that any system may read.
    pub const BASIC_DATA: Self = Self(0xebd0a0a2_b9e5_4433_87c0_68b6b72699c7_u128.to_be_bytes());

    /// The GUID that stands for a name: version 8 (RFC 9562) of the name's SHA-256 in the nil namespace.
    pub fn of(name: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update([0; 16]);
        hash.update(name);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize()[..16]);
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }

    /// The bytes in the order in which it is written as text: a UUID as file systems hold it.
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// The bytes on disk: the first three fields are little-endian there.
    pub fn on_disk(self) -> [u8; 16] {
        let mut bytes = self.0;
        bytes[..4].reverse();
        bytes[4..6].reverse();
        bytes[6..8].reverse();
        bytes
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = hex::encode(self.0);
        write!(f, "{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
