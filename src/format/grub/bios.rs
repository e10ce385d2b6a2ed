//! The core image of GRUB for BIOS, and how it starts from a disk.
//!
//! The firmware loads the disk's first sector, that loads the first sector of `core.img` (diskboot), that loads the
//! rest by its block list: a decompressor, and behind it kernel and modules, compressed.

use object::elf::EM_386;

use super::elf::{Elf, KERNEL, NOBITS, PROGBITS};
use super::modules::module_block;
use super::{Core, GrubError, GrubFolder, GrubPlatform, SECTOR, bound, damaged, lzma, patch, put};
use crate::virtual_file::VirtualFile;

/// Where kernel and decompressor are loaded.
const LOAD_ADDRESS: u64 = 0x9000;
/// Where what is loaded by BIOS calls must end.
const LOAD_END: u64 = 0x7_8000;
/// Where the unpacked kernel with its zeroed memory must end.
const KERNEL_END: u64 = 0x6_8000;
/// Length of the decompressor at most, in bytes.
const DECOMPRESSOR_MAX: usize = 0xe00;
/// Fields of the decompressor, u32 each: lengths of the stream, of the plain image, of Reed-Solomon bytes.
const STREAM_LEN_AT: usize = 0x08;
const PLAIN_LEN_AT: usize = 0x0c;
pub(super) const PARITY_LEN_AT: usize = 0x10;
/// Where it says, as u16, at which of its bytes the protected part begins.
pub(super) const PROTECTED_AT: usize = 0x14;
/// Where a disk's first sector says, as u64, where the core image is.
const CORE_SECTOR_AT: usize = 0x5c;
/// The block list of diskboot: first sector u64, sectors u16, segment u16.
pub(super) const LIST_SECTOR_AT: usize = 0x1f4;
pub(super) const LIST_COUNT_AT: usize = 0x1fc;

/// Length of code in a master boot record in bytes; signature and partition table follow.
pub const BOOT_CODE_LEN: usize = 440;
/// Code of a master boot record.
pub type BootCode = [u8; BOOT_CODE_LEN];

/// Links `core.img`: what a BIOS boot partition holds from its first byte on. It is not padded to whole sectors, and
/// its block list is as built: see [`place_core`] and [`super::el_torito_image`].
///
/// # Errors
/// [`GrubError`] when a file is missing or damaged, or the image does not fit where the firmware loads it.
pub fn core_image(folder: &GrubFolder, core: &Core<'_>) -> Result<Vec<u8>, GrubError> {
    folder.must_be(GrubPlatform::I386Pc)?;
    let mut plain = kernel(folder)?;
    plain.extend(module_block(folder, core)?);
    let stream = lzma::compress(&plain)?;

    let name = "lzma_decompress.img";
    let decompressor = folder.file(name)?;
    bound(name, decompressor.len() as u64, DECOMPRESSOR_MAX as u64)?;
    if decompressor.len() < PROTECTED_AT + 2 {
        return Err(damaged(name, "it is too short"));
    }
    let body = decompressor.len() + stream.len();
    bound("compressed core image", body as u64, LOAD_END - LOAD_ADDRESS)?;

    let mut out = folder.code::<SECTOR>("diskboot.img")?.to_vec();
    put(&mut out, LIST_COUNT_AT, (body.div_ceil(SECTOR) as u16).to_le_bytes());
    out.extend_from_slice(decompressor);
    put(&mut out, SECTOR + STREAM_LEN_AT, (stream.len() as u32).to_le_bytes());
    put(&mut out, SECTOR + PLAIN_LEN_AT, (plain.len() as u32).to_le_bytes());
    out.extend(stream);
    Ok(out)
}

/// The kernel's bytes from its load address on: code, then data.
fn kernel(folder: &GrubFolder) -> Result<Vec<u8>, GrubError> {
    let elf = Elf::linked32(folder.file(KERNEL)?, EM_386)?;
    let (mut code, mut data) = (Vec::new(), Vec::new());
    for section in elf.sections.iter().filter(|section| section.alloc) {
        let outside = || damaged(KERNEL, format!("a section at {:#x}", section.address));
        let offset = section.address.checked_sub(LOAD_ADDRESS).ok_or_else(outside)?;
        match section.kind {
            PROGBITS if section.execute && offset != 0 => return Err(outside()),
            PROGBITS if section.execute => code.push((0, section.data)),
            PROGBITS => data.push((offset as usize, section.data)),
            NOBITS => {}
            _ => continue,
        }
        bound("kernel", offset.saturating_add(section.len), KERNEL_END - LOAD_ADDRESS)?;
    }
    // The last data says where the image ends; a kernel of code alone ends with it.
    let end = |(at, bytes): &(usize, &[u8])| at + bytes.len();
    let len = data.last().or(code.last()).map_or(0, end);
    let mut out = vec![0; code.iter().chain(&data).map(end).max().unwrap_or(0)];
    for (at, bytes) in code.into_iter().chain(data) {
        out[at..at + bytes.len()].copy_from_slice(bytes);
    }
    out.truncate(len);
    Ok(out)
}

/// Code of a disk's first sector. The bytes that follow are the disk's: signature, partition table, `55 aa`. Where it
/// goes on is as built: see [`place_disk_boot_code`].
///
/// # Errors
/// [`GrubError`] when `boot.img` is missing or damaged.
pub fn disk_boot_code(folder: &GrubFolder) -> Result<BootCode, GrubError> {
    folder.must_be(GrubPlatform::I386Pc)?;
    let name = "boot.img";
    let mut code = boot_code(folder.code(name)?);
    // A jump over the test whether the firmware's drive number is sound: on hard disks the test is made.
    if code[0x66..0x68] != [0xeb, 0x05] {
        return Err(damaged(name, "no jump where the drive number is looked at"));
    }
    put(&mut code, 0x66, [0x90, 0x90]);
    Ok(code)
}

/// The code of a disk whose core image lies from `sector` on, counted in the disk's own sectors.
pub fn place_disk_boot_code(code: &BootCode, sector: u64) -> BootCode {
    let mut placed = *code;
    put(&mut placed, CORE_SECTOR_AT, sector.to_le_bytes());
    placed
}

/// The code in a boot sector.
pub(super) fn boot_code(sector: &[u8; SECTOR]) -> BootCode {
    let mut code = [0; BOOT_CODE_LEN];
    code.copy_from_slice(&sector[..BOOT_CODE_LEN]);
    code
}

/// A core image as it lies on a disk from `sector` on, counted in the disk's own sectors: its block list says where
/// the rest follows.
pub fn place_core(core: &VirtualFile, sector: u64) -> VirtualFile {
    patch(core, LIST_SECTOR_AT as u64, &sector.wrapping_add(1).to_le_bytes())
}
