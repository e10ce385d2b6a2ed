//! What stands before the allocation tables: the boot sector, FAT32's counters, and copies of both.

use bytes::Bytes;

use super::geometry::{Geometry, ROOT_ENTRIES_FAT16};
use super::{FIRST_CLUSTER, Format};
use crate::virtual_file::VirtualFile;

/// Bytes of a sector that are used, whatever its size.
const USED: usize = 512;
/// Where FAT32's counters and the copies stand, in sectors.
const INFO_SECTOR: u16 = 1;
const BACKUP_SECTOR: u16 = 6;
/// The name of the system that made the volume; the specification's choice as the one that troubles the fewest readers.
const SYSTEM: &[u8; 8] = b"MSWIN4.1";
/// Kind of medium: a fixed disk.
const MEDIUM: u8 = 0xf8;
/// What BIOS programs see as the disk's shape; nothing here reads it.
const SECTORS_PER_TRACK: u16 = 63;
const HEADS: u16 = 255;
/// Number of the first fixed disk in BIOS.
const DRIVE: u8 = 0x80;
/// Says that serial number, label and name of the format follow.
const EXTENDED: u8 = 0x29;
/// Code of who starts the volume by BIOS: says so to the BIOS (`int 18h`), then stops.
const CODE: [u8; 4] = [0xcd, 0x18, 0xeb, 0xfe];
/// Ends a boot sector.
const SIGNATURE: [u8; 2] = [0x55, 0xaa];

/// All reserved sectors. `free` clusters are free, the lowest of them is `next`.
pub(super) fn reserved(
    geometry: &Geometry,
    label: &[u8; 11],
    serial: u32,
    free: u64,
    next: Option<u64>,
) -> VirtualFile {
    let sector = u64::from(geometry.sector_size);
    let boot = at_sector(boot_sector(geometry, label, serial), sector);
    let all = match geometry.format {
        Format::Fat16 => boot,
        Format::Fat32 => {
            let copied = VirtualFile::concat([boot, at_sector(info_sector(free, next), sector)]);
            let between = VirtualFile::zeros(u64::from(BACKUP_SECTOR) * sector - copied.len());
            VirtualFile::concat([copied.clone(), between, copied])
        }
    };
    let rest = u64::from(geometry.reserved) * sector - all.len();
    VirtualFile::concat([all, VirtualFile::zeros(rest)])
}

fn at_sector(used: Vec<u8>, sector: u64) -> VirtualFile {
    let rest = sector - used.len() as u64;
    VirtualFile::concat([VirtualFile::inline(Bytes::from(used)), VirtualFile::zeros(rest)])
}

fn boot_sector(geometry: &Geometry, label: &[u8; 11], serial: u32) -> Vec<u8> {
    let fat16 = geometry.format == Format::Fat16;
    // FAT16 has a field of 16 bits for the number of sectors, to be used where it suffices.
    let short = u16::try_from(geometry.sectors).ok().filter(|_| fat16);
    let mut out = Vec::with_capacity(USED);
    // A jump to the code.
    out.extend_from_slice(&[0xeb, if fat16 { 0x3c } else { 0x58 }, 0x90]);
    out.extend_from_slice(SYSTEM);
    out.extend_from_slice(&(geometry.sector_size as u16).to_le_bytes());
    out.push(geometry.sectors_per_cluster as u8);
    out.extend_from_slice(&(geometry.reserved as u16).to_le_bytes());
    out.push(2); // tables
    out.extend_from_slice(&(if fat16 { ROOT_ENTRIES_FAT16 as u16 } else { 0 }).to_le_bytes());
    out.extend_from_slice(&short.unwrap_or(0).to_le_bytes());
    out.push(MEDIUM);
    out.extend_from_slice(&(if fat16 { geometry.table as u16 } else { 0 }).to_le_bytes());
    out.extend_from_slice(&SECTORS_PER_TRACK.to_le_bytes());
    out.extend_from_slice(&HEADS.to_le_bytes());
    out.extend_from_slice(&[0; 4]); // sectors before the volume
    out.extend_from_slice(&(if short.is_some() { 0 } else { geometry.sectors }).to_le_bytes());
    if !fat16 {
        out.extend_from_slice(&geometry.table.to_le_bytes());
        out.extend_from_slice(&[0; 4]); // flags: tables are equal; version
        out.extend_from_slice(&(FIRST_CLUSTER as u32).to_le_bytes()); // root directory
        out.extend_from_slice(&INFO_SECTOR.to_le_bytes());
        out.extend_from_slice(&BACKUP_SECTOR.to_le_bytes());
        out.extend_from_slice(&[0; 12]);
    }
    out.extend_from_slice(&[DRIVE, 0, EXTENDED]);
    out.extend_from_slice(&serial.to_le_bytes());
    out.extend_from_slice(label);
    out.extend_from_slice(if fat16 { b"FAT16   " } else { b"FAT32   " });
    out.extend_from_slice(&CODE);
    out.resize(USED - SIGNATURE.len(), 0);
    out.extend_from_slice(&SIGNATURE);
    out
}

fn info_sector(free: u64, next: Option<u64>) -> Vec<u8> {
    let mut out = vec![0; USED];
    let unknown = u32::MAX;
    for (at, value) in [
        (0x000, 0x4161_5252),
        (0x1e4, 0x6141_7272),
        (0x1e8, free as u32),
        (0x1ec, next.map_or(unknown, |next| next as u32)),
        (0x1fc, 0xaa55_0000),
    ] {
        out[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    out
}
