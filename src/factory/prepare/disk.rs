//! The disk image of a model.

use std::sync::Arc;

use super::Preparer;
use super::model::{Model, release_file};
use crate::assemble::cmdline::CmdlineAsset;
use crate::assemble::disk::{
    BootFiles, DiskLoaders, DiskOverlay, DiskParts, DiskSdBoot, disk, disk_bootloader, disk_len,
};
use crate::assemble::initramfs::MTIME;
use crate::factory::FactoryError;
use crate::schematic::Bootloader;
use crate::types::Arch;
use crate::virtual_file::{Outline, VirtualFile};

/// The META key that says what boots the disk, and what it says where both boot loaders can.
const DISK_BOOTLOADER: (u8, &[u8]) = (0x11, b"dual-boot");

impl Preparer {
    /// The disk image sector by sector, and what its parts are.
    ///
    /// # Errors
    /// As [`Preparer::installer_layers`]; [`FactoryError::Invalid`] for what cannot boot together or does not fit,
    /// [`FactoryError::BadSource`] when the release lacks a boot loader.
    pub async fn disk(self: &Arc<Self>, model: &Model<'_>) -> Result<(VirtualFile, Outline), FactoryError> {
        let customization = &model.schematic.customization;
        // A board starts what its overlay says, or GRUB, unless the schematic says otherwise.
        let of_overlay = model.overlay.map(|overlay| overlay.options.bootloader().unwrap_or(Bootloader::Grub));
        let wanted = customization.bootloader.or(of_overlay);
        let bootloader = disk_bootloader(model.version, model.arch, false, wanted);
        possible(model, bootloader)?;
        let cmdline = model.command_line(CmdlineAsset::Image)?;
        let release = self.release(model.imager).await?;
        let bad = |reason: String| FactoryError::BadSource { image: format!("imager:{}", model.version), reason };
        let (grub, files) = match bootloader {
            Bootloader::SdBoot => (None, None),
            Bootloader::DualBoot | Bootloader::Grub => {
                let (grub, initramfs) = tokio::try_join!(self.grub(model.imager), self.initramfs(model, &release))?;
                let kernel = release_file(&release, model, "vmlinuz")?.file();
                (Some(grub), Some(BootFiles { kernel, initramfs }))
            }
        };
        let bios = match (&grub, model.arch) {
            (Some(grub), Arch::Amd64) => {
                Some(grub.disk_bios()?.ok_or_else(|| bad("it has no GRUB for i386-pc".to_owned()))?)
            }
            _ => None,
        };
        let uki = match bootloader {
            Bootloader::Grub => None,
            Bootloader::SdBoot | Bootloader::DualBoot => Some(self.uki(model, &release, CmdlineAsset::Image, 1).await?),
        };
        let sd_boot = match &uki {
            Some(uki) => {
                let loader = release_file(&release, model, "systemd-boot.efi")?.file();
                Some(DiskSdBoot { loader, uki, enroll_keys: None })
            }
            None => None,
        };
        let loaders = match (grub, files, bios, sd_boot) {
            (_, Some(files), Some(bios), Some(sd_boot)) => DiskLoaders::DualBoot(bios, files, sd_boot),
            (_, None, _, Some(sd_boot)) => DiskLoaders::SdBoot(sd_boot),
            (Some(grub), Some(files), bios, None) => {
                let efi = grub.disk_efi(model.arch);
                let efi = efi.ok_or_else(|| bad(format!("it has no GRUB for UEFI on {}", model.arch)))?;
                DiskLoaders::Grub { bios, efi, files }
            }
            _ => return Err(FactoryError::Internal("a disk without a boot loader".to_owned())),
        };
        let user = customization.meta.iter().map(|entry| (entry.key, entry.value.as_bytes()));
        let ours = (bootloader == Bootloader::DualBoot && model.version.boots_uefi_by_systemd_boot())
            .then_some(DISK_BOOTLOADER);
        let sector_size = if customization.disk_image.sector_size == 4096 { 4096 } else { 512 };
        let parts = DiskParts {
            version: model.version,
            arch: model.arch,
            len: disk_len(model.version, model.platform, bootloader),
            sector_size,
            loaders,
            cmdline: &cmdline,
            meta: user.chain(ours).collect(),
            overlay: self.disk_overlay(model, bootloader).await?,
            mtime: MTIME,
        };
        disk(&parts).map_err(|error| FactoryError::Invalid(format!("no disk image can be made: {error}")))
    }
}

impl Preparer {
    /// What the overlay adds to the disk. Its program installs nothing beside systemd-boot alone, as in the reference.
    async fn disk_overlay(
        self: &Arc<Self>,
        model: &Model<'_>,
        bootloader: Bootloader,
    ) -> Result<DiskOverlay, FactoryError> {
        let Some(overlay) = model.overlay else { return Ok(DiskOverlay::default()) };
        let mut disk = DiskOverlay { offset: overlay.options.partition_offset, ..DiskOverlay::default() };
        if bootloader != Bootloader::SdBoot {
            let install = self.overlay_install(&overlay.source, model.arch).await?;
            disk.efi_files = install.efi_files().map(|(path, file)| (path.to_owned(), file)).collect();
            disk.writes = install.disk_writes().collect();
        }
        Ok(disk)
    }
}

/// Refuses boot loaders that a model cannot have.
fn possible(model: &Model<'_>, bootloader: Bootloader) -> Result<(), FactoryError> {
    let reason = match bootloader {
        Bootloader::DualBoot if model.arch == Arch::Arm64 => {
            "bootloader \"dual-boot\" is for amd64: a disk of arm64 boots by \"sd-boot\" or \"grub\"".to_owned()
        }
        Bootloader::DualBoot | Bootloader::SdBoot if !model.version.has_uki() => format!(
            "bootloader {:?} is not supported for Talos version {}: it came with v1.5.0",
            bootloader.as_str(),
            model.version
        ),
        _ => return Ok(()),
    };
    Err(FactoryError::Invalid(reason))
}
