//! Stream-optimized VMDKs: what an OVA holds.
//!
//! Specification: VMware, "Virtual Disk Format 5.0", section "Stream-Optimized Compressed Sparse Extents". All integers
//! are little-endian, all places count sectors of 512 bytes.
//!
//! ```text
//! header, descriptor, then for each 32 MiB with data: grains, marker and grain table; marker and grain directory,
//! marker and footer, end marker
//! ```
//! Grains of zeros are left out, as are grain tables without any grain. The others hold their contents in stored blocks
//! of deflate: a kernel and an initramfs do not shrink, and a length that does not depend on contents is known at once.

use std::ops::Range;

use crate::types::Digest;
use crate::virtual_file::{Coder, Endian, Outline, Parts, VirtualFile, Width};

const SECTOR: u64 = 512;
/// Bytes a grain, and its sectors: raw, and coded.
const GRAIN: u64 = 64 << 10;
const GRAIN_SECTORS: u64 = GRAIN / SECTOR;
const CODED_SECTORS: u64 = 129;
/// Grains in a table; bytes that it covers; its own sectors.
const ENTRIES: u64 = 512;
const COVERED: u64 = ENTRIES * GRAIN;
const TABLE_SECTORS: u64 = ENTRIES * 4 / SECTOR;
/// Where the descriptor stands, its sectors, and where grains begin.
const DESCRIPTOR_AT: u64 = 1;
const DESCRIPTOR_SECTORS: u64 = 20;
const OVERHEAD: u64 = 128;
/// The grain directory's place is told in the footer.
const AT_END: u64 = u64::MAX;
/// Types of markers.
const TABLE: u32 = 1;
const DIRECTORY: u32 = 2;
const FOOTER: u32 = 3;

/// Why a disk cannot be laid out.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum VmdkError {
    /// No whole grains.
    #[error("vmdk: a disk of {0} bytes is no whole number of grains of {GRAIN} bytes")]
    Len(u64),
    /// More data than places of 32 bits reach.
    #[error("vmdk: {0} sectors of data, 4294967295 are possible")]
    TooLarge(u64),
}

/// The image of a disk whose parts `outline` names, and what the image's parts are. The image calls itself `name`.
///
/// # Errors
/// [`VmdkError`]
pub fn lay_out(disk: &VirtualFile, outline: &Outline, name: &str) -> Result<(VirtualFile, Outline), VmdkError> {
    if !disk.len().is_multiple_of(GRAIN) {
        return Err(VmdkError::Len(disk.len()));
    }
    let sectors = disk.len() / SECTOR;
    let mut image = Image::default();
    image.push(VirtualFile::inline(header(sectors, AT_END)), 1, "header");
    image.push(VirtualFile::inline(descriptor(disk, name)), DESCRIPTOR_SECTORS, "descriptor");
    image.push(VirtualFile::empty(), OVERHEAD - image.sectors(), "padding");

    let mut directory = Vec::new();
    let data = disk.data(GRAIN);
    for start in (0..disk.len()).step_by(COVERED as usize) {
        let covered = start..(start + COVERED).min(disk.len());
        let inside = |range: &Range<u64>| range.start.max(covered.start)..range.end.min(covered.end);
        let ranges: Vec<_> = data.iter().map(inside).filter(|range| range.start < range.end).collect();
        directory.push(if ranges.is_empty() { 0 } else { image.grains((disk, outline), start, &ranges) });
    }
    let directory_sectors = (directory.len() as u64 * 4).div_ceil(SECTOR);
    image.marker(directory_sectors, DIRECTORY);
    let directory_at = image.sectors();
    // Places beyond 32 bits are cut here and refused below.
    let entries: Vec<u8> = directory.iter().flat_map(|place| (*place as u32).to_le_bytes()).collect();
    image.push(VirtualFile::inline(entries), directory_sectors, "grain directory");
    image.marker(1, FOOTER);
    image.push(VirtualFile::inline(header(sectors, directory_at)), 1, "footer");
    image.push(VirtualFile::empty(), 1, "marker of the end");
    if image.sectors() > u64::from(u32::MAX) { Err(VmdkError::TooLarge(image.sectors())) } else { Ok(image.0.finish()) }
}

/// An image being laid out.
#[derive(Default)]
struct Image(Parts);

impl Image {
    /// Sectors so far.
    const fn sectors(&self) -> u64 {
        self.0.len() / SECTOR
    }

    /// Appends a part and zeros up to as many sectors.
    fn push(&mut self, part: VirtualFile, sectors: u64, name: &str) {
        self.0.push(filled(part, sectors), name);
    }

