//! Laying out a PE image with sections appended.
//!
//! ```text
//! DOS header (64 bytes), 64 zeros, "PE\0\0", COFF header, optional header, section table, zeros to FileAlignment
//! each section in the order of the table, zeros to FileAlignment
//! ```

use crate::virtual_file::VirtualFile;

use super::{COFF_LEN, PE_OFFSET, PeError, SECTION_HEADER_LEN, SECTIONS_MAX, Section, SectionHeader, Stub, align};

/// `IMAGE_SCN_CNT_CODE`.
const CODE: u32 = 0x20;
/// `IMAGE_SCN_CNT_INITIALIZED_DATA`.
const DATA: u32 = 0x40;
/// `IMAGE_SCN_MEM_READ`.
const READ: u32 = 0x4000_0000;

impl Stub {
    /// The image with `sections` behind its own, all headers made anew, and `timestamp` (seconds since 1970).
    ///
    /// # Errors
    /// [`PeError::TooLarge`] when sections or headers find no room.
    pub fn append(&self, sections: &[Section], timestamp: u32) -> Result<VirtualFile, PeError> {
        Ok(self.append_aligned(sections, timestamp, 1)?.file)
    }

    /// The same with each of `sections` at a multiple of `alignment` bytes in the file.
    ///
    /// No gaps arise: the section before is enlarged with zeros, and what measures sections goes by their virtual sizes.
    ///
    /// # Errors
    /// As [`Stub::append`].
    pub fn append_aligned(&self, sections: &[Section], timestamp: u32, alignment: u32) -> Result<Appended, PeError> {
        let count = self.sections.len() + sections.len();
        if count > SECTIONS_MAX {
            return Err(PeError::TooLarge(format!("{count} sections, {SECTIONS_MAX} at most")));
        }
        let table_at = PE_OFFSET + COFF_LEN + self.optional.len();
        let headers_len = align((table_at + count * SECTION_HEADER_LEN) as u64, self.file_alignment);
        if let Some(first) = self.sections.first().filter(|first| u64::from(first.virtual_address) < headers_len) {
            let at = first.virtual_address;
            return Err(PeError::TooLarge(format!("{headers_len} bytes of headers before the first section at {at}")));
        }

        let mut layout =
            Layout { file_alignment: self.file_alignment, raw_end: headers_len, table: vec![], files: vec![] };
        let mut offsets = Vec::with_capacity(sections.len());
        let mut address: u64 = 0;
        for own in &self.sections {
            let start = u64::from(own.raw_offset);
            layout.push(own.clone(), self.file.slice(start..start + u64::from(own.raw_size)))?;
            address = u64::from(own.virtual_address) + u64::from(own.virtual_size);
        }
        for section in sections {
            address = align(address, self.section_alignment);
            let header = SectionHeader {
                name: name(section.name)?,
                virtual_size: narrow(section.data.len(), section.name)?,
                virtual_address: narrow(address, section.name)?,
                raw_size: 0,
                raw_offset: 0,
                characteristics: DATA | READ,
            };
            layout.align(alignment)?;
            offsets.push(layout.raw_end);
            layout.push(header, section.data.clone())?;
            address += section.data.len();
        }
        let image_len = narrow(align(address, self.section_alignment), "the image")?;
        let headers = self.headers(&layout.table, headers_len as usize, image_len, timestamp);
        layout.files.insert(0, VirtualFile::inline(headers));
        Ok(Appended { file: VirtualFile::concat(layout.files), offsets })
    }

    fn headers(&self, table: &[SectionHeader], len: usize, image_len: u32, timestamp: u32) -> Vec<u8> {
        let sum = |kind: u32| table.iter().filter(|s| s.characteristics & kind != 0).map(|s| s.raw_size).sum::<u32>();
        let mut optional = self.optional.clone();
        optional[2..4].fill(0); // linker version: it was not a linker
        optional[4..8].copy_from_slice(&sum(CODE).to_le_bytes());
        optional[8..12].copy_from_slice(&sum(DATA).to_le_bytes());
        optional[56..60].copy_from_slice(&image_len.to_le_bytes());
        optional[60..64].copy_from_slice(&(len as u32).to_le_bytes());
        optional[64..68].fill(0); // checksum: only drivers of Windows need it

        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(&self.dos_header[..60]);
        out.extend_from_slice(&(PE_OFFSET as u32).to_le_bytes());
        out.resize(PE_OFFSET, 0);
        out.extend_from_slice(b"PE\0\0");
        out.extend_from_slice(&self.machine.to_le_bytes());
        out.extend_from_slice(&(table.len() as u16).to_le_bytes());
        out.extend_from_slice(&timestamp.to_le_bytes());
        out.extend_from_slice(&[0; 8]); // no symbols
        out.extend_from_slice(&(optional.len() as u16).to_le_bytes());
        out.extend_from_slice(&self.characteristics.to_le_bytes());
        out.extend_from_slice(&optional);
        for section in table {
            out.extend_from_slice(&section.name);
            for field in [section.virtual_size, section.virtual_address, section.raw_size, section.raw_offset] {
                out.extend_from_slice(&field.to_le_bytes());
            }
            out.extend_from_slice(&[0; 12]); // no relocations, no line numbers
            out.extend_from_slice(&section.characteristics.to_le_bytes());
        }
        out.resize(len, 0);
        out
    }
}

/// An image with sections appended.
#[derive(Clone, Debug)]
pub struct Appended {
    /// The image.
    pub file: VirtualFile,
    /// Where in the file each appended section starts, in bytes.
    pub offsets: Vec<u64>,
}

/// Sections laid out so far.
struct Layout {
    file_alignment: u32,
    /// Where the next section starts in the file.
    raw_end: u64,
    table: Vec<SectionHeader>,
    files: Vec<VirtualFile>,
}

impl Layout {
    /// Enlarges the last section so that the next one starts at a multiple of `alignment`.
    fn align(&mut self, alignment: u32) -> Result<(), PeError> {
        let aligned = align(self.raw_end, alignment);
        let (Some(last), true) = (self.table.last_mut(), aligned > self.raw_end) else { return Ok(()) };
        let gap = aligned - self.raw_end;
        last.raw_size = narrow(u64::from(last.raw_size) + gap, "a section")?;
        self.files.push(VirtualFile::zeros(gap));
        self.raw_end = u64::from(narrow(aligned, "the file")?);
        Ok(())
    }

    /// Puts a section behind the last, with as many zeros as the file's alignment asks for.
    fn push(&mut self, mut header: SectionHeader, data: VirtualFile) -> Result<(), PeError> {
        let what = "the file";
        let padded = align(data.len(), self.file_alignment);
        header.raw_size = narrow(padded, what)?;
        header.raw_offset = narrow(self.raw_end, what)?;
        self.raw_end = u64::from(narrow(self.raw_end + padded, what)?);
        let padding = VirtualFile::zeros(padded - data.len());
        self.files.extend([data, padding]);
        self.table.push(header);
        Ok(())
    }
}

fn narrow(value: u64, what: &str) -> Result<u32, PeError> {
    u32::try_from(value).map_err(|_| PeError::TooLarge(format!("{what} reaches {value} bytes, 4 GiB at most")))
}

fn name(text: &str) -> Result<[u8; 8], PeError> {
    let mut name = [0; 8];
    let room = name.get_mut(..text.len()).ok_or_else(|| PeError::TooLarge(format!("section name {text:?}")))?;
    room.copy_from_slice(text.as_bytes());
    Ok(name)
}
