//! Relocation of the kernel.
//!
//! Specification: "System V ABI, AMD64 Architecture Processor Supplement" and "ELF for the Arm 64-bit Architecture",
//! both under "Relocation". S is the symbol's value, A the addend, P the place, as there.

use std::collections::HashMap;

use object::elf::{EM_AARCH64, EM_X86_64};

use super::super::elf::{Elf, KERNEL, Relocation};
use super::super::unsupported;
use super::{GrubError, wrong};

/// Architectures of UEFI applications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machine {
    X86_64,
    Arm64,
}

/// What a relocation does to the bytes at its place.
enum Action {
    Nothing,
    /// Adds to a u64, and the image's loader must do so again.
    AddMoving(u64),
    /// Adds to a u64.
    Add64(u64),
    /// Adds to a u32.
    Add32(u32),
    /// Sets these bits of an instruction.
    Bits {
        mask: u32,
        value: u32,
    },
}

impl Machine {
    /// ELF's number.
    pub const fn elf(self) -> object::elf::Machine {
        match self {
            Self::X86_64 => EM_X86_64,
            Self::Arm64 => EM_AARCH64,
        }
    }

    /// PE's number.
    pub const fn pe(self) -> u16 {
        match self {
            Self::X86_64 => 0x8664,
            Self::Arm64 => 0xaa64,
        }
    }

    /// Whether a relocation is R_AARCH64_ADR_GOT_PAGE.
    pub const fn takes_got_slot(self, kind: u32) -> bool {
        matches!((self, kind), (Self::Arm64, 311))
    }

    /// What a relocation does, other than the two by the global offset table; none if it is not known.
    fn action(self, kind: u32, sum: u64, place: u64) -> Option<Action> {
        let relative = sum.wrapping_sub(place);
        Some(match (self, kind) {
            (_, 0) => Action::Nothing,
            (Self::X86_64, 1) | (Self::Arm64, 257) => Action::AddMoving(sum), // 64 bits, absolute
            (Self::X86_64, 24) => Action::Add64(relative),
            (Self::X86_64, 2 | 4) | (Self::Arm64, 261) => Action::Add32(relative as u32),
            (Self::Arm64, 275) => page(sum, place),
            (Self::Arm64, 277) => Action::Bits { mask: 0x003f_fc00, value: (sum as u32 & 0xfff) << 10 },
            (Self::Arm64, 286) => low_double_word(sum),
            (Self::Arm64, 282 | 283) => Action::Bits { mask: 0x03ff_ffff, value: (relative >> 2) as u32 },
            _ => return None,
        })
    }
}

/// The difference of pages, 21 bits of it: the low two go to bits 29 and 30, the others to bits 5 to 23.
fn page(sum: u64, place: u64) -> Action {
    let pages = ((sum >> 12).wrapping_sub(place >> 12)) as u32;
    Action::Bits { mask: 0x60ff_ffe0, value: (pages & 3) << 29 | (pages >> 2 & 0x7_ffff) << 5 }
}

/// The offset in a page of a double word, counted in such.
fn low_double_word(sum: u64) -> Action {
    Action::Bits { mask: 0x0007_fc00, value: (sum as u32) << 7 }
}

/// Applies all relocations to the image; gives the addresses that its loader must relocate again.
pub(super) fn relocate(
    machine: Machine,
    elf: &Elf<'_>,
    addresses: &[Option<u64>],
    values: &[Option<u64>],
    image: &mut [u8],
    got: u64,
) -> Result<Vec<u64>, GrubError> {
    let (mut fixups, mut slots) = (Vec::new(), Vec::new());
    // The slot that was last made for a symbol and addend in the table at hand.
    let mut latest: HashMap<(usize, usize, i64), u64> = HashMap::new();
    for relocation in elf.relocations.iter().filter(|relocation| relocation.kind != 0) {
        let Relocation { target, offset, kind, symbol, addend, table } = *relocation;
        let address = addresses.get(target).copied().flatten();
        let len = elf.sections.get(target).map_or(0, |section| section.len);
        let value = values.get(symbol).copied().flatten();
        let (Some(address), Some(value)) = (address, value) else {
            return Err(wrong(format!("a relocation of symbol {symbol}, which is not loaded")));
        };
        let (sum, place) = (value.wrapping_add(addend as u64), address.wrapping_add(offset));
        let action = match (machine, kind) {
            (Machine::Arm64, 311) => {
                let slot = got + slots.len() as u64 * 8;
                latest.insert((table, symbol, addend), slot);
                image[slot as usize..][..8].copy_from_slice(&sum.to_le_bytes());
                slots.push(slot);
                page(slot, place)
            }
            (Machine::Arm64, 312) => {
                let slot = latest.get(&(table, symbol, addend));
                low_double_word(*slot.ok_or_else(|| wrong("an offset in the global offset table without its page"))?)
            }
            _ => {
                let action = machine.action(kind, sum, place);
                action.ok_or_else(|| unsupported(KERNEL, format!("relocation type {kind}")))?
            }
        };
        let width = if matches!(action, Action::AddMoving(_) | Action::Add64(_)) { 8 } else { 4 };
        if offset.checked_add(width).is_none_or(|end| end > len) {
            return Err(wrong(format!("a relocation at {offset:#x} of a section of {len:#x} bytes")));
        }
        let bytes = &mut image[place as usize..][..width as usize];
        apply(&action, bytes);
        if let Action::AddMoving(_) = action {
            fixups.push(place);
        }
    }
    fixups.extend(slots);
    Ok(fixups)
}

/// Changes the bytes of a place, 8 or 4.
fn apply(action: &Action, bytes: &mut [u8]) {
    let mut old = [0; 8];
    old[..bytes.len()].copy_from_slice(bytes);
    let old = u64::from_le_bytes(old);
    let new = match *action {
        Action::Nothing => old,
        Action::AddMoving(value) | Action::Add64(value) => old.wrapping_add(value),
        Action::Add32(value) => old.wrapping_add(u64::from(value)),
        Action::Bits { mask, value } => old & u64::from(!mask) | u64::from(value & mask),
    };
    bytes.copy_from_slice(&new.to_le_bytes()[..bytes.len()]);
}
