//! GUID partition tables: what stands at the start and at the end of a disk.
//!
//! Specification: UEFI 2.10, section 5 "GUID Partition Table (GPT) Disk Layout". All integers are little-endian.
//!
//! ```text
//! head  protective MBR (sector 0), header (1), zeros up to the entries, 128 entries of 128 bytes
//! tail  the entries again, header as the disk's last sector
//! ```

mod guid;

use std::ops::Range;

use bytes::Bytes;

use super::sparse::sparse;
use crate::virtual_file::VirtualFile;

pub use guid::Guid;

/// Length of the MBR's boot code in bytes.
pub const BOOT_CODE_LEN: usize = 440;
/// The most partitions of a table.
const ENTRIES: usize = 128;
/// Length of an entry in bytes.
const ENTRY_LEN: usize = 128;
/// Length of the array of entries in bytes.
const ARRAY_LEN: usize = ENTRIES * ENTRY_LEN;
/// Length of a header in bytes, without the rest of its sector.
const HEADER_LEN: usize = 92;
/// The longest name in UTF-16 units.
const NAME_LEN: usize = 36;
/// What allocated partitions start at multiples of, in bytes.
const ALIGNMENT: u64 = 1 << 20;
/// Length of an MBR in bytes.
const MBR_LEN: usize = 512;

/// Why a table cannot be laid out.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum GptError {
    /// Sectors that no table can stand on.
    #[error("gpt: sectors of {0} bytes, {MBR_LEN} to 65536 are possible")]
    SectorSize(u32),
    /// A disk without room for the tables.
    #[error("gpt: a disk of {len} bytes has no room for partition tables")]
    TooSmall {
        /// The disk's length in bytes.
        len: u64,
    },
    /// A partition that finds no room, or overlaps another.
    #[error("gpt: partition {name:?}: no room {wanted}")]
    NoRoom {
        /// The partition's name.
        name: String,
        /// How much room, or where.
        wanted: String,
    },
    /// A name longer than its field.
    #[error("gpt: partition name {0:?} is longer than {NAME_LEN} UTF-16 units")]
    Name(String),
    /// More partitions than entries.
    #[error("gpt: partition {0:?}: {ENTRIES} partitions at most")]
    TooMany(String),
}

/// An entry of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The name, at most 36 UTF-16 units.
    pub name: String,
    /// What the partition is for.
    pub type_guid: Guid,
    /// The partition's own identity.
    pub guid: Guid,
    /// Its sectors.
    pub sectors: Range<u64>,
    /// Attribute bits: 0 required by the platform, 2 bootable by old BIOSes, 60 read-only.
    pub attributes: u64,
}

/// A partition table being laid out.
#[derive(Clone, Debug)]
pub struct Gpt {
    guid: Guid,
    /// Bytes.
    sector_size: u32,
    /// Of the whole disk; what does not fill one is left out.
    sectors: u64,
    /// The sector in which the first array of entries starts.
    entries_at: u64,
    first_usable: u64,
    boot_code: Bytes,
    partitions: Vec<Partition>,
}

impl Gpt {
    /// A table without partitions for a disk of `len` bytes: its first array of entries starts in sector `entries_at`,
    /// partitions may start in sector `first_usable` (both are moved behind what the table itself takes).
    ///
    /// # Errors
    /// [`GptError::SectorSize`], [`GptError::TooSmall`].
    pub fn new(guid: Guid, len: u64, sector_size: u32, entries_at: u64, first_usable: u64) -> Result<Self, GptError> {
        if !(MBR_LEN as u32..=1 << 16).contains(&sector_size) {
            return Err(GptError::SectorSize(sector_size));
        }
        let sectors = len / u64::from(sector_size);
        let array = array_sectors(sector_size);
        let entries_at = entries_at.max(2);
        let first_usable = first_usable.max(entries_at.saturating_add(array));
        let boot_code = Bytes::new();
        Self { guid, sector_size, sectors, entries_at, first_usable, boot_code, partitions: Vec::new() }.checked(len)
    }

