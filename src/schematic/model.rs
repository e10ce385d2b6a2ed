//! The fields of a schematic.

use crate::format::yaml::{Node, Text};

/// What a user wants changed of a Talos release. Specification: `api.md` of the contract, section "Schematics".
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schematic {
    /// The user who may use it; empty where there are no users.
    pub owner: Text,
    /// The board support to install, if any field of it is set.
    pub overlay: Option<Overlay>,
    /// Everything else.
    pub customization: Customization,
}

/// Support for a single-board computer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overlay {
    /// Its image, such as `siderolabs/sbc-raspberrypi`.
    pub image: Text,
    /// Its name within the image, such as `rpi_generic`.
    pub name: Text,
    /// Options that are passed to it: pairs of a map with text keys, in canonical order.
    pub options: Vec<(Node, Node)>,
}

/// Changes to the boot assets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Customization {
    /// A machine configuration to build in (Talos 1.12 and later); empty where there is none.
    pub embedded_machine_configuration: Text,
    /// Changes to the kernel command line, in order; `-name` and `-name=value` delete.
    pub extra_kernel_args: Vec<Text>,
    /// Initial contents of the META partition, in order; a key may come twice.
    pub meta: Vec<MetaValue>,
    /// Names of official system extensions, in order.
    pub official_extensions: Vec<Text>,
    /// The boot loader, where one was chosen.
    pub bootloader: Option<Bootloader>,
    /// Settings for Secure Boot.
    pub secureboot: SecureBoot,
    /// Settings for disk images.
    pub disk_image: DiskImage,
}

/// A value of the META partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetaValue {
    /// The tag, 0–255.
    pub key: u8,
    /// The value.
    pub value: Text,
}

/// A boot loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bootloader {
    /// Both of the others, chosen by the firmware at boot.
    DualBoot,
    /// systemd-boot.
    SdBoot,
    /// GRUB.
    Grub,
}

impl Bootloader {
    /// The name in a schematic.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DualBoot => "dual-boot",
            Self::SdBoot => "sd-boot",
            Self::Grub => "grub",
        }
    }

    /// Reads a name in any case; `none` is `Some(None)`, what is no name `None`.
    pub(super) fn parse(text: &str) -> Option<Option<Self>> {
        match text.to_lowercase().as_str() {
            "none" => Some(None),
            "dual-boot" => Some(Some(Self::DualBoot)),
            "sd-boot" => Some(Some(Self::SdBoot)),
            "grub" => Some(Some(Self::Grub)),
            _ => None,
        }
    }
}

/// Settings for Secure Boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecureBoot {
    /// When systemd-boot enrolls keys, as written; see [`Schematic::enroll_keys`].
    pub enroll_keys: Text,
    /// Whether the vendor's well-known certificates are enrolled too.
    pub include_well_known_certificates: bool,
}

/// When systemd-boot enrolls keys (`secure-boot-enroll` of loader.conf(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EnrollKeys {
    /// Never.
    Off,
    /// When chosen from the menu.
    Manual,
    /// By itself where that is known to be safe, as in virtual machines.
    IfSafe,
    /// By itself, whatever the risk.
    Force,
}

impl EnrollKeys {
    const ALL: [(&str, Self); 4] =
        [("off", Self::Off), ("manual", Self::Manual), ("if-safe", Self::IfSafe), ("force", Self::Force)];

    /// The name in a schematic and in loader.conf.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Manual => "manual",
            Self::IfSafe => "if-safe",
            Self::Force => "force",
        }
    }
}

/// Settings for disk images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskImage {
    /// Bytes in a sector; 0 means the default, 512.
    pub sector_size: u64,
}

impl Schematic {
    /// When keys are enrolled; `None` where the field is absent (or, before [`Schematic::validate`], no known value).
    pub fn enroll_keys(&self) -> Option<EnrollKeys> {
        let wanted = &*self.customization.secureboot.enroll_keys;
        EnrollKeys::ALL.into_iter().find(|(name, _)| *name == wanted).map(|(_, value)| value)
    }
}

/// A boot loader's name as a schematic writes it.
impl std::fmt::Display for Bootloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
