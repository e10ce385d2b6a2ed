use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::types::Digest;
use crate::virtual_file::NoBlobs;
use crate::virtual_file::VirtualFile;

/// A folder with this moddep.lst and modules that are headers only.
fn folder(platform: GrubPlatform, list: &str, modules: &[&str]) -> GrubFolder {
    let class = if platform == GrubPlatform::I386Pc { 1 } else { 2 };
    let module = Bytes::copy_from_slice(&[0x7f, b'E', b'L', b'F', class, 1, 1]);
    let named = modules.iter().map(|name| (format!("{name}.mod"), module.clone()));
    let lists = [("moddep.lst", list.to_owned()), ("modinfo.sh", "x=1\ngrub_version=\"2.14~rc1\"\n".to_owned())];
    let lists = lists.map(|(name, text)| (name.to_owned(), Bytes::from(text)));
    GrubFolder::new(platform, named.chain(lists)).unwrap()
}

#[test]
fn modules_stand_behind_what_they_depend_on() {
    let list = "a: b c\nb: d\n\nc: d e\nd:\nnormal: a\n";
    let folder = folder(GrubPlatform::I386Pc, list, &["a", "b", "c", "d", "e", "z"]);
    let order = |wanted: &[&str]| folder.closure(wanted).map(|names| names.join(" "));
    assert_eq!(order(&["a"]).unwrap(), "e d c b a", "needs from last to first");
    assert_eq!(order(&["z", "b", "a", "b"]).unwrap(), "z d b e c a");
    let missing = order(&["normal"]).unwrap_err();
    assert_eq!(missing.to_string(), "GRUB's folder i386-pc has no normal.mod");
}

#[test]
fn rings_and_nonsense_in_the_list_are_errors() {
    let long: String = (0..100_000).map(|i| format!("m{i}: m{}\n", i + 1)).collect();
    for (list, wanted) in [
        ("a: b\nb: a\n", "GRUB's moddep.lst is damaged: module a depends on itself"),
        ("a: a\n", "GRUB's moddep.lst is damaged: module a depends on itself"),
        ("a b\n", "GRUB's moddep.lst is damaged: no colon in \"a b\""),
        (&*format!("a: m0\n{long}"), "GRUB's folder x86_64-efi has no m100000.mod"),
    ] {
        let error = folder(GrubPlatform::X86_64Efi, list, &["a", "b"]).closure(&["a"]).unwrap_err();
        assert_eq!(error.to_string(), wanted);
    }
}

#[test]
fn the_block_has_words_of_the_platform() {
    let core = Core { modules: &["a"], prefix: "/g", config: Some("echo") };
    let block = |platform| modules::module_block(&folder(platform, "a:\n", &["a"]), &core).unwrap();
    let (bios, efi) = (block(GrubPlatform::I386Pc), block(GrubPlatform::Arm64Efi));
    let record = |kind: u8, len: u8| [kind, 0, 0, 0, len, 0, 0, 0];
    let head = [b"mimg".as_slice(), &[12, 0, 0, 0, 56, 0, 0, 0]].concat();
    let wanted = [
        &head,
        &record(0, 16)[..],
        b"\x7fELF\x01\x01\x01\0",
        &record(2, 16),
        b"echo\0\0\0\0",
        &record(3, 12),
        b"/g\0\0",
    ];
    assert_eq!(bios, wanted.concat());
    let head = [b"mimg\0\0\0\0".as_slice(), &[24, 0, 0, 0, 0, 0, 0, 0, 72, 0, 0, 0, 0, 0, 0, 0]].concat();
    let wanted = [
        &head,
        &record(0, 16)[..],
        b"\x7fELF\x02\x01\x01\0",
        &record(2, 16),
        b"echo\0\0\0\0",
        &record(3, 16),
        b"/g\0\0\0\0\0\0",
    ];
    assert_eq!(efi, wanted.concat());
}

