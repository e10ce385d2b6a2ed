//! Disk images, sector by sector.
//!
//! ```text
//! partition table; overlay's boot code where there is one
//! EFI       FAT    systemd-boot and the UKI, or GRUB for UEFI
//! BIOS      raw    GRUB's core image      only with GRUB
//! BOOT      XFS    kernel, initramfs, menu    only with GRUB
//! META      raw    the schematic's values
//! STATE, EPHEMERAL    empty, before Talos 1.8
//! partition table again
//! ```

mod profile;

use std::ops::Range;

use super::grub_cfg::disk_grub_cfg;
use super::loader_conf::loader_conf;
use super::uki::{Uki, uki_path};
use crate::format::fat::{self, FatError};
use crate::format::gpt::{Gpt, GptError, Guid};
use crate::format::grub::{BootCode, place_core, place_disk_boot_code};
use crate::format::meta::{self, Meta, MetaError};
use crate::format::tree::{FileTree, Node, TreeError};
use crate::format::xfs::{self, XfsError};
use crate::schematic::{Bootloader, EnrollKeys};
use crate::types::{Arch, TalosVersion};
use crate::virtual_file::{Outline, VirtualFile};

pub use profile::{disk_bootloader, disk_len};

const MIB: u64 = 1 << 20;
/// Length of an EFI partition that holds GRUB alone, and room beside the UKIs of one that holds systemd-boot, in bytes.
const EFI_LEN: u64 = 100 * MIB;
/// Length of the BIOS boot partition in bytes.
pub const BIOS_LEN: u64 = MIB;
/// Length of the STATE partition in bytes.
const STATE_LEN: u64 = 100 * MIB;
/// Bootable by old BIOSes.
const LEGACY_BOOT: u64 = 1 << 2;
/// The serial number of the EFI partition's file system.
const SERIAL: u32 = 0x1234_abcd;

/// GRUB for BIOS, linked for disks.
#[derive(Clone, Debug)]
pub struct DiskGrubBios {
    /// The core image, to be placed.
    pub core: VirtualFile,
    /// Code for the first sector, to be placed.
    pub boot_code: BootCode,
}

/// systemd-boot and what it boots.
#[derive(Clone, Debug)]
pub struct DiskSdBoot<'a> {
    /// systemd-boot.
    pub loader: VirtualFile,
    /// The UKI.
    pub uki: &'a Uki,
    /// When keys are enrolled: only with secure boot.
    pub enroll_keys: Option<EnrollKeys>,
}

/// What GRUB boots.
#[derive(Clone, Debug)]
pub struct BootFiles {
    /// The kernel.
    pub kernel: VirtualFile,
    /// The initramfs.
    pub initramfs: VirtualFile,
}

/// What boots.
#[derive(Clone, Debug)]
pub enum DiskLoaders<'a> {
    /// GRUB by BIOS, systemd-boot by UEFI.
    DualBoot(DiskGrubBios, BootFiles, DiskSdBoot<'a>),
    /// systemd-boot by UEFI.
    SdBoot(DiskSdBoot<'a>),
    /// GRUB by BIOS, where the architecture knows it, and by UEFI.
    Grub {
        /// That for BIOS.
        bios: Option<DiskGrubBios>,
        /// That for UEFI.
        efi: VirtualFile,
        /// What it boots.
        files: BootFiles,
    },
}

/// What an overlay adds to a disk.
#[derive(Clone, Debug, Default)]
pub struct DiskOverlay {
    /// Sectors kept free in front of the partition table's entries.
    pub offset: u64,
    /// Files of the EFI partition by path.
    pub efi_files: Vec<(String, VirtualFile)>,
    /// Boot code, by its place in bytes.
    pub writes: Vec<(u64, VirtualFile)>,
}

/// The parts of a disk image.
#[derive(Clone, Debug)]
pub struct DiskParts<'a> {
    /// The Talos version.
    pub version: &'a TalosVersion,
    /// The architecture.
    pub arch: Arch,
    /// Length of the disk in bytes.
    pub len: u64,
    /// Bytes a sector: 512 or 4096.
    pub sector_size: u32,
    /// What boots.
    pub loaders: DiskLoaders<'a>,
    /// The kernel command line, for GRUB.
    pub cmdline: &'a str,
    /// The schematic's META values.
    pub meta: Meta<'a>,
    /// What the overlay adds.
    pub overlay: DiskOverlay,
    /// The time of everything, in seconds since 1970.
    pub mtime: u32,
}

