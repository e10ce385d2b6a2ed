use std::ops::Range;

use proptest::prelude::*;

use super::*;
use crate::types::Digest;
use crate::virtual_file::{Extent, NoBlobs};

const EPOCH: u32 = 1_559_424_892;

fn image<'a>(files: &'a BTreeMap<String, Content>, uefi: Option<&'a VirtualFile>) -> Image<'a> {
    let partitions = PartitionTable::Gpt(GptGuids::of("test"));
    Image { volume_id: "TEST", volume_set_id: "Test-v1", mtime: EPOCH, files, bios: None, uefi, partitions }
}

fn tree<const N: usize>(files: [(&str, Content); N]) -> BTreeMap<String, Content> {
    files.into_iter().map(|(path, content)| (path.to_owned(), content)).collect()
}

fn text(bytes: impl Into<Bytes>) -> Content {
    Content::File(VirtualFile::inline(bytes))
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// What a reader of Rock Ridge finds: a directory, or where a file lies.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Directory,
    File(Range<u64>),
}

/// Walks the image as a reader does, and holds it to the rules that readers may rely on.
fn walk(iso: &VirtualFile) -> BTreeMap<String, Found> {
    let read = |at: u64, len: u64| iso.slice(at..at + len).read_all(&NoBlobs).unwrap();
    let primary = read(16 * SECTOR, SECTOR);
    assert_eq!(primary[..7], *b"\x01CD001\x01");
    assert_eq!(u64::from(le32(&primary, 80)) * SECTOR, iso.len());
    assert!(iso.len().is_multiple_of(64 << 10));
    let path_table = read(u64::from(le32(&primary, 140)) * SECTOR, u64::from(le32(&primary, 132)));
    let mut in_table = Vec::new();
    let mut at = 0;
    while at < path_table.len() {
        in_table.push(le32(&path_table, at + 2));
        at += 8 + usize::from(path_table[at]).next_multiple_of(2);
    }
    let mut found = BTreeMap::new();
    let mut visited = Vec::new();
    let mut todo = vec![(String::new(), le32(&primary, 158), le32(&primary, 166))];
    while let Some((path, lba, len)) = todo.pop() {
        assert!(u64::from(len).is_multiple_of(SECTOR));
        visited.push(lba);
        let bytes = read(u64::from(lba) * SECTOR, u64::from(len));
        let (mut at, mut last, mut pending) = (0, Vec::new(), None);
        while at < bytes.len() {
            if bytes[at] == 0 {
                at = at.next_multiple_of(SECTOR as usize);
                continue;
            }
            let record = &bytes[at..at + usize::from(bytes[at])];
            assert_eq!(at / SECTOR as usize, (at + record.len() - 1) / SECTOR as usize);
            at += record.len();
            let (start, len, flags) = (u64::from(le32(record, 2)) * SECTOR, u64::from(le32(record, 10)), record[25]);
            let identifier = &record[33..33 + usize::from(record[32])];
            if identifier.len() == 1 && identifier[0] < 2 {
                continue;
            }
            let stem = identifier.strip_suffix(b";1").unwrap_or(identifier).to_vec();
            let allowed = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"_.".contains(byte);
            assert!(stem.len() <= 31 && stem.iter().all(allowed), "{stem:?}");
            assert!(last < stem || pending.is_some() && last == stem, "{last:?} {stem:?}");
            last = stem;
            let name = name(&record[(33 + identifier.len()).next_multiple_of(2)..]);
            let child = if path.is_empty() { name } else { format!("{path}/{name}") };
            if flags & 2 != 0 {
                todo.push((child.clone(), le32(record, 2), le32(record, 10)));
                assert!(found.insert(child, Found::Directory).is_none());
                continue;
            }
            let begin = match pending.take() {
                None => start,
                Some(Range { start: begin, end }) => {
                    assert_eq!(end, start);
                    begin
                }
            };
            if flags & 0x80 != 0 {
                pending = Some(begin..start + len);
            } else {
                assert!(start + len <= iso.len());
                assert!(found.insert(child, Found::File(begin..start + len)).is_none());
            }
        }
    }
    visited.sort_unstable();
    in_table.sort_unstable();
    assert_eq!(visited, in_table);
    found
}

/// The name in a record's system use.
fn name(mut system_use: &[u8]) -> String {
    while system_use.len() >= 4 {
        let (entry, rest) = system_use.split_at(usize::from(system_use[2]));
        if entry.starts_with(b"NM") {
            return String::from_utf8(entry[5..].to_vec()).unwrap();
        }
        system_use = rest;
    }
    panic!("a record without a name");
}