#[test]
fn damaged_files_are_named() {
    let version = folder(GrubPlatform::I386Pc, "", &[]).version().unwrap();
    assert_eq!(version, GrubVersion(2, 14));
    let files = BTreeMap::from([
        ("modinfo.sh".to_owned(), Bytes::from_static(b"grub_version=two\n")),
        ("moddep.lst".to_owned(), Bytes::from_static(b"a:\n")),
        ("a.mod".to_owned(), Bytes::from_static(b"\xfd7zXZ\0")),
        ("kernel.img".to_owned(), Bytes::from_static(b"\x7fELF")),
        ("cdboot.img".to_owned(), Bytes::from_static(b"short")),
    ]);
    let folder = |platform| GrubFolder::new(platform, files.clone()).unwrap();
    let (bios, efi) = (folder(GrubPlatform::I386Pc), folder(GrubPlatform::X86_64Efi));
    let core = Core { modules: &["a"], prefix: "", config: None };
    let text = |error: Result<(), GrubError>| error.unwrap_err().to_string();
    assert_eq!(text(bios.version().map(drop)), "GRUB's modinfo.sh is damaged: \"two\" is no version");
    let error = text(modules::module_block(&bios, &core).map(drop));
    assert_eq!(error, "GRUB's a.mod is damaged: it is no ELF file of 32 bits");
    assert_eq!(
        text(bios.code::<2048>("cdboot.img").map(drop)),
        "GRUB's cdboot.img is damaged: it has 5 bytes, not 2048"
    );
    for error in [text(core_image(&bios, &core).map(drop)), text(efi_application(&efi, &core).map(drop))] {
        assert!(error.starts_with("GRUB's kernel.img is damaged"), "{error}");
    }
    let error = text(efi_application(&bios, &core).map(drop));
    assert_eq!(error, "a GRUB image for UEFI cannot be made of i386-pc");
    assert_eq!(text(core_image(&efi, &core).map(drop)), "a GRUB image for i386-pc cannot be made of x86_64-efi");
}

/// The fuzz target's seed: 16 bytes of code, 8 of data behind them, 64 zero bytes that are not stored.
#[test]
fn a_core_states_its_lengths_and_has_limits() {
    let seed = include_bytes!("../../../fuzz/corpus/grub/bios");
    let kernel = &seed[seed.windows(5).rposition(|window| window == b"\x7fELF\x01").unwrap()..];
    let core = Core { modules: &[], prefix: "/g", config: None };
    let link = |decompressor: usize, kernel: &[u8]| {
        let files = [
            ("kernel.img", kernel.to_vec()),
            ("moddep.lst", Vec::new()),
            ("diskboot.img", vec![1; 512]),
            ("lzma_decompress.img", vec![2; decompressor]),
        ];
        let files = files.map(|(name, bytes)| (name.to_owned(), bytes.into()));
        core_image(&GrubFolder::new(GrubPlatform::I386Pc, files).unwrap(), &core)
    };
    let image = link(0x700, kernel).unwrap();
    let field = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!((field(512 + 8), field(512 + 12)), (image.len() - 512 - 0x700, 16 + 8 + 12 + 12));
    assert_eq!(image[0x1f4..0x200], [1, 1, 1, 1, 1, 1, 1, 1, 4, 0, 1, 1], "four sectors follow");
    let error = link(0xe01, kernel).unwrap_err().to_string();
    assert_eq!(error, "GRUB's lzma_decompress.img takes 3585 bytes, 3584 at most");
    let zeros = kernel.windows(4).rposition(|window| window == 64u32.to_le_bytes()).unwrap();
    let mut large = kernel.to_vec();
    large[zeros + 2] = 6;
    assert_eq!(link(0x700, &large).unwrap_err().to_string(), "GRUB's kernel takes 393312 bytes, 389120 at most");
}

#[test]
fn parity_is_that_of_the_test_vector() {
    let data: Vec<u8> = (0..150_000u64).map(|i| ((i * i) >> 3) as u8).collect();
    let parity = parity(&data, 150_000).unwrap();
    let wanted = "sha256:c4c557b2ce5162a0bc2670f3c522139f7f20d5b9642dcfdca8f554726a6da26d";
    assert_eq!(Digest::of(&parity).to_string(), wanted);
}

#[test]
fn parity_has_bounds() {
    assert_eq!(super::parity(&[], 100).unwrap(), [0u8; 0]);
    assert!(super::parity(&[1, 2, 3], 1 << 20).is_err());
    assert!(protect(vec![0; 520], 2048).is_err(), "no room for the decompressor's fields");
    assert!(protect(vec![0; 6000], 11).is_err(), "larger than the partition");
}

proptest! {
    /// Whatever the boot file, its checksum is that of the bytes as they lie on the image.
    #[test]
    fn boot_information_sums_what_is_written(block: u32, tail in prop::collection::vec(any::<u8>(), 0..99)) {
        let mut image = vec![0; 2560];
        image[64..2548].fill(0xa5);
        image.extend(tail);
        let facts = BootFile::of(&image);
        let placed = facts.place(&VirtualFile::inline(image.clone()), block).read_all(&NoBlobs).unwrap();
        let mut padded = placed.to_vec();
        padded.resize(placed.len().next_multiple_of(4), 0);
        let words: Vec<u32> = padded.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();
        prop_assert_eq!(&words[2..5], &[16, block, image.len() as u32]);
        prop_assert_eq!(words[5], words[16..].iter().copied().fold(0, u32::wrapping_add));
        prop_assert!(words[6..16].iter().all(|word| *word == 0));
        prop_assert_eq!(u64::from(words[637]) | u64::from(words[638]) << 32, u64::from(block) * 4 + 5);
        prop_assert_eq!(&placed[64..2548], &image[64..2548]);
        prop_assert_eq!(&placed[2556..], &image[2556..]);
    }
}
