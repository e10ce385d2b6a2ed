//! The superblock.

/// Its length in bytes.
pub(super) const LEN: usize = 96;
/// Compressor options follow the superblock.
pub(super) const FLAG_OPTIONS: u16 = 0x400;
/// What `mksquashfs` sets: duplicates removed, exportable.
pub(super) const FLAGS: u16 = 0x40 | 0x80;
/// Inodes, data, fragments, attributes and ids are stored.
pub(super) const FLAGS_STORED: u16 = 0x1 | 0x2 | 0x8 | 0x100 | 0x800;
/// No extended attributes.
pub(super) const FLAG_NO_XATTRS: u16 = 0x200;
/// No fragments.
pub(super) const FLAG_NO_FRAGMENTS: u16 = 0x10;

const MAGIC: u32 = u32::from_le_bytes(*b"hsqs");

/// All its fields but magic and version. Positions are bytes from the start of the image, all ones for "none".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Superblock {
    pub inodes: u32,
    pub mtime: u32,
    pub block_size: u32,
    pub fragments: u32,
    pub compressor: u16,
    pub flags: u16,
    pub ids: u16,
    /// Reference of the root's inode.
    pub root: u64,
    pub bytes_used: u64,
    pub id_table: u64,
    pub xattr_table: u64,
    pub inode_table: u64,
    pub directory_table: u64,
    pub fragment_table: u64,
    pub export_table: u64,
}

impl Superblock {
    pub(super) fn encode(&self) -> [u8; LEN] {
        let mut out = Vec::with_capacity(LEN);
        for word in [MAGIC, self.inodes, self.mtime, self.block_size, self.fragments] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        let log = self.block_size.trailing_zeros() as u16;
        for half in [self.compressor, log, self.flags, self.ids, 4, 0] {
            out.extend_from_slice(&half.to_le_bytes());
        }
        for long in [
            self.root,
            self.bytes_used,
            self.id_table,
            self.xattr_table,
            self.inode_table,
            self.directory_table,
            self.fragment_table,
            self.export_table,
        ] {
            out.extend_from_slice(&long.to_le_bytes());
        }
        let mut bytes = [0; LEN];
        bytes.copy_from_slice(&out);
        bytes
    }

    /// Reads it, or says why the bytes are no superblock of version 4.0.
    pub(super) fn decode(bytes: &[u8; LEN]) -> Result<Self, String> {
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let word = |at: usize| u32::from(half(at)) | u32::from(half(at + 2)) << 16;
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        if word(0) != MAGIC {
            return Err(format!("it begins with {:02x?}, not with \"hsqs\"", &bytes[..4]));
        }
        if (half(28), half(30)) != (4, 0) {
            return Err(format!("its version is {}.{}, not 4.0", half(28), half(30)));
        }
        let block_size = word(12);
        if !block_size.is_power_of_two() || !(4096..=1 << 20).contains(&block_size) {
            return Err(format!("its block size is {block_size}"));
        }
        Ok(Self {
            inodes: word(4),
            mtime: word(8),
            block_size,
            fragments: word(16),
            compressor: half(20),
            flags: half(24),
            ids: half(26),
            root: long(32),
            bytes_used: long(40),
            id_table: long(48),
            xattr_table: long(56),
            inode_table: long(64),
            directory_table: long(72),
            fragment_table: long(80),
            export_table: long(88),
        })
    }
}