/// Holds the image to what it was made of.
fn check(image: &Image<'_>) -> Result<VirtualFile, Iso9660Error> {
    let iso = image.layout()?;
    let mut found = walk(&iso);
    for (path, content) in image.files {
        let there = found.remove(path);
        match content {
            Content::Directory => assert_eq!(there, Some(Found::Directory), "{path}"),
            Content::File(contents) => {
                let Some(Found::File(range)) = there else { panic!("{path} is no file") };
                assert_eq!(iso.slice(range), *contents, "{path}");
            }
            Content::Shared { offset, len } => {
                let Some(Found::File(range)) = there else { panic!("{path} is no file") };
                assert_eq!(iso.slice(range), image.uefi.unwrap().slice(*offset..offset + len), "{path}");
            }
        }
    }
    found.retain(|path, what| *what != Found::Directory && path != CATALOG_PATH);
    assert!(found.is_empty(), "{found:?}");
    Ok(iso)
}

/// A UEFI image whose parts can be told from one another.
fn uefi(len: u64) -> VirtualFile {
    VirtualFile::from_extents([Extent::Blob { digest: Digest::of(b"uefi"), offset: 0, len }])
}

fn sample() -> BTreeMap<String, Content> {
    tree([
        ("boot/grub/fonts", Content::Directory),
        ("boot/grub/grub.cfg", text("menu")),
        ("boot/vmlinuz", Content::Shared { offset: 20_480, len: 70_001 }),
        ("EFI/BOOT/BOOTX64.EFI", Content::Shared { offset: 4096, len: 5000 }),
        ("efi.img", Content::Shared { offset: 0, len: 2 << 20 }),
        ("empty", text("")),
        ("large", Content::File(VirtualFile::repeat("large", 1 << 20))),
    ])
}

#[test]
fn golden_bytes() {
    let files =
        tree([("boot/grub/grub.cfg", text("menu")), ("boot/vmlinuz", Content::Shared { offset: 2048, len: 9 })]);
    let fat = VirtualFile::repeat("12345678", 1 << 16);
    let bios = VirtualFile::zeros(4000);
    let patches = |lba: u32| vec![(8, Bytes::copy_from_slice(&lba.to_le_bytes()))];
    let bios = BiosBoot { path: "boot/grub/eltorito.img", image: &bios, patches: &patches, boot_code: &|_| [7; 440] };
    let digest = |image: &Image<'_>| Digest::of(&image.layout().unwrap().read_all(&NoBlobs).unwrap()).hex();
    let hybrid = Image { bios: Some(bios), ..image(&files, Some(&fat)) };
    assert_eq!(digest(&hybrid), digest(&hybrid));
    assert_eq!(digest(&hybrid), "361dcc98c48ba8fa4a93a36c9efbe58ae66394eb6b8b03fbc5fc7f1821bee279");
    let mbr = Image { partitions: PartitionTable::Mbr, ..image(&files, Some(&fat)) };
    assert_eq!(digest(&mbr), "579ea0facc3c30765edf1a6cafc3af43c7db782bdb4038d1f5260055b480f6fb");
}

#[test]
fn every_file_is_found_with_its_bytes() {
    let (files, fat) = (sample(), uefi(2 << 20));
    let iso = check(&image(&files, Some(&fat))).unwrap();
    // 5 MiB of a large file, then the UEFI image on the next whole MiB.
    assert_eq!(iso.slice(6 << 20..8 << 20), fat);
    assert_eq!(iso.len(), (8 << 20) + (320 << 10));
    let plain = tree([("a/b/c", text("x"))]);
    for partitions in [PartitionTable::Mbr, PartitionTable::Gpt(GptGuids::of("x"))] {
        let iso = check(&Image { partitions, ..image(&plain, None) }).unwrap();
        // Nothing boots: no boot record.
        assert_eq!(iso.slice(17 * SECTOR..17 * SECTOR + 6).read_all(&NoBlobs).unwrap(), b"\xffCD001"[..]);
    }
    check(&image(&BTreeMap::new(), None)).unwrap();
}

