//! PE images: reading a systemd-stub and appending sections to it.
//!
//! Specification: Microsoft, "PE Format" (`learn.microsoft.com/windows/win32/debug/pe-format`); how a stub finds its
//! sections: UAPI group, "Unified Kernel Image". Only PE32+ (64 bit) UEFI applications are understood.

mod append;
mod parse;

use crate::virtual_file::VirtualFile;

pub use append::Appended;

pub use parse::HEAD_LEN;

/// Length of the DOS header in bytes; the stub program behind it is dropped.
const DOS_HEADER_LEN: usize = 64;
/// Where the PE signature stands in what is written here.
const PE_OFFSET: usize = 128;
/// Length of signature and COFF file header in bytes.
const COFF_LEN: usize = 24;
/// Length of the optional header before its data directories, in bytes.
const OPTIONAL_FIXED_LEN: usize = 112;
/// Length of an entry of the section table in bytes.
const SECTION_HEADER_LEN: usize = 40;
/// The most sections that are read or written; Windows' own bound.
const SECTIONS_MAX: usize = 96;
/// The least and the greatest alignment of sections in the file, in bytes, by the specification.
const FILE_ALIGNMENT: std::ops::RangeInclusive<u32> = 512..=0x1_0000;
/// The greatest alignment of sections in memory that is accepted, in bytes.
const SECTION_ALIGNMENT_MAX: u32 = 0x20_0000;

/// Why bytes are no stub that can be used, or sections cannot be appended to it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PeError {
    /// Too short, wrong signature or wrong magic number.
    #[error("not a PE image: {0}")]
    NotPe(&'static str),
    /// A PE image of a kind that is not understood.
    #[error("PE image is not supported: {0}")]
    Unsupported(String),
    /// Fields that contradict one another or the file's length.
    #[error("PE image is damaged: {0}")]
    Damaged(String),
    /// What would be written has no room in the format's fields.
    #[error("PE image does not fit: {0}")]
    TooLarge(String),
}

/// An entry of the section table; addresses and lengths in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SectionHeader {
    /// The name, up to eight bytes, padded with NUL.
    pub name: [u8; 8],
    /// Length in memory, which is that of the data without padding.
    pub virtual_size: u32,
    /// Address in memory, relative to the image's base.
    pub virtual_address: u32,
    /// Length in the file, padding included.
    pub raw_size: u32,
    /// Where it starts in the file.
    pub raw_offset: u32,
    /// What it holds and may be used for.
    pub characteristics: u32,
}

/// A PE image that sections can be appended to. Cheap to clone but for its headers.
#[derive(Clone, Debug)]
pub struct Stub {
    file: VirtualFile,
    dos_header: [u8; DOS_HEADER_LEN],
    machine: u16,
    characteristics: u16,
    /// The optional header, data directories included.
    optional: Vec<u8>,
    section_alignment: u32,
    file_alignment: u32,
    sections: Vec<SectionHeader>,
}

/// A section to append: read-only data.
#[derive(Clone, Debug)]
pub struct Section {
    /// The name, at most eight bytes.
    pub name: &'static str,
    /// The bytes, without padding.
    pub data: VirtualFile,
}

impl Stub {
    /// The COFF machine number: 0x8664 is x86-64, 0xaa64 is AArch64.
    pub const fn machine(&self) -> u16 {
        self.machine
    }

    /// The section table.
    pub fn sections(&self) -> &[SectionHeader] {
        &self.sections
    }

    /// The bytes that the file gives of a section, without padding. Memory behind them is zero up to `virtual_size`.
    pub fn data(&self, section: &SectionHeader) -> VirtualFile {
        let start = u64::from(section.raw_offset);
        self.file.slice(start..start + u64::from(section.raw_size.min(section.virtual_size)))
    }
}

/// `value` rounded up to a multiple of `alignment`, a power of two.
fn align(value: u64, alignment: u32) -> u64 {
    value.next_multiple_of(u64::from(alignment))
}

#[cfg(test)]
mod tests;
