//! Reading the headers of a PE image.

use crate::virtual_file::VirtualFile;

use super::{
    COFF_LEN, DOS_HEADER_LEN, FILE_ALIGNMENT, OPTIONAL_FIXED_LEN, PeError, SECTION_ALIGNMENT_MAX, SECTION_HEADER_LEN,
    SECTIONS_MAX, SectionHeader, Stub,
};

/// How many bytes from the start of a file are enough to read its headers. Headers that go on behind are refused.
pub const HEAD_LEN: u64 = 8192;

/// Entry of the data directories that counts file positions, not addresses: the certificate table.
const SECURITY_DIRECTORY: usize = 4;
/// Entry whose target holds file positions: debug information.
const DEBUG_DIRECTORY: usize = 6;

impl Stub {
    /// Reads the headers of `file`, whose first [`HEAD_LEN`] bytes (or all, if it has fewer) are `head`.
    ///
    /// Symbols, a signature and debug information are left behind by [`Stub::append`]: nothing reads them there.
    ///
    /// # Errors
    /// [`PeError`] for anything but a PE32+ UEFI application with a sane section table.
    pub fn parse(head: &[u8], file: VirtualFile) -> Result<Self, PeError> {
        if head.get(..2) != Some(b"MZ") {
            return Err(PeError::NotPe("no DOS signature"));
        }
        let dos_header: [u8; DOS_HEADER_LEN] = array(head, 0)?;
        let pe = u32_at(head, 60)? as usize;
        if array(head, pe)? != *b"PE\0\0" {
            return Err(PeError::NotPe("no PE signature"));
        }
        let count = u16_at(head, pe + 6)? as usize;
        let optional_len = u16_at(head, pe + 20)? as usize;
        let optional_at = pe + COFF_LEN;
        let table_at = optional_at + optional_len;
        let optional = head.get(optional_at..table_at).ok_or(PeError::NotPe("the optional header is cut short"))?;
        let optional = read_optional(optional)?;
        if count == 0 || count > SECTIONS_MAX {
            return Err(PeError::Unsupported(format!("{count} sections (1 to {SECTIONS_MAX} are)")));
        }
        let (section_alignment, file_alignment) = alignments(&optional)?;
        let sections = (0..count)
            .map(|i| read_section(head, table_at + i * SECTION_HEADER_LEN, file.len()))
            .collect::<Result<Vec<_>, _>>()?;
        check_addresses(&sections)?;
        Ok(Self {
            file,
            dos_header,
            machine: u16_at(head, pe + 4)?,
            characteristics: u16_at(head, pe + 22)?,
            optional,
            section_alignment,
            file_alignment,
            sections,
        })
    }
}

/// Checks the optional header; gives it without the directories that hold file positions.
fn read_optional(raw: &[u8]) -> Result<Vec<u8>, PeError> {
    if u16_at(raw, 0)? != 0x20b {
        return Err(PeError::Unsupported(format!("optional header magic {:#x} (0x20b, PE32+, is)", u16_at(raw, 0)?)));
    }
    let subsystem = u16_at(raw, 68)?;
    if subsystem != 10 {
        return Err(PeError::Unsupported(format!("subsystem {subsystem} (10, UEFI application, is)")));
    }
    let directories = u32_at(raw, 108)? as usize;
    if directories > 16 || raw.len() < OPTIONAL_FIXED_LEN + directories * 8 {
        return Err(PeError::Damaged(format!("{directories} data directories in {} bytes", raw.len())));
    }
    let mut optional = raw[..OPTIONAL_FIXED_LEN + directories * 8].to_vec();
    for directory in [SECURITY_DIRECTORY, DEBUG_DIRECTORY] {
        if directory < directories {
            optional[OPTIONAL_FIXED_LEN + directory * 8..][..8].fill(0);
        }
    }
    Ok(optional)
}

/// Alignments of sections in memory and in the file.
fn alignments(optional: &[u8]) -> Result<(u32, u32), PeError> {
    let (section, file) = (u32_at(optional, 32)?, u32_at(optional, 36)?);
    if !file.is_power_of_two() || !FILE_ALIGNMENT.contains(&file) {
        return Err(PeError::Unsupported(format!("file alignment {file}")));
    }
    if !section.is_power_of_two() || section < file || section > SECTION_ALIGNMENT_MAX {
        return Err(PeError::Unsupported(format!("section alignment {section}")));
    }
    Ok((section, file))
}

fn read_section(head: &[u8], at: usize, file_len: u64) -> Result<SectionHeader, PeError> {
    let section = SectionHeader {
        name: array(head, at)?,
        virtual_size: u32_at(head, at + 8)?,
        virtual_address: u32_at(head, at + 12)?,
        raw_size: u32_at(head, at + 16)?,
        raw_offset: u32_at(head, at + 20)?,
        characteristics: u32_at(head, at + 36)?,
    };
    let name = section.name.escape_ascii();
    if section.name[0] == b'/' {
        return Err(PeError::Unsupported(format!(
            "section {name}: its name stands in the string table of the symbols"
        )));
    }
    if u64::from(section.raw_offset) + u64::from(section.raw_size) > file_len {
        return Err(PeError::Damaged(format!("section {name} goes on behind the file's end")));
    }
    Ok(section)
}

/// Sections must follow one another in memory, so that what is appended can follow the last.
fn check_addresses(sections: &[SectionHeader]) -> Result<(), PeError> {
    let mut end = 0;
    for section in sections {
        if u64::from(section.virtual_address) < end {
            let name = section.name.escape_ascii();
            return Err(PeError::Damaged(format!("section {name} overlaps the one before it, or is out of order")));
        }
        end = u64::from(section.virtual_address) + u64::from(section.virtual_size);
    }
    Ok(())
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], PeError> {
    let end = at.checked_add(N);
    let found = end.and_then(|end| bytes.get(at..end)).and_then(|found| found.try_into().ok());
    found.ok_or(PeError::NotPe("the headers are cut short"))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, PeError> {
    array(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, PeError> {
    array(bytes, at).map(u32::from_le_bytes)
}
