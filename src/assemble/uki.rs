//! Unified kernel images: systemd-stub with the sections that it boots.
//!
//! Specification: UAPI group, "Unified Kernel Image"; `systemd-stub(7)`. Golden data: `tests/golden/uki`.

use crate::assemble::cmdline::Profile;
use crate::format::pe::{PeError, Section, Stub};
use crate::types::{Arch, TalosVersion};
use crate::virtual_file::{Outline, VirtualFile};

/// The parts of a unified kernel image that is not signed.
#[derive(Clone, Debug)]
pub struct UkiParts<'a> {
    /// The Talos version.
    pub version: &'a TalosVersion,
    /// The architecture that it boots on; the stub must be for it.
    pub arch: Arch,
    /// The systemd-stub of the release.
    pub stub: &'a Stub,
    /// The main command line.
    pub cmdline: &'a str,
    /// The kernel's release, if it could be read from the kernel.
    pub uname: Option<&'a str>,
    /// What the stub shows while it boots: a BMP image.
    pub splash: VirtualFile,
    /// The kernel.
    pub linux: VirtualFile,
    /// The initramfs.
    pub initrd: VirtualFile,
    /// The boot entry beside the main one; of no effect where the version has no boot profiles.
    pub profile: Option<&'a Profile>,
    /// The time that the header says it was made, in seconds since 1970. The same parts have the same time.
    pub timestamp: u32,
    /// Sections start at multiples of this in the file, in bytes; 1 leaves it to the stub.
    pub alignment: u32,
}

/// A unified kernel image, and where its parts are.
#[derive(Clone, Debug)]
pub struct Uki {
    /// The image.
    pub file: VirtualFile,
    /// Name, first byte and length of each section behind those of the stub, in order.
    pub sections: Vec<(&'static str, u64, u64)>,
}

impl Uki {
    /// What its parts are.
    pub fn outline(&self) -> Outline {
        let mut outline = Outline::default();
        let first = self.sections.first().map_or(self.file.len(), |(_, offset, _)| *offset);
        outline.add(0..first, "headers and sections of the stub");
        for (name, offset, len) in &self.sections {
            outline.add(*offset..offset + len, *name);
        }
        outline
    }

    /// First byte and length of the first section of that name.
    pub fn section(&self, name: &str) -> Option<(u64, u64)> {
        self.sections.iter().find(|(of, ..)| *of == name).map(|(_, offset, len)| (*offset, *len))
    }
}

/// Where systemd-boot finds the image on an EFI file system (Boot Loader Specification, type 2).
pub(super) fn uki_path(version: &TalosVersion) -> String {
    format!("EFI/Linux/Talos-{version}.efi")
}

/// Why no unified kernel image can be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UkiError {
    /// A stub of another architecture.
    #[error("the stub's machine number is {found:#x}, but {arch} has {expected:#x}")]
    Machine {
        /// What is in the stub.
        found: u16,
        /// What it should be.
        expected: u16,
        /// For this architecture.
        arch: Arch,
    },
    /// No room for the sections.
    #[error(transparent)]
    Pe(#[from] PeError),
}

/// Lays out a unified kernel image.
///
/// # Errors
/// [`UkiError`] when the stub is for another architecture, or the sections find no room behind it.
pub fn uki(parts: &UkiParts<'_>) -> Result<Uki, UkiError> {
    let (found, arch) = (parts.stub.machine(), parts.arch);
    let expected = match arch {
        Arch::Amd64 => 0x8664,
        Arch::Arm64 => 0xaa64,
    };
    if found != expected {
        return Err(UkiError::Machine { found, expected, arch });
    }
    let text = |name, text: &str| Section { name, data: VirtualFile::inline(text.to_owned()) };
    let mut sections = vec![text(".osrel", &os_release(parts.version)), text(".cmdline", parts.cmdline)];
    sections.extend(parts.uname.map(|release| text(".uname", release)));
    sections.extend([
        Section { name: ".splash", data: parts.splash.clone() },
        Section { name: ".linux", data: parts.linux.clone() },
        Section { name: ".initrd", data: parts.initrd.clone() },
    ]);
    if parts.version.has_uki_profiles() {
        sections.push(text(".profile", "ID=main"));
        if let Some(profile) = parts.profile {
            sections.push(text(".profile", &format!("ID={}\nTITLE={}", profile.id, profile.title)));
            sections.push(text(".cmdline", &profile.cmdline));
        }
    }
    let image = parts.stub.append_aligned(&sections, parts.timestamp, parts.alignment)?;
    let placed = sections.iter().zip(image.offsets).map(|(section, offset)| (section.name, offset, section.data.len()));
    Ok(Uki { file: image.file, sections: placed.collect() })
}

/// What boot menus read about the image: `os-release(5)`.
pub fn os_release(version: &TalosVersion) -> String {
    format!(
        "NAME=\"Talos\"\nID=talos\nVERSION_ID={version}\nPRETTY_NAME=\"Talos ({version})\"\n\
         HOME_URL=\"https://www.talos.dev/\"\nBUG_REPORT_URL=\"https://github.com/siderolabs/talos/issues\"\n\
         VENDOR_NAME=\"Sidero Labs\"\nVENDOR_URL=\"https://www.siderolabs.com/\"\n"
    )
}

#[cfg(test)]
mod tests;
