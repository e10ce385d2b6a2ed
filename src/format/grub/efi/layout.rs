//! Where the kernel's sections and symbols lie.

use super::super::elf::{Elf, NOBITS, Place, Section};
use super::super::{MAX_IMAGE, bound};
use super::relocate::{Machine, relocate};
use super::{GrubError, Linked, PAGE, wrong};

/// Alignment of the global offset table in bytes.
const GOT_ALIGN: u64 = 16;

/// Addresses given out so far.
struct Places<'a> {
    sections: &'a [Section<'a>],
    addresses: Vec<Option<u64>>,
    end: u64,
}

impl Places<'_> {
    /// Gives addresses to the wanted sections, in order.
    fn add(&mut self, wanted: impl Fn(&Section<'_>) -> bool) -> Result<(), GrubError> {
        for (section, address) in self.sections.iter().zip(&mut self.addresses) {
            if section.alloc && wanted(section) {
                let start = self.end.next_multiple_of(section.align);
                *address = Some(start);
                self.end = start.saturating_add(section.len);
                bound("kernel", self.end, MAX_IMAGE as u64)?;
            }
        }
        Ok(())
    }
}

/// Lays the kernel out and relocates it.
pub(super) fn link(bytes: &[u8], machine: Machine) -> Result<Linked, GrubError> {
    let elf = Elf::relocatable64(bytes, machine.elf())?;
    let mut places = Places { sections: &elf.sections, addresses: vec![None; elf.sections.len()], end: PAGE };
    places.add(|section| section.execute)?;
    places.end = places.end.next_multiple_of(PAGE);
    let code_end = places.end;
    places.add(|section| !section.execute && section.kind != NOBITS)?;
    let zeros_start = places.end;
    places.add(|section| !section.execute && section.kind == NOBITS)?;
    let Places { addresses, end: zeros_end, .. } = places;

    let got = zeros_end.next_multiple_of(PAGE);
    let slots = elf.relocations.iter().filter(|relocation| machine.takes_got_slot(relocation.kind)).count() as u64;
    let end = (got + (slots * 8).next_multiple_of(GOT_ALIGN)).next_multiple_of(PAGE);
    bound("kernel", end, MAX_IMAGE as u64)?;

    // From here on no address is outside of `image`, whose first page is left to the headers.
    let mut image = vec![0; end as usize];
    for (section, address) in elf.sections.iter().zip(&addresses) {
        if let Some(address) = *address {
            image[address as usize..][..section.data.len()].copy_from_slice(section.data);
        }
    }
    let (values, entry) = symbols(&elf, &addresses, zeros_start, zeros_end)?;
    let fixups = relocate(machine, &elf, &addresses, &values, &mut image, got)?;
    Ok(Linked { memory: image.split_off(PAGE as usize), code_len: code_end - PAGE, entry, fixups })
}

/// The symbols' values, none for those of sections that are not loaded, and the entry's.
fn symbols(
    elf: &Elf<'_>,
    addresses: &[Option<u64>],
    zeros_start: u64,
    zeros_end: u64,
) -> Result<(Vec<Option<u64>>, u64), GrubError> {
    let mut values = Vec::with_capacity(elf.symbols.len());
    let mut entry = None;
    for symbol in &elf.symbols {
        let value = match (symbol.place, symbol.name) {
            (Place::Absolute, _) => Some(symbol.value),
            (Place::Section(section), _) => {
                let address = addresses.get(section).copied().flatten();
                address.map(|address| address.wrapping_add(symbol.value))
            }
            (Place::Undefined, b"__bss_start") => Some(zeros_start),
            (Place::Undefined, b"_end") => Some(zeros_end),
            (Place::Undefined, b"") | (Place::Other, _) => None,
            (Place::Undefined, name) => {
                return Err(wrong(format!("symbol {} is nowhere", String::from_utf8_lossy(name))));
            }
        };
        if entry.is_none() && (symbol.name == b"_start" || symbol.name == b"start") {
            entry = value;
        }
        values.push(value);
    }
    let entry = entry.ok_or_else(|| wrong("it has no symbol _start"))?;
    let code = PAGE..zeros_end;
    if code.contains(&entry) { Ok((values, entry)) } else { Err(wrong(format!("it starts at {entry:#x}"))) }
}