    /// The table, if there is a sector between its copies.
    fn checked(self, len: u64) -> Result<Self, GptError> {
        let taken = self.first_usable.saturating_add(array_sectors(self.sector_size) + 1);
        if taken < self.sectors { Ok(self) } else { Err(GptError::TooSmall { len }) }
    }

    /// The table of a disk image: the first array of entries is moved back by `offset` sectors to make room for firmware
    /// in front of it, and the first usable sector behind it is at a whole MiB.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn disk(guid: Guid, len: u64, sector_size: u32, offset: u64) -> Result<Self, GptError> {
        let mut gpt = Self::new(guid, len, sector_size, offset.saturating_add(2), 0)?;
        gpt.first_usable = gpt.first_usable.next_multiple_of(gpt.alignment());
        gpt.checked(len)
    }

    /// Puts code for old BIOSes into the protective MBR.
    #[must_use]
    pub fn with_boot_code(mut self, code: [u8; BOOT_CODE_LEN]) -> Self {
        self.boot_code = Bytes::copy_from_slice(&code);
        self
    }

    /// The partitions in the table's order.
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// Where a partition lies, in bytes.
    pub fn bytes(&self, partition: &Partition) -> Range<u64> {
        let size = u64::from(self.sector_size);
        partition.sectors.start * size..partition.sectors.end * size
    }

    /// Adds a partition.
    ///
    /// # Errors
    /// [`GptError::NoRoom`] where it leaves the usable sectors or overlaps another, [`GptError::Name`],
    /// [`GptError::TooMany`].
    pub fn add(&mut self, partition: Partition) -> Result<(), GptError> {
        let Partition { name, sectors, .. } = &partition;
        if name.encode_utf16().count() > NAME_LEN {
            return Err(GptError::Name(name.clone()));
        }
        if self.partitions.len() == ENTRIES {
            return Err(GptError::TooMany(name.clone()));
        }
        let inside = self.first_usable <= sectors.start && sectors.end <= self.backup_at();
        let apart = |other: &Partition| other.sectors.end <= sectors.start || sectors.end <= other.sectors.start;
        if sectors.is_empty() || !inside || !self.partitions.iter().all(apart) {
            let wanted = format!("at sectors {sectors:?}");
            return Err(GptError::NoRoom { name: name.clone(), wanted });
        }
        self.partitions.push(partition);
        Ok(())
    }

    /// Adds a partition behind all others, at a whole MiB, with the GUID that its name stands for.
    ///
    /// It gets `len` bytes, rounded down to sectors, or what is left, rounded down to MiB. Gives where it lies in bytes.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn allocate(
        &mut self,
        name: &str,
        type_guid: Guid,
        len: Option<u64>,
        attributes: u64,
    ) -> Result<Range<u64>, GptError> {
        let last = self.partitions.iter().map(|partition| partition.sectors.end).max().unwrap_or(self.first_usable);
        let start = last.next_multiple_of(self.alignment());
        let left = self.backup_at().saturating_sub(start);
        let wanted = len.map_or(left - left % self.alignment(), |len| len / u64::from(self.sector_size));
        if wanted == 0 || wanted > left {
            let wanted = len.map_or_else(|| "at all".to_owned(), |len| format!("for {len} bytes"));
            return Err(GptError::NoRoom { name: name.to_owned(), wanted });
        }
        let sectors = start..start + wanted;
        let partition = Partition { name: name.to_owned(), type_guid, guid: Guid::of(name), sectors, attributes };
        let bytes = self.bytes(&partition);
        self.add(partition)?;
        Ok(bytes)
    }

    /// The disk from its start to the end of the first array of entries.
    pub fn head(&self) -> VirtualFile {
        let size = self.sector_size as usize;
        let mut front = self.protective_mbr();
        front.resize(size, 0);
        front.extend(self.header(1, self.sectors - 1, self.entries_at));
        front.resize(2 * size, 0);
        let gap = (self.entries_at - 2) * size as u64;
        VirtualFile::concat([sparse(&front), VirtualFile::zeros(gap), self.whole_array()])
    }

    /// The second array of entries and the header behind it: the disk from [`Self::tail_at`] to its last whole sector.
    pub fn tail(&self) -> VirtualFile {
        let mut header = self.header(self.sectors - 1, 1, self.backup_at());
        header.resize(self.sector_size as usize, 0);
        VirtualFile::concat([self.whole_array(), sparse(&header)])
    }

    /// Where the tail stands, in bytes from the disk's start.
    pub fn tail_at(&self) -> u64 {
        self.backup_at() * u64::from(self.sector_size)
    }

    /// The sector of the second array of entries: the first one that is not usable any more.
    fn backup_at(&self) -> u64 {
        self.sectors - 1 - array_sectors(self.sector_size)
    }

    /// One MiB in sectors, rounded up.
    fn alignment(&self) -> u64 {
        ALIGNMENT.div_ceil(u64::from(self.sector_size))
    }

    /// An MBR whose one partition spans the disk, so that old tools take no part of it for free.
    fn protective_mbr(&self) -> Vec<u8> {
        let mut mbr = self.boot_code.to_vec();
        mbr.resize(446, 0);
        // Not active, from cylinder 0, head 0, sector 2 to what CHS cannot say; type EE.
        mbr.extend([0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
        mbr.extend(1u32.to_le_bytes());
        mbr.extend(u32::try_from(self.sectors - 1).unwrap_or(u32::MAX).to_le_bytes());
        mbr.resize(510, 0);
        mbr.extend([0x55, 0xaa]);
        mbr
    }

    /// The array of entries in whole sectors.
    fn whole_array(&self) -> VirtualFile {
        let padded = array_sectors(self.sector_size) * u64::from(self.sector_size);
        VirtualFile::concat([sparse(&self.array()), VirtualFile::zeros(padded - ARRAY_LEN as u64)])
    }

    fn array(&self) -> Vec<u8> {
        let mut array = Vec::with_capacity(ARRAY_LEN);
        for (number, partition) in self.partitions.iter().enumerate() {
            array.extend(partition.type_guid.on_disk());
            array.extend(partition.guid.on_disk());
            for field in [partition.sectors.start, partition.sectors.end - 1, partition.attributes] {
                array.extend(field.to_le_bytes());
            }
            array.extend(partition.name.encode_utf16().flat_map(u16::to_le_bytes));
            array.resize((number + 1) * ENTRY_LEN, 0);
        }
        array.resize(ARRAY_LEN, 0);
        array
    }

    /// The header that stands in sector `own`, with the array of entries in sector `entries_at`.
    fn header(&self, own: u64, other: u64, entries_at: u64) -> Vec<u8> {
        let mut header = b"EFI PART\0\0\x01\0".to_vec();
        header.extend((HEADER_LEN as u32).to_le_bytes());
        header.extend([0; 8]); // its checksum, reserved
        for field in [own, other, self.first_usable, self.backup_at() - 1] {
            header.extend(field.to_le_bytes());
        }
        header.extend(self.guid.on_disk());
        header.extend(entries_at.to_le_bytes());
        header.extend((ENTRIES as u32).to_le_bytes());
        header.extend((ENTRY_LEN as u32).to_le_bytes());
        header.extend(crc32(&self.array()).to_le_bytes());
        let checksum = crc32(&header);
        header[16..20].copy_from_slice(&checksum.to_le_bytes());
        header
    }
}

/// Sectors that an array of entries takes.
fn array_sectors(sector_size: u32) -> u64 {
    (ARRAY_LEN as u64).div_ceil(u64::from(sector_size))
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests;
