//! Sections, symbols and relocations of a GRUB kernel, every offset checked.

use object::LittleEndian;
use object::elf::{FileHeader32, FileHeader64, Machine, SHT_SYMTAB};
use object::read::SectionIndex;
use object::read::elf::{FileHeader, Rela as _, SectionHeader as _, Sym as _};

use super::{GrubError, MAX_IMAGE, damaged, unsupported};

/// Name of the kernel's file, for errors.
pub(super) const KERNEL: &str = "kernel.img";

/// Section types (System V ABI, "Sections").
pub(super) const PROGBITS: u32 = 1;
pub(super) const NOBITS: u32 = 8;
const REL: u32 = 9;
/// Section flags: occupies memory, is code.
const ALLOC: u64 = 2;
const EXECUTE: u64 = 4;
/// Relocations at most, in all sections together: fifty times what was seen.
const MAX_RELOCATIONS: usize = 1 << 18;

/// A section; length and address in bytes.
pub(super) struct Section<'a> {
    pub kind: u32,
    pub alloc: bool,
    pub execute: bool,
    pub address: u64,
    /// A power of two.
    pub align: u64,
    pub len: u64,
    /// Empty where the file holds none, as for NOBITS.
    pub data: &'a [u8],
}

/// A symbol.
pub(super) struct Symbol<'a> {
    pub name: &'a [u8],
    pub value: u64,
    pub place: Place,
}

/// What a symbol's value is relative to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Absolute,
    Undefined,
    Section(usize),
    /// A common block or something that a machine reserves.
    Other,
}

/// A relocation, to be applied to the section `target`.
pub(super) struct Relocation {
    pub target: usize,
    pub offset: u64,
    pub kind: u32,
    pub symbol: usize,
    pub addend: i64,
    /// Number of the table that it is from.
    pub table: usize,
}

/// A kernel, as far as it is loaded.
pub(super) struct Elf<'a> {
    pub sections: Vec<Section<'a>>,
    pub symbols: Vec<Symbol<'a>>,
    /// In the order of their tables; those of sections that are not loaded are left out.
    pub relocations: Vec<Relocation>,
}

impl<'a> Elf<'a> {
    /// Reads an executable of 32 bits; of its symbols and relocations nothing.
    pub fn linked32(bytes: &'a [u8], machine: Machine) -> Result<Self, GrubError> {
        let header: &FileHeader32<LittleEndian> = FileHeader32::parse(bytes).map_err(|e| damaged(KERNEL, e))?;
        let sections = sections(header, bytes, machine)?;
        Ok(Self { sections, symbols: Vec::new(), relocations: Vec::new() })
    }

    /// Reads a relocatable file of 64 bits.
    pub fn relocatable64(bytes: &'a [u8], machine: Machine) -> Result<Self, GrubError> {
        let wrong = |error| damaged(KERNEL, error);
        let header: &FileHeader64<LittleEndian> = FileHeader64::parse(bytes).map_err(wrong)?;
        let mut elf =
            Self { sections: sections(header, bytes, machine)?, symbols: Vec::new(), relocations: Vec::new() };
        let table = header.sections(LittleEndian, bytes).map_err(wrong)?;
        let symbols = table.symbols(LittleEndian, bytes, SHT_SYMTAB).map_err(wrong)?;
        for (index, symbol) in symbols.enumerate() {
            let section = symbols.symbol_section(LittleEndian, symbol, index).map_err(wrong)?;
            let place = match section {
                Some(SectionIndex(section)) if section < elf.sections.len() => Place::Section(section),
                Some(SectionIndex(section)) => return Err(damaged(KERNEL, format!("a symbol in section {section}"))),
                None if symbol.is_undefined(LittleEndian) => Place::Undefined,
                None if symbol.is_absolute(LittleEndian) => Place::Absolute,
                None => Place::Other,
            };
            let name = symbols.symbol_name(LittleEndian, symbol).map_err(wrong)?;
            elf.symbols.push(Symbol { name, value: symbol.st_value(LittleEndian), place });
        }
        for (number, section) in table.iter().enumerate() {
            let target = section.sh_info(LittleEndian) as usize;
            if !elf.sections.get(target).is_some_and(|target| target.alloc) {
                continue;
            }
            if section.sh_type(LittleEndian).0 == REL {
                return Err(unsupported(KERNEL, "it has relocations without addends"));
            }
            let Some((entries, link)) = section.rela(LittleEndian, bytes).map_err(wrong)? else { continue };
            if link != symbols.section() {
                return Err(damaged(KERNEL, "relocations with symbols of another table"));
            }
            if elf.relocations.len() + entries.len() > MAX_RELOCATIONS {
                return Err(unsupported(KERNEL, format!("it has more than {MAX_RELOCATIONS} relocations")));
            }
            elf.relocations.extend(entries.iter().map(|entry| Relocation {
                target,
                offset: entry.r_offset(LittleEndian),
                kind: entry.r_type(LittleEndian, false).0,
                symbol: entry.r_sym(LittleEndian, false) as usize,
                addend: entry.r_addend(LittleEndian),
                table: number,
            }));
        }
        Ok(elf)
    }
}

fn sections<'a, H: FileHeader<Endian = LittleEndian>>(
    header: &'a H,
    bytes: &'a [u8],
    machine: Machine,
) -> Result<Vec<Section<'a>>, GrubError> {
    let wrong = |error| damaged(KERNEL, error);
    if !header.is_little_endian() || header.e_machine(LittleEndian) != machine {
        return Err(damaged(KERNEL, "it is of another architecture"));
    }
    let table = header.sections(LittleEndian, bytes).map_err(wrong)?;
    let mut loaded = 0;
    let read = |section: &'a H::SectionHeader| {
        let (flags, kind) = (section.sh_flags(LittleEndian).0, section.sh_type(LittleEndian).0);
        let (alloc, len) = (flags & ALLOC != 0, section.sh_size(LittleEndian).into());
        let align = section.sh_addralign(LittleEndian).into().max(1);
        if alloc {
            loaded = len.saturating_add(loaded);
            super::bound("kernel.img in memory", loaded, MAX_IMAGE as u64)?;
            if !align.is_power_of_two() || align > 0x1000 {
                return Err(unsupported(KERNEL, format!("a section is aligned to {align} bytes")));
            }
        }
        Ok(Section {
            kind,
            alloc,
            execute: flags & EXECUTE != 0,
            address: section.sh_addr(LittleEndian).into(),
            align,
            len,
            data: section.data(LittleEndian, bytes).map_err(wrong)?,
        })
    };
    table.iter().map(read).collect()
}
