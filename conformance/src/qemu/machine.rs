//! The machines that things are booted on: architecture, firmware and the one medium in them.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// What starts the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS; on amd64 only.
    Bios,
    /// OVMF on amd64, AAVMF on arm64.
    Uefi,
}

/// What there is to boot from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium<'a> {
    /// A UKI as the default loader of an EFI system partition.
    Uki(&'a Path),
    /// An image as a CD in a drive at SATA, on arm64 at SCSI.
    Cd(&'a Path),
    /// An image as the first bytes of a USB stick with so many bytes more, all zero.
    Stick(&'a Path, u64),
    /// A disk that the machine writes to: its image, QEMU's name of the image's format, bytes a sector.
    Disk(&'a Path, &'a str, u32),
    /// A URL that the DHCP server names, for iPXE in the ROM of the network card. The host's loopback interface is
    /// [`super::HOST`] there.
    Network(&'a str),
}

/// A machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine<'a> {
    /// `amd64` or `arm64`.
    pub arch: &'a str,
    /// What starts it.
    pub firmware: Firmware,
    /// What is in it.
    pub medium: Medium<'a>,
}

/// What differs between architectures.
struct Model {
    program: &'static str,
    arguments: &'static [&'static str],
    code: &'static str,
    variables: &'static str,
    boot_file: &'static str,
    cd_drive: &'static [&'static str],
}

const AMD64: Model = Model {
    program: "qemu-system-x86_64",
    arguments: &["-machine", "q35", "-cpu", "max"],
    code: "/usr/share/OVMF/OVMF_CODE_4M.fd",
    variables: "/usr/share/OVMF/OVMF_VARS_4M.fd",
    boot_file: "BOOTX64.EFI",
    cd_drive: &["-device", "ide-cd,drive=medium,bootindex=0"],
};

const ARM64: Model = Model {
    program: "qemu-system-aarch64",
    arguments: &["-machine", "virt", "-cpu", "cortex-a57"],
    code: "/usr/share/AAVMF/AAVMF_CODE.fd",
    variables: "/usr/share/AAVMF/AAVMF_VARS.fd",
    boot_file: "BOOTAA64.EFI",
    cd_drive: &["-device", "virtio-scsi-pci", "-device", "scsi-cd,drive=medium,bootindex=0"],
};

impl Machine<'_> {
    /// The command that starts QEMU with it; `scratch` is a folder for files of the machine's own.
    pub(super) fn command(&self, scratch: &Path) -> Result<Command> {
        let model = if self.arch == "arm64" { &ARM64 } else { &AMD64 };
        let mut command = Command::new(model.program);
        command.args(model.arguments);
        match self.firmware {
            Firmware::Bios => ensure!(self.arch == "amd64", "{} has no BIOS", self.arch),
            Firmware::Uefi => {
                let variables = scratch.join("vars.fd");
                fs::copy(model.variables, &variables)?;
                command.arg("-drive").arg(format!("if=pflash,format=raw,readonly=on,file={}", model.code));
                command.arg("-drive").arg(format!("if=pflash,format=raw,file={}", variables.display()));
            }
        }
        if !matches!(self.medium, Medium::Network(_)) {
            command.args(["-nic", "none"]);
        }
        let drive = |image: &str| format!("if=none,id=medium,format=raw,readonly=on,file={image}");
        match self.medium {
            Medium::Uki(uki) => {
                let partition = scratch.join("esp");
                let boot = partition.join("EFI/BOOT");
                fs::create_dir_all(&boot)?;
                fs::copy(uki, boot.join(model.boot_file)).with_context(|| format!("cannot copy {}", uki.display()))?;
                command.arg("-drive").arg(drive(&format!("fat:{}", partition.display())));
                command.args(["-device", "virtio-blk-pci,drive=medium,bootindex=0"]);
            }
            Medium::Cd(image) => {
                command.arg("-drive").arg(format!("{},media=cdrom", drive(&image.display().to_string())));
                command.args(model.cd_drive);
            }
            Medium::Stick(image, more) => {
                let stick = scratch.join("stick");
                let length = fs::copy(image, &stick).with_context(|| format!("cannot copy {}", image.display()))?;
                fs::OpenOptions::new().write(true).open(&stick)?.set_len(length + more)?;
                command.arg("-drive").arg(drive(&stick.display().to_string()));
                command.args(["-device", "qemu-xhci", "-device", "usb-storage,drive=medium,bootindex=0"]);
            }
            Medium::Disk(image, format, sector) => {
                let path = image.display();
                command.arg("-drive").arg(format!("if=none,id=medium,format={format},file={path}"));
                let sectors = format!("logical_block_size={sector},physical_block_size={sector}");
                command.arg("-device").arg(format!("virtio-blk-pci,drive=medium,bootindex=0,{sectors}"));
            }
            Medium::Network(url) => {
                command.arg("-netdev").arg(format!("user,id=net,ipv6=off,bootfile={url}"));
                command.args(["-device", "virtio-net-pci,netdev=net,bootindex=0"]);
            }
        }
        Ok(command)
    }
}
