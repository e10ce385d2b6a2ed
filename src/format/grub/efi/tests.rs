//! Small kernels, which are seeds of the fuzz target too: 64 bytes of code, all 0x90, at 0x1000 with a symbol at its
//! start; 16 bytes of data at 0x2000 with a symbol; 32 zero bytes behind it. Every eighth byte of the code has a
//! relocation with addend 4, by turns of the one and the other symbol. What they must do is computed by hand.

use bytes::Bytes;

use super::*;

const X86_64: &[u8] = include_bytes!("../../../../fuzz/corpus/grub/x86_64");
const ARM64: &[u8] = include_bytes!("../../../../fuzz/corpus/grub/arm64");
const ARM64_GOT: &[u8] = include_bytes!("../../../../fuzz/corpus/grub/arm64-got");

/// The kernel in a seed, behind its lengths, list and module.
fn kernel(seed: &[u8]) -> Vec<u8> {
    let len = |at: usize| usize::from(u16::from_le_bytes([seed[at], seed[at + 1]]));
    seed[5 + len(1) + len(3)..].to_vec()
}

fn link(platform: GrubPlatform, kernel: Vec<u8>) -> Result<Vec<u8>, GrubError> {
    let text = |text: &'static str| Bytes::from_static(text.as_bytes());
    let files = [("kernel.img", kernel.into()), ("moddep.lst", text("")), ("modinfo.sh", text("grub_version=2.14"))];
    let files = files.map(|(name, bytes)| (name.to_owned(), bytes));
    let folder = GrubFolder::new(platform, files).unwrap();
    efi_application(&folder, &Core { modules: &[], prefix: "", config: None })
}

fn u32_at(image: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(image[at..at + 4].try_into().unwrap())
}

fn u64_at(image: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(image[at..at + 8].try_into().unwrap())
}

/// The base relocations' addresses.
fn fixups(image: &[u8]) -> Vec<u32> {
    let (mut at, len) = (u32_at(image, 0x130) as usize, u32_at(image, 0x134) as usize);
    let (end, mut out) = (at + len, Vec::new());
    while at < end {
        let (page, len) = (u32_at(image, at), u32_at(image, at + 4) as usize);
        let entries = image[at + 8..at + len].chunks_exact(2).map(|entry| u16::from_le_bytes([entry[0], entry[1]]));
        out.extend(entries.filter(|entry| *entry != 0).map(|entry| page + u32::from(entry - 0xa000)));
        at += len;
    }
    assert_eq!(at, end);
    out
}

#[test]
fn x86_64_is_relocated() {
    let image = link(GrubPlatform::X86_64Efi, kernel(X86_64)).unwrap();
    assert_eq!(u64_at(&image, 0x1000), 0x9090_9090_9090_9090 + 0x1004, "R_X86_64_64");
    assert_eq!(u32_at(&image, 0x1008), 0x9090_9090 + 0x2004 - 0x1008, "R_X86_64_PC32");
    assert_eq!(u32_at(&image, 0x1010), 0x9090_9090 + 0x1004 - 0x1010, "R_X86_64_PLT32");
    assert_eq!(u64_at(&image, 0x1018), 0x9090_9090_9090_9090 + 0x2004 - 0x1018, "R_X86_64_PC64");
    assert_eq!(fixups(&image), [0x1000]);
    assert_eq!(u32_at(&image, 0xa8), 0x1000, "entry");
    assert_eq!(image[0xde..0xe0], [0, 1], "data are not to be executed, from 2.14 on");
}

#[test]
fn arm64_is_relocated() {
    let image = link(GrubPlatform::Arm64Efi, kernel(ARM64)).unwrap();
    let words: Vec<u32> = (0x1008..0x1038).step_by(8).map(|at| u32_at(&image, at)).collect();
    assert_eq!(u64_at(&image, 0x1000), 0x9090_9090_9090_9090 + 0x1004, "R_AARCH64_ABS64");
    let wanted = [
        0x9090_a08c, // R_AARCH64_PREL32
        0x9000_0010, // R_AARCH64_ADR_PREL_PG_HI21: the same page
        0x9080_1090, // R_AARCH64_ADD_ABS_LO12_NC
        0x93ff_fff9, // R_AARCH64_JUMP26: 28 bytes back
        0x9000_03f7, // R_AARCH64_CALL26
        0x9090_0090, // R_AARCH64_LDST64_ABS_LO12_NC
    ];
    assert_eq!(words, wanted);
    assert_eq!(fixups(&image), [0x1000]);
}

#[test]
fn the_global_offset_table_lies_behind_the_zeros() {
    let image = link(GrubPlatform::Arm64Efi, kernel(ARM64_GOT)).unwrap();
    let word = |at| u32_at(&image, at);
    assert_eq!((word(0x1000), word(0x1010)), (0xd000_0010, 0x9090_0090), "first slot: two pages on, its start");
    assert_eq!((word(0x1020), word(0x1030)), (0xd000_0010, 0x9090_0490), "second slot: the same page, 8 bytes in");
    assert_eq!((u64_at(&image, 0x3000), u64_at(&image, 0x3008)), (0x1004, 0x1004));
    assert_eq!(fixups(&image), [0x1028, 0x3000, 0x3008]);
    assert_eq!((u32_at(&image, 0x9c), &image[0x1d8..0x1dc]), (0x1000, b"mods".as_slice()));
    assert_eq!(u32_at(&image, 0x1e4), 0x4000, "modules follow");
}

#[test]
fn what_is_not_known_is_an_error() {
    let cause = |kernel| link(GrubPlatform::X86_64Efi, kernel).unwrap_err().to_string();
    let seed = kernel(X86_64);
    let find = |bytes: &[u8]| seed.windows(bytes.len()).position(|window| window == bytes).unwrap();
    let relocation = find(&[8, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]);
    let changed = |at: usize, byte: u8| {
        let mut kernel = seed.clone();
        kernel[at] = byte;
        kernel
    };
    assert_eq!(cause(changed(relocation + 8, 10)), "GRUB's kernel.img is not supported: relocation type 10");
    let error = cause(changed(relocation, 61));
    assert_eq!(error, "GRUB's kernel.img is damaged: a relocation at 0x3d of a section of 0x40 bytes");
    let error = cause(changed(relocation + 12, 9));
    assert_eq!(error, "GRUB's kernel.img is damaged: a relocation of symbol 9, which is not loaded");
    assert_eq!(cause(changed(find(b"_start"), b'X')), "GRUB's kernel.img is damaged: it has no symbol _start");
    assert_eq!(cause(kernel(ARM64)), "GRUB's kernel.img is damaged: it is of another architecture");
    for len in 0..seed.len() {
        assert!(link(GrubPlatform::X86_64Efi, seed[..len].to_vec()).is_err(), "cut at {len}");
    }
}
