//! The ISO image of a model.

use std::sync::Arc;

use super::model::{Model, release_file};
use super::{Preparer, model};
use crate::assemble::cmdline::CmdlineAsset;
use crate::assemble::initramfs::MTIME;
use crate::assemble::iso::{GrubBios, IsoParts, Loaders, SdBoot, UKI_ALIGNMENT, iso, iso_bootloader};
use crate::factory::FactoryError;
use crate::schematic::{Bootloader, EnrollKeys};
use crate::virtual_file::{Outline, VirtualFile};

impl Preparer {
    /// The ISO image, and what its parts are.
    ///
    /// # Errors
    /// As [`Preparer::installer_layers`]; [`FactoryError::BadSource`] when the release lacks a boot loader.
    pub async fn iso(self: &Arc<Self>, model: &Model<'_>) -> Result<(VirtualFile, Outline), FactoryError> {
        let cmdline = model.command_line(CmdlineAsset::Iso)?;
        let wanted = model.schematic.customization.bootloader;
        let bootloader = iso_bootloader(model.version, model.arch, false, wanted);
        let release = self.release(model.imager).await?;
        let bad = |reason: String| FactoryError::BadSource { image: format!("imager:{}", model.version), reason };
        let grub = match bootloader {
            Bootloader::SdBoot => None,
            Bootloader::DualBoot | Bootloader::Grub => Some(self.grub(model.imager).await?),
        };
        let bios = |found: Option<GrubBios>| found.ok_or_else(|| bad("it has no GRUB for i386-pc".to_owned()));
        let bios = grub.as_ref().map(|grub| bios(grub.bios()?)).transpose()?;
        let (uki, loaders);
        match (&bios, &grub) {
            (Some(bios), Some(grub)) if bootloader == Bootloader::Grub => {
                let efi = grub.efi(model.arch);
                loaders = Loaders::Grub {
                    bios,
                    efi: efi.ok_or_else(|| bad(format!("it has no GRUB for UEFI on {}", model.arch)))?,
                    kernel: release_file(&release, model, "vmlinuz")?.file(),
                    initramfs: self.initramfs(model, &release).await?,
                };
            }
            _ => {
                uki = self.uki(model, &release, CmdlineAsset::Iso, UKI_ALIGNMENT).await?;
                let sd_boot = SdBoot {
                    loader: release_file(&release, model, "systemd-boot.efi")?.file(),
                    uki: &uki,
                    enroll_keys: EnrollKeys::Off,
                };
                loaders = match &bios {
                    Some(bios) => Loaders::DualBoot(bios, sd_boot),
                    None => Loaders::SdBoot(sd_boot),
                };
            }
        }
        let parts = IsoParts { version: model.version, arch: model.arch, loaders, cmdline: &cmdline, mtime: MTIME };
        iso(&parts).map_err(model::internal)
    }
}
