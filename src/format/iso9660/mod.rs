//! ISO 9660 images that boot from CD and from a USB disk, as a pure layout of extents.
//!
//! Specifications: ECMA-119 (ISO 9660; level 3, which is files in several sections), IEEE P1282 draft "Rock Ridge
//! Interchange Protocol" 1.10 over P1281 "System Use Sharing Protocol", and Phoenix/IBM "El Torito" 1.0 with UEFI 2.10,
//! section 13.3.2. Numbers marked "both" in ECMA-119 stand little-endian, then big-endian. A sector is 2048 bytes; a
//! partition table counts blocks of 512.
//!
//! ```text
//! sector 0    system area: MBR with boot code, GPT if asked for, zeros
//!        16   primary volume descriptor, El Torito boot record, terminator
//!             directories (root first, each in whole sectors), the sector of Rock Ridge's ER entry
//!             path tables, little-endian and big-endian; boot catalog
//!             files: El Torito's BIOS image, then by length; each starts on a sector
//!             at 1 MiB: the UEFI image (a FAT file system), which is the second partition
//!             zeros: 150 sectors for drives that read ahead, and more to 64 KiB
//! last 33     blocks: the GPT's second copy
//! ```
//!
//! A file may be *shared*: its record then points into the UEFI image, so that a kernel is there once although both the
//! ISO and the FAT file system show it.

mod descriptor;
mod el_torito;
mod layout;
mod name;
mod record;
mod system_area;
mod tree;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::gpt::{BOOT_CODE_LEN, GptError, Guid};
use crate::virtual_file::VirtualFile;

pub use layout::Layout;
/// Length of a sector in bytes.
pub const SECTOR: u64 = 2048;
/// Length of a partition table's block in bytes.
const BLOCK: u64 = 512;
/// What the UEFI image starts at a multiple of, in bytes.
pub const UEFI_ALIGNMENT: u64 = 1 << 20;
/// The path of the boot catalog.
pub const CATALOG_PATH: &str = "boot.catalog";
/// The longest name of a file or directory in bytes: what a record's system use has room for.
pub const MAX_NAME: usize = 120;
/// The most levels of directories, the root's included (ECMA-119, 6.8.2.1).
pub const MAX_DEPTH: usize = 8;

/// Why an image cannot be laid out.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Iso9660Error {
    /// A path that the image cannot hold, or contents that it cannot point to.
    #[error("iso9660: {path:?}: {what}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong, with the bound.
        what: String,
    },
    /// A volume identifier that the format does not have.
    #[error("iso9660: {field} {value:?}: {rule}")]
    Identifier {
        /// Which identifier.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// More than the format's fields can count.
    #[error("iso9660: {what}: {count}, {max} at most")]
    TooLarge {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        count: u64,
        /// How many there may be.
        max: u64,
    },
    /// A UEFI image without bytes.
    #[error("iso9660: the UEFI image is empty")]
    EmptyUefi,
    /// The partition table has no room.
    #[error(transparent)]
    Gpt(#[from] GptError),
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A directory; those above a path need not be named.
    Directory,
    /// A file with bytes of its own.
    File(VirtualFile),
    /// A file whose bytes lie in the UEFI image.
    Shared {
        /// Where they start in the image, in bytes: a multiple of 2048.
        offset: u64,
        /// Length of the file in bytes.
        len: u64,
    },
}

/// Bytes that replace others, with where they start.
pub type Patch = (u64, Bytes);

/// What boots on a BIOS: an El Torito image in a file, and code in the MBR that finds it on a disk.
///
/// Both hold the image's place, which only the layout knows: they are asked for with the image's first sector.
#[derive(Clone, Copy)]
pub struct BiosBoot<'a> {
    /// The path of the file.
    pub path: &'a str,
    /// The image without patches.
    pub image: &'a VirtualFile,
    /// What has to be patched in the image.
    pub patches: &'a dyn Fn(u32) -> Vec<Patch>,
    /// The MBR's boot code.
    pub boot_code: &'a dyn Fn(u32) -> [u8; BOOT_CODE_LEN],
}

/// How a disk's partitions are told when the image is written to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionTable {
    /// An MBR: type 83 over the ISO's own files, type EF over the UEFI image.
    Mbr,
    /// A protective MBR and a GPT: basic data, read-only, over the ISO's own files; EFI system over the UEFI image.
    Gpt(GptGuids),
}

/// The GUIDs of a partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GptGuids {
    /// The disk's.
    pub disk: Guid,
    /// That of the partition with the ISO's own files.
    pub iso9660: Guid,
    /// That of the partition with the UEFI image.
    pub uefi: Guid,
}

impl GptGuids {
    /// GUIDs that stand for a name, say of volume and version.
    pub fn of(name: &str) -> Self {
        let [disk, iso9660, uefi] = ["disk", "iso9660", "uefi"].map(|part| Guid::of(&format!("{name} {part}")));
        Self { disk, iso9660, uefi }
    }
}

/// All that an image is made of. The same parts give the same bytes.
pub struct Image<'a> {
    /// Volume identifier: 1 to 32 of `A-Z`, `0-9`, `_`.
    pub volume_id: &'a str,
    /// Volume set identifier: at most 128 printable ASCII characters.
    pub volume_set_id: &'a str,
    /// Time of the volume and of all files, in seconds since 1970.
    pub mtime: u32,
    /// Paths like `boot/grub/grub.cfg`, with what stands there.
    pub files: &'a BTreeMap<String, Content>,
    /// What boots on a BIOS.
    pub bios: Option<BiosBoot<'a>>,
    /// What boots by UEFI: a FAT file system.
    pub uefi: Option<&'a VirtualFile>,
    /// How partitions are told.
    pub partitions: PartitionTable,
}

/// A number in both byte orders.
fn both32(value: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&value.to_le_bytes());
    bytes[4..].copy_from_slice(&value.to_be_bytes());
    bytes
}

/// A number in both byte orders.
fn both16(value: u16) -> [u8; 4] {
    let [low, high] = value.to_le_bytes();
    [low, high, high, low]
}

#[cfg(test)]
mod tests;
