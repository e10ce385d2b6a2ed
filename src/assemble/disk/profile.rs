//! How large a disk image is and what boots it, by platform, version and schematic.
//!
//! Golden data: `tests/golden/platforms/disks.json`.

use crate::schematic::Bootloader;
use crate::types::{Arch, Platform, TalosVersion};

const MIB: u64 = 1 << 20;
/// Length of a BOOT partition that the lengths of disks are given for, in bytes.
const USUAL_BOOT: u64 = 1000 * MIB;

/// The boot loader of a disk image. Secure boot leaves no choice; otherwise the schematic's counts.
pub fn disk_bootloader(
    version: &TalosVersion,
    arch: Arch,
    secure_boot: bool,
    wanted: Option<Bootloader>,
) -> Bootloader {
    let usual = match arch {
        _ if !version.boots_uefi_by_systemd_boot() => Bootloader::Grub,
        Arch::Amd64 => Bootloader::DualBoot,
        Arch::Arm64 => Bootloader::SdBoot,
    };
    if secure_boot { Bootloader::SdBoot } else { wanted.unwrap_or(usual) }
}

/// Length of a platform's disk in bytes.
pub fn disk_len(version: &TalosVersion, platform: Platform, bootloader: Bootloader) -> u64 {
    let usual = match platform {
        Platform::Akamai
        | Platform::AlibabaCloud
        | Platform::Hcloud
        | Platform::Metal
        | Platform::Nocloud
        | Platform::OpenNebula
        | Platform::OpenStack
        | Platform::Scaleway => 1246 * MIB,
        Platform::Exoscale => 10_240 * MIB,
        _ => 8192 * MIB,
    };
    let boot = version.boot_partition_len();
    // Two boot loaders need room for two copies of kernel and initramfs, and for GRUB's core.
    let second = if bootloader == Bootloader::DualBoot { MIB + boot } else { 0 };
    usual + (boot - USUAL_BOOT) + second
}
