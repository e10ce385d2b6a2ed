//! ISO images: boot from CD and from a USB stick, by BIOS with GRUB, by UEFI with systemd-boot or GRUB.
//!
//! What is big is there once. With systemd-boot the files of the ISO lie in the FAT image that the firmware boots from,
//! and `/boot/vmlinuz` and `/boot/initramfs.xz` are sections of the UKI in it.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::grub_cfg::iso_grub_cfg;
use super::iso_label::{IsoLabel, iso_label};
use super::loader_conf::loader_conf;
use super::uki::{Uki, uki_path};
use crate::format::fat::{self, FatError, ISO_SLACK, Volume, iso_image_size};
use crate::format::gpt::BOOT_CODE_LEN;
use crate::format::grub::{BootFile, place_hybrid_boot_code};
use crate::format::iso9660::{BiosBoot, Content, GptGuids, Image, Iso9660Error, Layout, PartitionTable, Patch};
use crate::format::tree::{FileTree, Node, TreeError};
use crate::schematic::{Bootloader, EnrollKeys};
use crate::types::{Arch, TalosVersion};
use crate::virtual_file::{Outline, VirtualFile};

/// Sections of the UKI start at multiples of this in the file, so that records of the ISO can point to them: a sector.
pub const UKI_ALIGNMENT: u32 = 2048;
/// The path of GRUB's boot file.
const EL_TORITO: &str = "boot/grub/i386-pc/eltorito.img";
/// The serial number of the FAT image.
const SERIAL: u32 = 0x1234_abcd;
/// What a volume is called whose version has no label.
const NO_LABEL: &str = "ISOIMAGE";
/// A seed of nothing: nobody knows what it will be read by.
const RANDOM_SEED: [u8; 32] = [0; 32];
/// Least length of the FAT image that holds GRUB alone, in bytes.
const GRUB_FAT_LEAST: u64 = 4 << 20;

/// The boot loader of an ISO image.
pub fn iso_bootloader(version: &TalosVersion, arch: Arch, secure_boot: bool, wanted: Option<Bootloader>) -> Bootloader {
    if secure_boot {
        return Bootloader::SdBoot;
    }
    if !version.boots_uefi_by_systemd_boot() {
        return Bootloader::Grub;
    }
    if !version.chooses_iso_bootloader() {
        return Bootloader::DualBoot;
    }
    wanted.unwrap_or(match arch {
        Arch::Amd64 => Bootloader::DualBoot,
        Arch::Arm64 => Bootloader::SdBoot,
    })
}

/// GRUB for BIOS, linked.
#[derive(Clone, Debug)]
pub struct GrubBios {
    /// The El Torito boot file.
    pub image: VirtualFile,
    /// What is known of it.
    pub facts: BootFile,
    /// Code for the first sector, to be placed.
    pub boot_code: [u8; BOOT_CODE_LEN],
}

/// systemd-boot and what it boots.
#[derive(Clone, Debug)]
pub struct SdBoot<'a> {
    /// systemd-boot.
    pub loader: VirtualFile,
    /// The UKI, its sections at multiples of [`UKI_ALIGNMENT`].
    pub uki: &'a Uki,
    /// When keys are enrolled.
    pub enroll_keys: EnrollKeys,
}

/// What boots.
#[derive(Clone, Debug)]
pub enum Loaders<'a> {
    /// GRUB by BIOS, systemd-boot by UEFI.
    DualBoot(&'a GrubBios, SdBoot<'a>),
    /// systemd-boot by UEFI.
    SdBoot(SdBoot<'a>),
    /// GRUB by BIOS and UEFI.
    Grub {
        /// That for BIOS.
        bios: &'a GrubBios,
        /// That for UEFI.
        efi: VirtualFile,
        /// The kernel.
        kernel: VirtualFile,
        /// The initramfs.
        initramfs: VirtualFile,
    },
}

/// The parts of an ISO image.
#[derive(Clone, Debug)]
pub struct IsoParts<'a> {
    /// The Talos version.
    pub version: &'a TalosVersion,
    /// The architecture.
    pub arch: Arch,
    /// What boots.
    pub loaders: Loaders<'a>,
    /// The kernel command line, for GRUB.
    pub cmdline: &'a str,
    /// The time of everything, in seconds since 1970.
    pub mtime: u32,
}