    fn marker(&mut self, sectors: u64, kind: u32) {
        let marker = [&sectors.to_le_bytes()[..], &[0; 4], &kind.to_le_bytes()].concat();
        self.push(VirtualFile::inline(marker), 1, "marker");
    }

    /// Appends the grains of ranges that one table covers from `start` on, and the table; gives the table's place.
    fn grains(&mut self, (disk, outline): (&VirtualFile, &Outline), start: u64, ranges: &[Range<u64>]) -> u64 {
        let (mut table, mut next) = (Vec::new(), start);
        for range in ranges {
            let count = (range.end - range.start) / GRAIN;
            table.push(VirtualFile::zeros((range.start - next) / GRAIN * 4));
            table.push(VirtualFile::count(self.sectors(), CODED_SECTORS, Width::U32, Endian::Little, count));
            next = range.end;
            let coder = Coder::VmdkGrains { first_sector: range.start / SECTOR };
            let grains = VirtualFile::coded(coder, disk.slice(range.clone()));
            self.0.push_made(filled(grains, count * CODED_SECTORS), "grains", outline, range);
        }
        self.marker(TABLE_SECTORS, TABLE);
        let at = self.sectors();
        self.push(VirtualFile::concat(table), TABLE_SECTORS, "grain table");
        at
    }
}

/// A part, and zeros up to as many sectors.
fn filled(part: VirtualFile, sectors: u64) -> VirtualFile {
    let padding = sectors * SECTOR - part.len();
    VirtualFile::concat([part, VirtualFile::zeros(padding)])
}

/// The header, or the footer, which alone knows where the grain directory is.
fn header(sectors: u64, directory_at: u64) -> Vec<u8> {
    let mut header = b"KDMV".to_vec();
    header.extend(3u32.to_le_bytes());
    header.extend(0x3_0001u32.to_le_bytes()); // line ends can be checked, grains are compressed, there are markers
    for number in [sectors, GRAIN_SECTORS, DESCRIPTOR_AT, DESCRIPTOR_SECTORS] {
        header.extend(number.to_le_bytes());
    }
    header.extend((ENTRIES as u32).to_le_bytes());
    for number in [0, directory_at, OVERHEAD] {
        header.extend(number.to_le_bytes());
    }
    header.extend(b"\0\n \r\n"); // shut down cleanly; bytes that a transfer as text would change
    header.extend(1u16.to_le_bytes()); // deflate
    header
}

/// The text that names the disk. Its content identifier follows from the disk's extents.
fn descriptor(disk: &VirtualFile, name: &str) -> String {
    let sectors = disk.len() / SECTOR;
    let id = Digest::of(&disk.encode());
    let id = u32::from_le_bytes([id.raw()[0], id.raw()[1], id.raw()[2], id.raw()[3]]) >> 1;
    let cylinders = (sectors / (255 * 63)).clamp(1, 65_535);
    format!(
        "# Disk DescriptorFile
version=1
CID={id:08x}
parentCID=ffffffff
createType=\"streamOptimized\"

# Extent description
RW {sectors} SPARSE \"{name}\"

# The Disk Data Base
#DDB

ddb.adapterType = \"lsilogic\"
ddb.geometry.cylinders = \"{cylinders}\"
ddb.geometry.heads = \"255\"
ddb.geometry.sectors = \"63\"
ddb.virtualHWVersion = \"15\"
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_great_disk_is_a_short_list() {
        let blob = VirtualFile::blob(Digest::of(b"kernel"), 100 << 20);
        let disk = [VirtualFile::inline("mbr"), VirtualFile::zeros((1 << 20) - 3), blob, VirtualFile::zeros(10 << 30)];
        let disk = VirtualFile::concat(disk).slice(0..10 << 30);
        let image = lay_out(&disk, &Outline::default(), "disk.vmdk").unwrap().0;
        let grains = (1 + (100 << 20) / GRAIN) * CODED_SECTORS;
        let sectors = OVERHEAD + grains + 4 * (1 + TABLE_SECTORS) + 1 + 3 + 3;
        assert_eq!(image.len(), sectors * SECTOR);
        assert!(image.encode().len() < 4000, "{:?}", image);
    }

    #[test]
    fn disks_that_cannot_be() {
        assert_eq!(lay_out(&VirtualFile::zeros(512), &Outline::default(), "x"), Err(VmdkError::Len(512)));
        let full = VirtualFile::repeat("x", 3 << 40);
        assert!(matches!(lay_out(&full, &Outline::default(), "x"), Err(VmdkError::TooLarge(_))));
    }
}
