//! GRUB as a UEFI application: the kernel linked to its place, the modules behind it, in a PE image.
//!
//! Offsets in the file are addresses in memory, and every section starts and ends at a page.

mod layout;
mod pe;
mod relocate;

use super::modules::module_block;
use super::{Core, GrubError, GrubFolder, GrubPlatform, GrubVersion, damaged};
use relocate::Machine;

/// Length of a page in bytes, which is that of the headers as well.
const PAGE: u64 = 0x1000;

/// A kernel in its place.
struct Linked {
    /// Its bytes, loaded behind the headers.
    memory: Vec<u8>,
    /// Length of its code in bytes; data follow.
    code_len: u64,
    /// Address where it starts.
    entry: u64,
    /// Addresses of u64 that move with the image, in the order met.
    fixups: Vec<u64>,
}

/// Links an application.
///
/// # Errors
/// [`GrubError`] when the folder is for BIOS, a file is missing or damaged, or the kernel needs what is not known here.
pub fn efi_application(folder: &GrubFolder, core: &Core<'_>) -> Result<Vec<u8>, GrubError> {
    let machine = match folder.platform() {
        GrubPlatform::X86_64Efi => Machine::X86_64,
        GrubPlatform::Arm64Efi => Machine::Arm64,
        found @ GrubPlatform::I386Pc => {
            return Err(GrubError::Platform { wanted: "UEFI", found: found.folder() });
        }
    };
    let kernel = layout::link(folder.file(super::elf::KERNEL)?, machine)?;
    let modules = module_block(folder, core)?;
    // From 2.14 on GRUB keeps data and code apart, and says so.
    Ok(pe::write(machine, &kernel, &modules, folder.version()? >= GrubVersion(2, 14)))
}

/// A kernel that is damaged.
fn wrong(cause: impl ToString) -> GrubError {
    damaged(super::elf::KERNEL, cause)
}

#[cfg(test)]
mod tests;
