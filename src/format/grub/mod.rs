//! GRUB boot images, linked from one platform folder of a GRUB build (`i386-pc`, `x86_64-efi`, `arm64-efi`).
//!
//! No document specifies these images: the layouts are what `grub-mkimage`, `grub-mkrescue` and `grub-bios-setup` of
//! GRUB 2.06 to 2.14 write and what GRUB's loaders read; the executable is that of Microsoft, "PE Format", the modules
//! are ELF (System V ABI), the compression is LZMA1 of the LZMA SDK. All integers are little-endian; a sector is 512
//! bytes, always. GRUB's modules and images come from outside and are not trusted to be whole: what is wrong with
//! them is an error that names the file.

mod bios;
mod efi;
mod el_torito;
mod elf;
mod folder;
mod lzma;
mod modules;
mod reed_solomon;

pub use bios::{BOOT_CODE_LEN, BootCode, core_image, disk_boot_code, place_core, place_disk_boot_code};
pub use efi::efi_application;
pub use el_torito::{BootFile, el_torito_image, hybrid_boot_code, place_hybrid_boot_code};
pub use folder::{GrubFolder, GrubPlatform, GrubVersion};
pub use reed_solomon::{parity, protect};

use crate::virtual_file::VirtualFile;

/// Length of a sector in bytes.
const SECTOR: usize = 512;
/// Length of an image at most, before compression, in bytes: thirty times what was seen.
const MAX_IMAGE: usize = 16 << 20;

/// What a core image holds beside the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Core<'a> {
    /// Names of the wanted modules in order; what they depend on is added.
    pub modules: &'a [&'a str],
    /// Where `grub.cfg` and modules that are not embedded lie.
    pub prefix: &'a str,
    /// Commands that run before anything else.
    pub config: Option<&'a str>,
}

/// Why no image can be linked.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum GrubError {
    /// A file that the image needs is not in the folder.
    #[error("GRUB's folder {folder} has no {file}")]
    Missing {
        /// The platform.
        folder: &'static str,
        /// The file's name.
        file: String,
    },
    /// A file is not what its name says.
    #[error("GRUB's {file} is damaged: {cause}")]
    Damaged {
        /// The file's name.
        file: String,
        /// What is wrong.
        cause: String,
    },
    /// A file of a kind that is not understood, such as a kernel with an unknown relocation.
    #[error("GRUB's {file} is not supported: {cause}")]
    Unsupported {
        /// The file's name.
        file: String,
        /// What is not understood.
        cause: String,
    },
    /// What would be written has no room where it is loaded.
    #[error("GRUB's {what} takes {len} bytes, {most} at most")]
    TooLarge {
        /// What is too large.
        what: String,
        /// Its length in bytes.
        len: u64,
        /// The bound in bytes.
        most: u64,
    },
    /// The folder is one of another platform.
    #[error("a GRUB image for {wanted} cannot be made of {found}")]
    Platform {
        /// What the image is for.
        wanted: &'static str,
        /// The folder's platform.
        found: &'static str,
    },
    /// The compressor failed.
    #[error("GRUB's core cannot be compressed: {0}")]
    Compress(String),
}

fn damaged(file: &str, cause: impl ToString) -> GrubError {
    GrubError::Damaged { file: file.to_owned(), cause: cause.to_string() }
}

fn unsupported(file: &str, cause: impl ToString) -> GrubError {
    GrubError::Unsupported { file: file.to_owned(), cause: cause.to_string() }
}

/// An error if `len` is more than `most`.
fn bound(what: &str, len: u64, most: u64) -> Result<(), GrubError> {
    if len > most { Err(GrubError::TooLarge { what: what.to_owned(), len, most }) } else { Ok(()) }
}

/// Writes `value` at `at`, which the caller knows to be inside.
fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

/// The file with these bytes at `at`.
fn patch(file: &VirtualFile, at: u64, bytes: &[u8]) -> VirtualFile {
    let end = at + bytes.len() as u64;
    VirtualFile::concat([file.slice(0..at), VirtualFile::inline(bytes.to_vec()), file.slice(end..file.len())])
}

#[cfg(test)]
mod tests;