#[test]
fn boot_image_and_code_get_the_image_place() {
    let files = tree([("a", text("a"))]);
    let blob = VirtualFile::blob(Digest::of(b"grub"), 50_000);
    let patches = |lba: u32| vec![(2548, lba.to_be_bytes().to_vec().into()), (8, lba.to_le_bytes().to_vec().into())];
    let boot_code = |lba: u32| [lba as u8; BOOT_CODE_LEN];
    let bios = BiosBoot { path: "boot/eltorito.img", image: &blob, patches: &patches, boot_code: &boot_code };
    for partitions in [PartitionTable::Mbr, PartitionTable::Gpt(GptGuids::of("x"))] {
        let iso = Image { bios: Some(bios), partitions, ..image(&files, None) }.layout().unwrap();
        let Some(Found::File(range)) = walk(&iso).remove("boot/eltorito.img") else { panic!("no boot image") };
        let lba = (range.start / SECTOR) as u32;
        let expected = [
            blob.slice(0..8),
            VirtualFile::inline(lba.to_le_bytes().to_vec()),
            blob.slice(12..2548),
            VirtualFile::inline(lba.to_be_bytes().to_vec()),
            blob.slice(2552..50_000),
        ];
        assert_eq!(iso.slice(range), VirtualFile::concat(expected));
        assert_eq!(iso.slice(0..440).read_all(&NoBlobs).unwrap(), boot_code(lba)[..]);
    }
    for patches in [vec![(49_999, vec![0; 2])], vec![(0, vec![0; 2]), (1, vec![0; 1])], vec![(u64::MAX, vec![0; 2])]] {
        let patches = |_| patches.iter().map(|(at, bytes)| (*at, bytes.clone().into())).collect();
        let bios = BiosBoot { patches: &patches, ..bios };
        let error = Image { bios: Some(bios), ..image(&files, None) }.layout().unwrap_err();
        assert!(error.to_string().starts_with("iso9660: \"boot/eltorito.img\": a patch of bytes"), "{error}");
    }
}

#[test]
fn files_of_4_gib_and_more_have_several_sections() {
    let section = (1 << 32) - SECTOR;
    for len in [section, section + 1, 2 * section, (5 << 30) + 7] {
        let blob = VirtualFile::blob(Digest::of(b"huge"), len);
        check(&image(&tree([("huge", Content::File(blob))]), None)).unwrap();
        let fat = uefi(len + 4096);
        let iso = check(&image(&tree([("huge", Content::Shared { offset: 2048, len })]), Some(&fat))).unwrap();
        // The count of the catalog has no room for it: 0.
        let catalog = u64::from(le32(&iso.slice(17 * SECTOR..18 * SECTOR).read_all(&NoBlobs).unwrap(), 0x47)) * SECTOR;
        let entry = iso.slice(catalog + 32..catalog + 44).read_all(&NoBlobs).unwrap();
        assert_eq!(entry[..8], [0x88, 0, 0, 0, 0, 0, 0, 0]);
    }
}

#[test]
fn metadata_is_small_as_extents() {
    let fat = uefi(64 << 20);
    let mut files = tree([
        ("EFI/BOOT/BOOTX64.EFI", Content::Shared { offset: 1 << 20, len: 124_416 }),
        ("EFI/Linux/Talos-v1.13.2.efi", Content::Shared { offset: 2 << 20, len: 29_359_104 }),
        ("loader/loader.conf", Content::Shared { offset: 40_960, len: 65 }),
        ("loader/random-seed", Content::Shared { offset: 43_008, len: 32 }),
    ]);
    let sd_boot = Image { partitions: PartitionTable::Mbr, ..image(&files, Some(&fat)) }.layout().unwrap();
    assert!(sd_boot.encode().len() < 4000, "{}", sd_boot.encode().len());
    for at in 0..10 {
        files.insert(format!("boot/grub/i386-pc/module-{at}.mod"), Content::Shared { offset: 1 << 20, len: 9 });
    }
    let hybrid = image(&files, Some(&fat)).layout().unwrap();
    assert!(hybrid.encode().len() < 6000, "{}", hybrid.encode().len());
}

