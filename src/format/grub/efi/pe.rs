//! The PE image around kernel and modules.
//!
//! Specification: Microsoft, "PE Format".

use super::super::put;
use super::relocate::Machine;
use super::{Linked, PAGE};

/// The DOS header and stub program that linkers put before every PE image.
const DOS: &[u8; PE_AT] = b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff\0\0\xb8\0\0\0\0\0\0\0\x40\0\0\0\0\0\0\0\
\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x80\0\0\0\
\x0e\x1f\xba\x0e\0\xb4\x09\xcd\x21\xb8\x01\x4c\xcd\x21This program cannot be run in DOS mode.\r\r\n$\0\0\0\0\0\0\0";
/// Where the signature stands; offsets of fields below are from the file's start.
const PE_AT: usize = 0x80;
const SECTIONS_AT: usize = 0x188;
/// The time that every image bears: 2015-01-01 00:00:00 UTC.
const TIME: u32 = 1_420_070_400;
/// 240 bytes of optional header; executable, without line numbers, symbols and debug information.
const OPTIONAL_LEN: u16 = 240;
const CHARACTERISTICS: u16 = 0x020e;
/// PE32+, UEFI application, data are not to be executed.
const PE32_PLUS: u16 = 0x20b;
const SUBSYSTEM: u16 = 10;
const NX_COMPATIBLE: u16 = 0x0100;
/// Reserved and committed bytes of stack and heap; firmware does not look at them.
const STACK_AND_HEAP: u64 = 0x1_0000;
/// Directories, and where the one of base relocations is.
const DIRECTORIES: u32 = 16;
const RELOCATIONS_AT: usize = 0x130;
/// Relocation of a u64.
const DIR64: u16 = 10;

/// Writes the image.
pub(super) fn write(machine: Machine, kernel: &Linked, modules: &[u8], nx: bool) -> Vec<u8> {
    let data_len = kernel.memory.len() as u64 - kernel.code_len;
    let modules_len = (modules.len() as u64).next_multiple_of(PAGE);
    let relocations = relocations(&kernel.fixups);
    // By GRUB the modules are found by their section's name.
    let sections: [(&[u8], u64, u32); 4] = [
        (b".text", kernel.code_len, 0x6000_0020),
        (b".data", data_len, 0xc000_0040),
        (b"mods", modules_len, 0xc000_0040),
        (b".reloc", relocations.len() as u64, 0x4200_0040),
    ];

    let mut out = vec![0; PAGE as usize];
    put(&mut out, 0, *DOS);
    put(&mut out, PE_AT, *b"PE\0\0");
    put(&mut out, 0x84, machine.pe().to_le_bytes());
    put(&mut out, 0x86, (sections.len() as u16).to_le_bytes());
    put(&mut out, 0x88, TIME.to_le_bytes());
    put(&mut out, 0x94, OPTIONAL_LEN.to_le_bytes());
    put(&mut out, 0x96, CHARACTERISTICS.to_le_bytes());
    put(&mut out, 0x98, PE32_PLUS.to_le_bytes());
    put(&mut out, 0xdc, SUBSYSTEM.to_le_bytes());
    put(&mut out, 0xde, (if nx { NX_COMPATIBLE } else { 0 }).to_le_bytes());
    for at in (0xe0..0x100).step_by(8) {
        put(&mut out, at, STACK_AND_HEAP.to_le_bytes());
    }
    let mut address = PAGE;
    for (i, (name, len, flags)) in sections.into_iter().enumerate() {
        let at = SECTIONS_AT + i * 40;
        out[at..at + name.len()].copy_from_slice(name);
        for (field, value) in [len, address, len, address].into_iter().enumerate() {
            put(&mut out, at + 8 + field * 4, (value as u32).to_le_bytes());
        }
        put(&mut out, at + 36, flags.to_le_bytes());
        address += len;
    }
    let relocations_start = address - relocations.len() as u64;
    let fields = [
        (0x9c, kernel.code_len),
        (0xa0, data_len + modules_len),
        (0xa8, kernel.entry),
        (0xac, PAGE),
        (0xb8, PAGE),
        (0xbc, PAGE),
        (0xd0, address),
        (0xd4, PAGE),
        (0x104, u64::from(DIRECTORIES)),
        (RELOCATIONS_AT, relocations_start),
        (RELOCATIONS_AT + 4, relocations.len() as u64),
    ];
    for (at, value) in fields {
        put(&mut out, at, (value as u32).to_le_bytes());
    }
    out.extend_from_slice(&kernel.memory);
    out.extend_from_slice(modules);
    out.resize(relocations_start as usize, 0);
    out.extend(relocations);
    out
}

/// Base relocations: a block whenever the page changes, the last one filled up to a whole page of the file.
fn relocations(fixups: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut blocks = fixups.chunk_by(|a, b| a / PAGE == b / PAGE).peekable();
    while let Some(block) = blocks.next() {
        let start = out.len();
        let page = block.first().map_or(0, |first| first / PAGE * PAGE);
        out.extend_from_slice(&(page as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for fixup in block {
            out.extend_from_slice(&(DIR64 << 12 | (fixup % PAGE) as u16).to_le_bytes());
        }
        let multiple = if blocks.peek().is_some() { 8 } else { PAGE as usize };
        out.resize(out.len().next_multiple_of(multiple), 0);
        let len = out.len() - start;
        put(&mut out, start + 4, (len as u32).to_le_bytes());
    }
    out
}