/// Why no disk image can be made.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The partitions have no room.
    #[error(transparent)]
    Gpt(#[from] GptError),
    /// The EFI partition has no room.
    #[error("partition EFI: {0}")]
    Fat(#[from] FatError),
    /// The BOOT partition has no room.
    #[error("partition BOOT: {0}")]
    Xfs(#[from] XfsError),
    /// The META partition has no room.
    #[error("partition META: {0}")]
    Meta(#[from] MetaError),
    /// A path that a tree cannot hold.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Two things at one place.
    #[error("the overlay writes to bytes {writes:?} of the disk, where {part} is")]
    Overlap {
        /// Where the overlay writes.
        writes: Range<u64>,
        /// What is there.
        part: String,
    },
    /// More than the disk has.
    #[error("the overlay writes to bytes {writes:?} of the disk, which ends at {len}")]
    Beyond {
        /// Where the overlay writes.
        writes: Range<u64>,
        /// Length of the disk in bytes.
        len: u64,
    },
}

/// The image, and what its parts are.
///
/// # Errors
/// [`DiskError`] naming the part that does not fit.
pub fn disk(parts: &DiskParts<'_>) -> Result<(VirtualFile, Outline), DiskError> {
    let (bootloader, bios, boot, sd_boot) = match &parts.loaders {
        DiskLoaders::DualBoot(bios, files, sd_boot) => (Bootloader::DualBoot, Some(bios), Some(files), Some(sd_boot)),
        DiskLoaders::SdBoot(sd_boot) => (Bootloader::SdBoot, None, None, Some(sd_boot)),
        DiskLoaders::Grub { bios, files, .. } => (Bootloader::Grub, bios.as_ref(), Some(files), None),
    };
    let mut table = Table::new(parts.version, bootloader, parts.len, parts.sector_size, parts.overlay.offset)?;
    let (mut outline, mut pieces) = (Outline::default(), Vec::new());
    if let (Some(grub), Some(place)) = (bios, &table.bios) {
        let sector = place.start / u64::from(parts.sector_size);
        let core = place_core(&grub.core, sector);
        outline.add(place.start..place.start + core.len(), "BIOS: GRUB's core image");
        pieces.push((place.start, core));
        table.gpt = table.gpt.with_boot_code(place_disk_boot_code(&grub.boot_code, sector));
    }
    pieces.extend(table.ends());
    let taken = table.taken();
    for (at, code) in &parts.overlay.writes {
        let writes = *at..at + code.len();
        if writes.end > parts.len {
            return Err(DiskError::Beyond { writes, len: parts.len });
        }
        let there = taken.iter().find(|(range, _)| range.start < writes.end && writes.start < range.end);
        if let Some((_, part)) = there {
            return Err(DiskError::Overlap { writes, part: part.clone() });
        }
        outline.add(writes, "overlay's boot code");
        pieces.push((*at, code.clone()));
    }
    for (range, name) in taken {
        outline.add(range, name);
    }

    let volume = efi_volume(parts, sd_boot, table.efi.end - table.efi.start)?;
    for (path, at) in &volume.offsets {
        let at = table.efi.start + at;
        match sd_boot.filter(|_| *path == uki_path(parts.version)) {
            Some(sd_boot) => {
                outline.add(at..at + sd_boot.uki.file.len(), "EFI: UKI");
                outline.nest(at, "EFI: UKI", sd_boot.uki.outline());
            }
            None => outline.add(at..at + 1, format!("EFI: {path} starts")),
        }
    }
    pieces.push((table.efi.start, volume.image));
    if let (Some(files), Some(place)) = (boot, &table.boot) {
        let volume = boot_volume(parts, bootloader, files, place.end - place.start)?;
        for (path, extents) in &volume.extents {
            for extent in extents {
                outline.add(place.start + extent.start..place.start + extent.end, format!("BOOT: {path}"));
            }
        }
        pieces.push((place.start, volume.image));
    }
    pieces.push((table.meta.start, parts.meta.lay_out()?));
    Ok((join(pieces, parts.len), outline))
}

/// The partition table, and where its partitions are in bytes.
struct Table {
    gpt: Gpt,
    sector_size: u32,
    /// Where the table's first entries stand, in bytes.
    entries_at: u64,
    efi: Range<u64>,
    bios: Option<Range<u64>>,
    boot: Option<Range<u64>>,
    meta: Range<u64>,
}

impl Table {
    fn new(
        version: &TalosVersion,
        bootloader: Bootloader,
        len: u64,
        sector_size: u32,
        offset: u64,
    ) -> Result<Self, GptError> {
        let mut gpt = Gpt::disk(Guid::of("talos-image-disk"), len, sector_size, offset)?;
        let entries_at = u64::from(sector_size) * (offset + 2);
        let boot_len = version.boot_partition_len();
        let efi_len = if bootloader == Bootloader::Grub { EFI_LEN } else { EFI_LEN + MIB + boot_len };
        let efi = gpt.allocate("EFI", Guid::EFI_SYSTEM, Some(efi_len), 0)?;
        let (mut bios, mut boot) = (None, None);
        if bootloader != Bootloader::SdBoot {
            bios = Some(gpt.allocate("BIOS", Guid::BIOS_BOOT, Some(BIOS_LEN), LEGACY_BOOT)?);
            boot = Some(gpt.allocate("BOOT", Guid::LINUX_DATA, Some(boot_len), 0)?);
        }
        let meta = gpt.allocate("META", Guid::LINUX_DATA, Some(meta::PARTITION_LEN), 0)?;
        if version.has_data_partitions() {
            gpt.allocate("STATE", Guid::LINUX_DATA, Some(STATE_LEN), 0)?;
            gpt.allocate("EPHEMERAL", Guid::LINUX_DATA, None, 0)?;
        }
        Ok(Self { gpt, sector_size, entries_at, efi, bios, boot, meta })
    }

    /// The table itself, by its places in bytes.
    fn ends(&self) -> [(u64, VirtualFile); 3] {
        let head = self.gpt.head();
        let front = head.slice(0..2 * u64::from(self.sector_size));
        [(0, front), (self.entries_at, head.slice(self.entries_at..head.len())), (self.gpt.tail_at(), self.gpt.tail())]
    }

    /// Where the table and the partitions are, in bytes.
    fn taken(&self) -> Vec<(Range<u64>, String)> {
        let names = ["partition table", "entries of the partition table", "second partition table"];
        let ends = self.ends().into_iter().zip(names);
        let ends = ends.map(|((at, file), name)| (at..at + file.len(), name.to_owned()));
        let partitions = self.gpt.partitions().iter();
        ends.chain(partitions.map(|part| (self.gpt.bytes(part), format!("partition {}", part.name)))).collect()
    }
}

/// The EFI partition's file system.
fn efi_volume(parts: &DiskParts<'_>, sd_boot: Option<&DiskSdBoot<'_>>, len: u64) -> Result<fat::Volume, DiskError> {
    // Where firmware looks for what boots (UEFI 2.10, 3.5.1.1), as the reference writes it: letters count as equal.
    let loader = match parts.arch {
        Arch::Amd64 => "EFI/boot/BOOTX64.efi",
        Arch::Arm64 => "EFI/boot/BOOTAA64.efi",
    };
    let mut tree = FileTree::new();
    match (&parts.loaders, sd_boot) {
        (_, Some(sd_boot)) => {
            tree.insert(loader, Node::file(0o644, sd_boot.loader.clone()))?;
            tree.insert(uki_path(parts.version), Node::file(0o644, sd_boot.uki.file.clone()))?;
            let conf = VirtualFile::inline(loader_conf(sd_boot.enroll_keys));
            tree.insert("loader/loader.conf", Node::file(0o644, conf))?;
        }
        (DiskLoaders::Grub { efi, .. }, None) => {
            tree.insert(loader, Node::file(0o644, efi.clone()))?;
        }
        _ => {}
    }
    for (path, file) in &parts.overlay.efi_files {
        tree.insert(path.as_str(), Node::file(0o644, file.clone()))?;
    }
    Ok(fat::lay_out(
        &tree,
        &fat::Options {
            size: len,
            sector_size: parts.sector_size,
            format: None,
            sectors_per_cluster: None,
            alignment: 1,
            label: "EFI",
            serial: SERIAL,
            mtime: parts.mtime,
        },
    )?)
}

/// The BOOT partition's file system.
fn boot_volume(
    parts: &DiskParts<'_>,
    bootloader: Bootloader,
    files: &BootFiles,
    len: u64,
) -> Result<xfs::Volume, DiskError> {
    let menu = VirtualFile::inline(disk_grub_cfg(parts.version, bootloader, parts.cmdline));
    let mut tree = FileTree::new();
    tree.insert("A", Node::directory(0o755))?;
    tree.insert("A/vmlinuz", Node::file(0o644, files.kernel.clone()))?;
    tree.insert("A/initramfs.xz", Node::file(0o644, files.initramfs.clone()))?;
    tree.insert("grub", Node::directory(0o700))?;
    tree.insert("grub/grub.cfg", Node::file(0o600, menu))?;
    Ok(xfs::lay_out(
        &tree,
        &xfs::Options {
            size: len,
            sector_size: parts.sector_size,
            label: "BOOT",
            uuid: Guid::of("BOOT").bytes(),
            mtime: parts.mtime,
        },
    )?)
}

/// The pieces at their places, which do not overlap; zeros between them.
fn join(mut pieces: Vec<(u64, VirtualFile)>, len: u64) -> VirtualFile {
    pieces.sort_by_key(|(at, _)| *at);
    let (mut files, mut end) = (Vec::with_capacity(2 * pieces.len() + 1), 0);
    for (at, file) in pieces {
        files.push(VirtualFile::zeros(at - end));
        end = at + file.len();
        files.push(file);
    }
    files.push(VirtualFile::zeros(len - end));
    VirtualFile::concat(files)
}

#[cfg(test)]
mod tests;