#[test]
fn refusals_name_path_and_bound() {
    let fat = uefi(1 << 20);
    let refused = |path: &str, content: Content, expected: &str| {
        let files = tree([("dir/file", text("")), (path, content)]);
        let error = image(&files, Some(&fat)).layout().unwrap_err().to_string();
        assert!(error.starts_with("iso9660: ") && error.contains(expected), "{error}");
    };
    let long = "n".repeat(121);
    refused(&format!("a/{long}"), text(""), "a name of 121 bytes, 120 at most");
    refused("1/2/3/4/5/6/7/8/file", text(""), "9 levels of directories, 8 at most");
    refused("1/2/3/4/5/6/7/8", Content::Directory, "\"1/2/3/4/5/6/7/8\": 9 levels");
    for path in ["", "/a", "a//b", "a/", "a/../b", "./a", "a\0b"] {
        refused(path, text(""), "a component cannot be");
    }
    refused("dir", text(""), "\"dir/file\": \"dir\" is a file");
    refused("dir/file/below", text(""), "\"dir/file/below\": \"file\" is a file");
    refused("boot.catalog", text(""), "\"boot.catalog\": is made by the layout");
    refused(
        "s",
        Content::Shared { offset: 2047, len: 1 },
        "starts at byte 2047 of the UEFI image, no multiple of 2048",
    );
    refused("s", Content::Shared { offset: 2048, len: 1 << 20 }, "1048576 bytes at 2048 of a UEFI image of 1048576");
    refused("s", Content::Shared { offset: 2048, len: u64::MAX }, "\"s\": 18446744073709551615 bytes at 2048");
    refused("big", Content::File(VirtualFile::zeros(u64::MAX)), "\"big\": ends at sector");
    refused("big", Content::File(VirtualFile::zeros(8 << 40)), "ends at sector 4294967296, 4294967295 at most");
    refused("big", Content::File(VirtualFile::zeros((8 << 40) - (20 << 10))), "\"big\": ends at sector");
    refused("big", Content::File(VirtualFile::zeros((8 << 40) - (256 << 10))), "sectors: 4294967");

    let shared = tree([("s", Content::Shared { offset: 0, len: 1 })]);
    let text = |image: Image<'_>| image.layout().unwrap_err().to_string();
    assert_eq!(text(image(&shared, None)), "iso9660: \"s\": is shared with a UEFI image, and there is none");
    let empty = BTreeMap::new();
    assert_eq!(text(image(&empty, Some(&VirtualFile::empty()))), "iso9660: the UEFI image is empty");
    for volume_id in ["", "talos", "TALOS-1", &"T".repeat(33)] {
        let error = text(Image { volume_id, ..image(&empty, None) });
        assert_eq!(error, format!("iso9660: volume identifier {volume_id:?}: 1 to 32 of A-Z, 0-9 and _"));
    }
    let set = Image { volume_set_id: "\u{e4}", ..image(&empty, None) };
    assert!(text(set).contains("volume set identifier \"\u{e4}\": at most 128 printable"));
    let huge = uefi(3 << 40);
    let mbr = Image { partitions: PartitionTable::Mbr, ..image(&empty, Some(&huge)) };
    assert_eq!(text(mbr), "iso9660: blocks of an MBR partition: 6442450944, 4294967295 at most");
    let mut many = BTreeMap::new();
    (0..u16::MAX).for_each(|at| drop(many.insert(format!("d{at}"), Content::Directory)));
    assert!(text(image(&many, None)).ends_with(": 65536 directories, 65535 at most"));
}

/// Names that collide once they are identifiers, and names of every length.
fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-cA-C._-]{1,4}",
        1 => "[aA][.][bB]{1,12}",
        1 => "x{25,40}[-_.]{0,2}y{0,10}",
        1 => "[ -.0-~]{1,120}",
        1 => "\\PC{1,30}".prop_map(|name| name.replace('/', "-")),
    ]
}

fn any_content() -> impl Strategy<Value = Content> {
    prop_oneof![
        Just(Content::Directory),
        (0u64..100_000, any::<u8>()).prop_map(|(len, byte)| Content::File(VirtualFile::repeat(vec![byte | 1], len))),
        (0u64..9 << 30).prop_map(|len| Content::File(VirtualFile::blob(Digest::of(b"own"), len))),
        (0u64..600, 0u64..100_000).prop_map(|(sector, len)| Content::Shared { offset: sector * SECTOR, len }),
    ]
}

proptest! {
    #[test]
    fn any_tree_reads_back(
        paths in prop::collection::vec((prop::collection::vec(any_name(), 1..7), any_content()), 0..60),
        fat in prop::option::weighted(0.8, 1u64..2 << 20),
        gpt: bool,
    ) {
        let files: BTreeMap<String, Content> =
            paths.into_iter().map(|(names, content)| (names.join("/"), content)).collect();
        let fat = fat.map(uefi);
        let partitions = if gpt { PartitionTable::Gpt(GptGuids::of("x")) } else { PartitionTable::Mbr };
        let image = Image { partitions, ..image(&files, fat.as_ref()) };
        match check(&image) {
            Ok(_) | Err(Iso9660Error::Path { .. }) => {}
            Err(error) => prop_assert!(false, "{error}"),
        }
    }

    /// The same within one directory, and nothing that could be refused.
    #[test]
    fn any_directory_reads_back(names in prop::collection::btree_set(any_name(), 0..400)) {
        let usable = |name: &String| ![".", "..", "boot.catalog"].contains(&name.as_str()) && name.len() <= MAX_NAME;
        let names = names.into_iter().filter(usable).enumerate();
        let content = |at: usize| if at.is_multiple_of(5) { Content::Directory } else { text(vec![1; at]) };
        let files = names.map(|(at, name)| (name, content(at))).collect();
        check(&image(&files, None)).unwrap();
    }
}
