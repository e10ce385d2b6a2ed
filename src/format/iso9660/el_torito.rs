//! El Torito's boot catalog, and the boot image of a BIOS.

use super::{BLOCK, BiosBoot, Iso9660Error};
use crate::virtual_file::VirtualFile;

/// Platform of BIOS images.
const BIOS: u8 = 0;
/// Platform of UEFI images.
const UEFI: u8 = 0xef;
/// What a BIOS loads of its image, in blocks.
const BIOS_BLOCKS: u16 = 4;

/// The catalog for images at these sectors; the UEFI image has `uefi_len` bytes.
pub(super) fn catalog(bios: Option<u32>, uefi: Option<u32>, uefi_len: u64) -> Vec<u8> {
    // What does not fit is written as 0: firmware then takes all that follows.
    let uefi_blocks = u16::try_from(uefi_len.div_ceil(BLOCK)).unwrap_or(0);
    let mut out = Vec::new();
    match (bios, uefi) {
        (Some(bios), uefi) => {
            out.extend(validation(BIOS));
            out.extend(entry(bios, BIOS_BLOCKS));
            if let Some(uefi) = uefi {
                // The last section: of UEFI, with one entry.
                out.extend([0x91, UEFI, 1, 0]);
                out.resize(out.len() + 28, 0);
                out.extend(entry(uefi, uefi_blocks));
            }
        }
        (None, Some(uefi)) => {
            out.extend(validation(UEFI));
            out.extend(entry(uefi, uefi_blocks));
        }
        (None, None) => {}
    }
    out
}

/// The first entry: its 16 words add up to 0.
fn validation(platform: u8) -> [u8; 32] {
    let mut out = [0; 32];
    out[0] = 1;
    out[1] = platform;
    out[30..].copy_from_slice(&[0x55, 0xaa]);
    let sum = out.chunks(2).map(|word| u16::from_le_bytes([word[0], word[1]])).fold(0, u16::wrapping_add);
    out[28..30].copy_from_slice(&0u16.wrapping_sub(sum).to_le_bytes());
    out
}

/// A bootable image without emulation.
fn entry(lba: u32, blocks: u16) -> [u8; 32] {
    let mut out = [0; 32];
    out[0] = 0x88;
    out[6..8].copy_from_slice(&blocks.to_le_bytes());
    out[8..12].copy_from_slice(&lba.to_le_bytes());
    out
}

/// The boot image with what is patched in it when it starts in sector `lba`.
pub(super) fn patched(bios: &BiosBoot<'_>, lba: u32) -> Result<VirtualFile, Iso9660Error> {
    let mut patches = (bios.patches)(lba);
    patches.sort_by_key(|(at, _)| *at);
    let (mut parts, mut done) = (Vec::new(), 0);
    for (at, bytes) in patches {
        let end = at.saturating_add(bytes.len() as u64);
        if at < done || end > bios.image.len() {
            let what = format!("a patch of bytes {at}..{end} in a boot image of {}", bios.image.len());
            return Err(Iso9660Error::Path { path: bios.path.to_owned(), what });
        }
        parts.extend([bios.image.slice(done..at), VirtualFile::inline(bytes)]);
        done = end;
    }
    parts.push(bios.image.slice(done..bios.image.len()));
    Ok(VirtualFile::concat(parts))
}
