//! GRUB for BIOS on an ISO 9660 image: the El Torito boot file, and the same image as a disk.
//!
//! Specification of the catalog that names the boot file: Phoenix and IBM, "El Torito" 1.0: no emulation, load segment
//! 0, four blocks of 512 bytes; the boot file loads the rest of itself by its boot information table.

use super::bios::{BOOT_CODE_LEN, BootCode, LIST_SECTOR_AT, boot_code, core_image};
use super::{Core, GrubError, GrubFolder, GrubPlatform, SECTOR, patch, put};
use crate::virtual_file::VirtualFile;

/// Length of a block of the medium, and of `cdboot.img`, in bytes.
const BLOCK: usize = 2048;
/// Sectors of a disk in such a block.
const SECTORS: u64 = (BLOCK / SECTOR) as u64;
/// The boot information table in the boot file.
const TABLE: std::ops::Range<usize> = 8..64;
/// Where diskboot's block list starts in the boot file.
const LIST_AT: usize = BLOCK + LIST_SECTOR_AT;
/// Block of the primary volume descriptor.
const VOLUME_BLOCK: u32 = 16;
/// Where the hybrid boot code says, as u64, at which sector it goes on.
const HYBRID_SECTOR_AT: usize = 0x1b0;

/// What has to be known of a boot file, wherever it will lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootFile {
    /// Its length in bytes.
    pub len: u32,
    /// Sum of its words behind the boot information table, with the block list's sector zero, modulo 2³².
    pub sum: u32,
}

/// Links a boot file. Its boot information table and the block list's sector are zero: see [`BootFile::place`].
///
/// # Errors
/// As [`core_image`], and when `cdboot.img` is missing or damaged.
pub fn el_torito_image(folder: &GrubFolder, core: &Core<'_>) -> Result<Vec<u8>, GrubError> {
    let core = core_image(folder, core)?;
    let mut out = folder.code::<BLOCK>("cdboot.img")?.to_vec();
    out.extend(core);
    out[TABLE].fill(0);
    put(&mut out, LIST_AT, [0; 8]);
    Ok(out)
}

impl BootFile {
    /// The facts of what [`el_torito_image`] made.
    pub fn of(image: &[u8]) -> Self {
        let word = |bytes: &[u8]| {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            u32::from_le_bytes(word)
        };
        let words = image.get(TABLE.end..).unwrap_or_default().chunks(4);
        Self { len: image.len() as u32, sum: words.map(word).fold(0, u32::wrapping_add) }
    }

    /// What changes in the boot file when it starts at a block of 2048 bytes: offset and bytes of each patch.
    pub fn patches(&self, block: u32) -> [(u64, Vec<u8>); 2] {
        // Behind cdboot comes diskboot, and behind that what diskboot loads when the image is a disk.
        let sector = u64::from(block) * SECTORS + SECTORS + 1;
        let sum = self.sum.wrapping_add(sector as u32).wrapping_add((sector >> 32) as u32);
        let mut table = vec![0; TABLE.len()];
        for (slot, value) in table.chunks_exact_mut(4).zip([VOLUME_BLOCK, block, self.len, sum]) {
            slot.copy_from_slice(&value.to_le_bytes());
        }
        [(TABLE.start as u64, table), (LIST_AT as u64, sector.to_le_bytes().to_vec())]
    }

    /// The boot file as it lies from a block on.
    pub fn place(&self, image: &VirtualFile, block: u32) -> VirtualFile {
        self.patches(block).iter().fold(image.clone(), |image, (at, bytes)| patch(&image, *at, bytes))
    }
}

/// Code of the first sector of an ISO image, for when it is a disk. Where it goes on is as built: see
/// [`place_hybrid_boot_code`].
///
/// # Errors
/// [`GrubError`] when `boot_hybrid.img` is missing or damaged.
pub fn hybrid_boot_code(folder: &GrubFolder) -> Result<BootCode, GrubError> {
    folder.must_be(GrubPlatform::I386Pc)?;
    Ok(boot_code(folder.code("boot_hybrid.img")?))
}

/// The code of an ISO image whose boot file starts at a block of 2048 bytes.
pub fn place_hybrid_boot_code(code: &BootCode, block: u32) -> BootCode {
    let mut placed = *code;
    put(&mut placed, HYBRID_SECTOR_AT, (u64::from(block) * SECTORS + SECTORS).to_le_bytes());
    placed
}

// The sector's field ends with the code.
const _: () = assert!(HYBRID_SECTOR_AT + 8 == BOOT_CODE_LEN);