/// Why no ISO image can be made.
#[derive(Debug, thiserror::Error)]
pub enum IsoError {
    /// The FAT image has no room.
    #[error(transparent)]
    Fat(#[from] FatError),
    /// The image itself cannot be laid out.
    #[error(transparent)]
    Iso9660(#[from] Iso9660Error),
    /// A path that a tree cannot hold.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A UKI without kernel or initramfs.
    #[error("the unified kernel image has no section {0}")]
    Section(&'static str),
}

/// The image, and what its parts are.
///
/// # Errors
/// [`IsoError`] naming the part that does not fit.
pub fn iso(parts: &IsoParts<'_>) -> Result<(VirtualFile, Outline), IsoError> {
    let mut files = BTreeMap::new();
    let (bios, volume, uki) = match &parts.loaders {
        Loaders::DualBoot(grub, sd_boot) => {
            let volume = sd_boot_volume(parts, sd_boot, &mut files)?;
            let at = volume.offsets.get(&uki_path(parts.version)).copied().unwrap_or_default();
            share_boot(sd_boot.uki, at, &mut files)?;
            (Some(*grub), volume, Some(sd_boot.uki))
        }
        Loaders::SdBoot(sd_boot) => (None, sd_boot_volume(parts, sd_boot, &mut files)?, Some(sd_boot.uki)),
        Loaders::Grub { bios, efi, kernel, initramfs } => {
            files.insert("boot/vmlinuz".to_owned(), Content::File(kernel.clone()));
            files.insert("boot/initramfs.xz".to_owned(), Content::File(initramfs.clone()));
            (Some(*bios), grub_volume(parts, efi)?, None)
        }
    };
    if bios.is_some() {
        let text = iso_grub_cfg(parts.version, parts.cmdline);
        files.insert("boot/grub/grub.cfg".to_owned(), Content::File(VirtualFile::inline(text)));
    }
    let label = iso_label(parts.version)
        .unwrap_or_else(|| IsoLabel { volume_id: NO_LABEL.to_owned(), volume_set_id: String::new() });
    let boot_code = |block: u32| -> [u8; BOOT_CODE_LEN] {
        bios.map_or([0; BOOT_CODE_LEN], |grub| place_hybrid_boot_code(&grub.boot_code, block))
    };
    let patches = |sector: u32| -> Vec<Patch> {
        let patches = bios.into_iter().flat_map(|grub| grub.facts.patches(sector));
        patches.map(|(at, bytes)| (at, Bytes::from(bytes))).collect()
    };
    let image = Image {
        volume_id: &label.volume_id,
        volume_set_id: &label.volume_set_id,
        mtime: parts.mtime,
        files: &files,
        bios: bios.map(|grub| BiosBoot {
            path: EL_TORITO,
            image: &grub.image,
            patches: &patches,
            boot_code: &boot_code,
        }),
        uefi: Some(&volume.image),
        partitions: match bios {
            Some(_) => PartitionTable::Gpt(GptGuids::of(&format!("talos-iso-{}", parts.version))),
            None => PartitionTable::Mbr,
        },
    };
    let laid = image.explained()?;
    let outline = outline(&laid, &volume, uki, parts.version);
    Ok((laid.image, outline))
}

/// The FAT image with systemd-boot; its files stand in the ISO's tree, too.
fn sd_boot_volume(
    parts: &IsoParts<'_>,
    sd_boot: &SdBoot<'_>,
    files: &mut BTreeMap<String, Content>,
) -> Result<Volume, IsoError> {
    let conf = loader_conf(Some(sd_boot.enroll_keys));
    let size = iso_image_size([sd_boot.loader.len(), sd_boot.uki.file.len()], ISO_SLACK);
    let content = [
        (efi_path(parts.arch), 0o644, sd_boot.loader.clone()),
        (uki_path(parts.version), 0o644, sd_boot.uki.file.clone()),
        ("loader/loader.conf".to_owned(), 0o644, VirtualFile::inline(conf)),
        ("loader/random-seed".to_owned(), 0o444, VirtualFile::inline(RANDOM_SEED.to_vec())),
    ];
    let mut tree = FileTree::new();
    for (path, mode, file) in content.iter().cloned() {
        tree.insert(path, Node::file(mode, file))?;
    }
    let volume = fat::lay_out(&tree, &options(size, parts.mtime))?;
    for (path, _, file) in content {
        let content = match volume.offsets.get(&path) {
            Some(offset) => Content::Shared { offset: *offset, len: file.len() },
            None => Content::File(file),
        };
        files.insert(path, content);
    }
    Ok(volume)
}

/// Kernel and initramfs for GRUB, where they are in the UKI that starts at `at` of the FAT image.
fn share_boot(uki: &Uki, at: u64, files: &mut BTreeMap<String, Content>) -> Result<(), IsoError> {
    for (path, section) in [("boot/vmlinuz", ".linux"), ("boot/initramfs.xz", ".initrd")] {
        let (offset, len) = uki.section(section).ok_or(IsoError::Section(section))?;
        files.insert(path.to_owned(), Content::Shared { offset: at + offset, len });
    }
    Ok(())
}

/// The FAT image with GRUB.
fn grub_volume(parts: &IsoParts<'_>, efi: &VirtualFile) -> Result<Volume, IsoError> {
    let mut tree = FileTree::new();
    tree.insert(efi_path(parts.arch), Node::file(0o644, efi.clone()))?;
    let size = (2 * efi.len()).next_multiple_of(1 << 20).max(GRUB_FAT_LEAST);
    Ok(fat::lay_out(&tree, &options(size, parts.mtime))?)
}

const fn options(size: u64, mtime: u32) -> fat::Options<'static> {
    fat::Options {
        size,
        sector_size: 512,
        format: None,
        sectors_per_cluster: None,
        alignment: UKI_ALIGNMENT,
        label: "EFI",
        serial: SERIAL,
        mtime,
    }
}

/// Where firmware looks for what boots a removable medium (UEFI 2.10, 3.5.1.1).
fn efi_path(arch: Arch) -> String {
    let name = match arch {
        Arch::Amd64 => "BOOTX64.EFI",
        Arch::Arm64 => "BOOTAA64.EFI",
    };
    format!("EFI/BOOT/{name}")
}

/// What the parts of the image are.
fn outline(laid: &Layout, volume: &Volume, uki: Option<&Uki>, version: &TalosVersion) -> Outline {
    let mut outline = Outline::default();
    let start = laid.uefi.unwrap_or_default();
    let end = start + volume.image.len();
    outline.add(start..end, "FAT image: tables, directories, free clusters");
    outline.add(end..laid.image.len(), "room for reading ahead, second partition table");
    for (range, name) in &laid.parts {
        outline.add(range.clone(), name.clone());
    }
    if let (Some(uki), Some(at)) = (uki, volume.offsets.get(&uki_path(version))) {
        outline.nest(start + at, "UKI", uki.outline());
    }
    outline
}

#[cfg(test)]
mod tests;
