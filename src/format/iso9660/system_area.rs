//! The first sectors of an image, which ISO 9660 leaves to others, and the end of it.

use std::ops::Range;

use super::{BLOCK, GptGuids, Iso9660Error};
use crate::format::gpt::{BOOT_CODE_LEN, Gpt, Guid, Partition};
use crate::format::sparse::sparse;
use crate::virtual_file::VirtualFile;

/// Length of the system area in bytes.
pub(super) const LEN: u64 = 16 * 2048;
/// The first block of a partition: the end of the system area.
const FIRST: u64 = LEN / BLOCK;
/// What the GPT's second copy takes, in bytes.
pub(super) const BACKUP_LEN: u64 = 33 * BLOCK;
/// Attributes of the ISO's own partition: required, read-only.
const ISO_ATTRIBUTES: u64 = 1 << 60 | 1;
/// Heads of the geometry in which an MBR tells places.
const HEADS: u64 = 64;
/// Blocks a head of that geometry; with the heads, a cylinder is 1 MiB.
const HEAD_BLOCKS: u64 = 32;
/// Partition type of Linux' data.
const LINUX: u8 = 0x83;
/// Partition type of what firmware looks for boot loaders in.
const EFI: u8 = 0xef;

/// What a partition table tells; all in bytes.
pub(super) struct Parts {
    /// Length of the image.
    pub(super) len: u64,
    /// End of the ISO's own files.
    pub(super) files_end: u64,
    /// The UEFI image.
    pub(super) uefi: Option<Range<u64>>,
}

impl Parts {
    /// The ISO's own partition and that of the UEFI image, in blocks.
    fn blocks(&self) -> (Range<u64>, Option<Range<u64>>) {
        let uefi = self.uefi.as_ref().map(|uefi| uefi.start / BLOCK..uefi.end / BLOCK);
        // Up to the UEFI image, so that nothing lies between the two.
        (FIRST..uefi.as_ref().map_or(self.files_end / BLOCK, |uefi| uefi.start), uefi)
    }
}

/// System area and tail with a GPT.
pub(super) fn gpt(
    parts: &Parts,
    guids: &GptGuids,
    boot_code: [u8; BOOT_CODE_LEN],
) -> Result<[VirtualFile; 2], Iso9660Error> {
    let mut gpt = Gpt::new(guids.disk, parts.len, BLOCK as u32, 2, FIRST)?.with_boot_code(boot_code);
    let (iso9660, uefi) = parts.blocks();
    gpt.add(Partition {
        name: "ISO9660".to_owned(),
        type_guid: Guid::BASIC_DATA,
        guid: guids.iso9660,
        sectors: iso9660,
        attributes: ISO_ATTRIBUTES,
    })?;
    if let Some(uefi) = uefi {
        gpt.add(Partition {
            name: "EFI".to_owned(),
            type_guid: Guid::EFI_SYSTEM,
            guid: guids.uefi,
            sectors: uefi,
            attributes: 0,
        })?;
    }
    Ok([gpt.head(), gpt.tail()])
}

/// System area with an MBR alone.
pub(super) fn mbr(parts: &Parts, boot_code: [u8; BOOT_CODE_LEN]) -> Result<VirtualFile, Iso9660Error> {
    let mut out = boot_code.to_vec();
    out.resize(446, 0);
    let (iso9660, uefi) = parts.blocks();
    for (kind, blocks) in [(LINUX, Some(iso9660)), (EFI, uefi)] {
        if let Some(blocks) = blocks {
            out.extend(mbr_entry(kind, &blocks)?);
        }
    }
    out.resize(510, 0);
    out.extend([0x55, 0xaa]);
    Ok(sparse(&out))
}

/// An entry of an MBR that is not marked active.
fn mbr_entry(kind: u8, blocks: &Range<u64>) -> Result<Vec<u8>, Iso9660Error> {
    let narrow = |count: u64| {
        let max = u64::from(u32::MAX);
        u32::try_from(count).map_err(|_| Iso9660Error::TooLarge { what: "blocks of an MBR partition", count, max })
    };
    let mut out = vec![0];
    out.extend(chs(blocks.start));
    out.push(kind);
    out.extend(chs(blocks.end - 1));
    out.extend(narrow(blocks.start)?.to_le_bytes());
    out.extend(narrow(blocks.end - blocks.start)?.to_le_bytes());
    Ok(out)
}

/// Head, sector and cylinder of a block; the greatest where it is beyond cylinder 1023.
fn chs(block: u64) -> [u8; 3] {
    let (cylinder, head, sector) =
        (block / (HEADS * HEAD_BLOCKS), block / HEAD_BLOCKS % HEADS, block % HEAD_BLOCKS + 1);
    if cylinder > 1023 {
        return [0xfe, 0xff, 0xff];
    }
    [head as u8, sector as u8 | (cylinder >> 2) as u8 & 0xc0, cylinder as u8]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tables of the reference's ISOs that boot by UEFI alone, for x86-64 and AArch64.
    #[test]
    fn entries_are_those_of_the_reference() {
        let table = |uefi: Range<u64>| {
            let uefi = Some(uefi.start * BLOCK..uefi.end * BLOCK);
            let area = mbr(&Parts { len: 0, files_end: 0, uefi }, [0; BOOT_CODE_LEN]).unwrap();
            let area = area.read_all(&crate::virtual_file::NoBlobs).unwrap();
            hex::encode(&area[446..478])
        };
        let amd64 = table(53_248..53_248 + 75_776);
        assert_eq!(amd64, "00020100833f201940000000c0cf00000000011aef3f203e00d0000000280100");
        let arm64 = table(92_160..92_160 + 114_688);
        assert_eq!(arm64, "00020100833f202c40000000c06701000000012def3f20640068010000c00100");
        assert_eq!(chs(1023 * 2048 + 2047), [63, 32 | 0xc0, 0xff]);
        assert_eq!(chs(1024 * 2048), [0xfe, 0xff, 0xff]);
    }
}
