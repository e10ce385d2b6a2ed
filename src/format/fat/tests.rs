use proptest::prelude::*;

use super::geometry::{Geometry, fat32_sectors_per_cluster};
use super::name::{BadName, names};
use super::table::{Run, table};
use super::*;
use crate::format::tree::{FileTree, Node};
use crate::virtual_file::NoBlobs;

const MIB: u64 = 1 << 20;

fn options(size: u64, sector_size: u32) -> Options<'static> {
    Options {
        size,
        sector_size,
        format: None,
        sectors_per_cluster: None,
        alignment: 2048,
        label: "EFI",
        serial: 0x1234_abcd,
        mtime: 1_559_424_892,
    }
}

fn tree(files: &[(&str, u64)]) -> FileTree {
    let mut tree = FileTree::new();
    for (path, len) in files {
        tree.insert(path, Node::file(0o644, VirtualFile::repeat("x", *len))).unwrap();
    }
    tree
}

fn read(file: &VirtualFile) -> Vec<u8> {
    file.read_all(&NoBlobs).unwrap().to_vec()
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// A volume as a reader understands it who knows the specification only: paths with contents.
fn parse(volume: &[u8]) -> BTreeMap<String, Option<Vec<u8>>> {
    let sector = number(volume, 0x0b, 2) as usize;
    let cluster = number(volume, 0x0d, 1) as usize * sector;
    let reserved = number(volume, 0x0e, 2) as usize * sector;
    let fat16 = number(volume, 0x16, 2) != 0;
    let table = number(volume, if fat16 { 0x16 } else { 0x24 }, if fat16 { 2 } else { 4 }) as usize * sector;
    let root = number(volume, 0x11, 2) as usize * 32;
    let data = reserved + 2 * table + root;
    let chain = |mut at: u64| {
        let mut bytes = Vec::new();
        while at != 0 && at < if fat16 { 0xfff8 } else { 0x0fff_fff8 } {
            let start = data + (at as usize - 2) * cluster;
            bytes.extend_from_slice(&volume[start..start + cluster]);
            let width = if fat16 { 2 } else { 4 };
            at = number(volume, reserved + at as usize * width, width);
        }
        bytes
    };
    let first = if fat16 { volume[data - root..data].to_vec() } else { chain(number(volume, 0x2c, 4)) };
    let mut todo = vec![(String::new(), first)];
    let mut found = BTreeMap::new();
    while let Some((path, directory)) = todo.pop() {
        let mut long: Vec<u16> = Vec::new();
        for entry in directory.chunks(32).take_while(|entry| entry[0] != 0) {
            if entry[11] == 0x0f {
                let units = [&entry[1..11], &entry[14..26], &entry[28..32]].concat();
                let units = units.chunks(2).map(|unit| number(unit, 0, 2) as u16);
                long.splice(0..0, units.take_while(|unit| *unit != 0 && *unit != 0xffff));
                continue;
            }
            if entry[11] == 0x08 || entry[0] == b'.' {
                continue;
            }
            let part = |range: std::ops::Range<usize>| String::from_utf8_lossy(&entry[range]).trim_end().to_owned();
            let short = format!("{}.{}", part(0..8), part(8..11)).trim_end_matches('.').to_owned();
            let name = if long.is_empty() { short } else { String::from_utf16(&long).unwrap() };
            long.clear();
            let inside = format!("{path}{}{name}", if path.is_empty() { "" } else { "/" });
            let mut bytes = chain(number(entry, 20, 2) << 16 | number(entry, 26, 2));
            if entry[11] & 0x10 != 0 {
                todo.push((inside.clone(), bytes));
                found.insert(inside, None);
            } else {
                bytes.truncate(number(entry, 28, 4) as usize);
                found.insert(inside, Some(bytes));
            }
        }
    }
    found
}

fn expected(tree: &FileTree) -> BTreeMap<String, Option<Vec<u8>>> {
    let text = |path: &[u8]| String::from_utf8(path.to_vec()).unwrap();
    tree.iter().map(|(path, node)| (text(path), node.contents().map(read))).collect()
}

#[test]
fn clusters_of_the_iso_are_the_references() {
    let golden = include_str!("../../../tests/golden/grub/esp-cluster.jsonl");
    let mut seen = 0;
    for line in golden.lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let size = case["size_bytes"].as_u64().unwrap();
        let sectors = u64::from(fat32_sectors_per_cluster(size, 512));
        assert_eq!(sectors, case["sectors_per_cluster"].as_u64().unwrap(), "{size}");
        seen += 1;
    }
    assert_eq!(seen, 29);
}

#[test]
fn the_image_of_an_iso_has_room_for_its_files() {
    assert_eq!(iso_image_size([100 * MIB + 1, 100_000], ISO_SLACK), 112 * MIB);
    assert_eq!(iso_image_size([100 * MIB, 100_000], MIB), 102 * MIB);
    assert_eq!(iso_image_size([], ISO_SLACK), 33 * MIB);
    // Smallest of those that firmware of EDK2 takes.
    assert_eq!(Geometry::new(&options(33 * MIB, 512)).unwrap().format, Format::Fat32);
    assert_eq!(Geometry::new(&options(32 * MIB, 512)).unwrap().format, Format::Fat16);
}

/// Data starts at a multiple of 2048 by itself for whole mebibytes, so that records of ISO 9660 can point into it.
#[test]
fn whole_mebibytes_are_aligned_without_more_reserved_sectors() {
    for mib in 33..=2999 {
        let geometry = Geometry::new(&options(mib * MIB, 512)).unwrap();
        assert_eq!((geometry.format, geometry.reserved), (Format::Fat32, 32), "{mib} MiB");
        assert_eq!(geometry.data_offset() % 2048, 0, "{mib} MiB");
    }
}

#[test]
fn odd_sizes_are_aligned_by_reserved_sectors() {
    for sectors in 70_000..70_600 {
        for alignment in [512, 2048, 4096, MIB as u32] {
            let options = Options { alignment, format: Some(Format::Fat32), ..options(sectors * 512, 512) };
            let geometry = Geometry::new(&options).unwrap();
            assert_eq!(geometry.data_offset() % u64::from(alignment), 0);
            let end = geometry.offset(geometry.clusters + FIRST_CLUSTER);
            assert!(end <= options.size && u64::from(geometry.table) * 128 >= geometry.clusters + 2);
        }
    }
}

/// Volumes that OVMF started from: their clusters are known.
#[test]
fn geometries_are_known() {
    for (size, sector, format, clusters, per_cluster, table) in [
        (33, 512, Format::Fat32, 66_496, 1, 528),
        (100, 512, Format::Fat32, 101_584, 2, 800),
        (100, 4096, Format::Fat16, 25_569, 1, 13),
        (1101, 4096, Format::Fat32, 281_272, 1, 276),
        (2101, 4096, Format::Fat32, 536_772, 1, 526),
        (2101, 512, Format::Fat32, 536_801, 8, 4202),
    ] {
        let found = Geometry::new(&options(size * MIB, sector)).unwrap();
        let found = (found.format, found.clusters, found.sectors_per_cluster, found.table);
        assert_eq!(found, (format, clusters, per_cluster, table), "{size} MiB at {sector}");
    }
}

#[test]
fn cluster_counts_of_no_format_are_refused() {
    let refused = |options: Options<'_>| Geometry::new(&options).unwrap_err().to_string();
    let wanted = |format, size, sector| Options { format: Some(format), ..options(size, sector) };
    assert_eq!(
        refused(wanted(Format::Fat32, 100 * MIB, 4096)),
        "FAT32: 104857600 bytes make 25518 clusters of 4096 bytes (65525 to 268435445 are possible)"
    );
    assert!(refused(wanted(Format::Fat16, 3 << 30, 512)).contains("FAT16: 3221225472 bytes make 98"));
    assert!(refused(options(MIB, 512)).contains("(4085 to 65524 are possible)"));
    assert!(refused(options(100 * MIB + 1, 512)).contains("whole sectors"));
    assert!(refused(options(0, 512)).contains("whole sectors"));
    assert!(refused(options(1 << 42, 512)).contains("whole sectors"));
    assert!(refused(options(MIB, 513)).contains("sectors of 513"));
    assert!(refused(Options { alignment: 3000, ..options(40 * MIB, 512) }).contains("alignment of 3000"));
    let clusters = |sectors| Options { sectors_per_cluster: Some(sectors), ..options(400 * MIB, 512) };
    for sectors in [0, 3, 128] {
        assert!(refused(clusters(sectors)).contains("clusters of"), "{sectors}");
    }
}

#[test]
fn a_volume_of_gigabytes_is_laid_out_in_a_few_bytes() {
    let mut files = tree(&[("loader/loader.conf", 100)]);
    let uki = VirtualFile::blob(crate::types::Digest::of(b"uki"), 1 << 30);
    files.insert("EFI/Linux/Talos-v1.13.2.efi", Node::file(0o644, uki.clone())).unwrap();
    let volume = lay_out(&files, &options(2101 * MIB, 4096)).unwrap();
    assert_eq!(volume.image.len(), 2101 * MIB);
    assert!(volume.image.encode().len() < 4000, "{}", volume.image.encode().len());
    let at = volume.offsets["EFI/Linux/Talos-v1.13.2.efi"];
    assert_eq!(volume.image.slice(at..at + (1 << 30)), uki);
}

#[test]
fn what_does_not_fit_is_refused_with_sizes() {
    let data = Geometry::new(&options(33 * MIB, 512)).unwrap();
    let whole = data.clusters * 512;
    // The root directory takes one cluster, files start at every fourth: the first at cluster 6.
    let full = tree(&[("FULL", whole - 4 * 512)]);
    let volume = lay_out(&full, &options(33 * MIB, 512)).unwrap();
    assert_eq!(volume.offsets["FULL"], data.data_offset() + 2048);
    let error = lay_out(&tree(&[("FULL", whole - 4 * 512 + 1)]), &options(33 * MIB, 512)).unwrap_err();
    assert_eq!(error, FatError::Full { size: 33 * MIB, needed: whole + 512, available: whole });
    let large = tree(&[("large", 1 << 32)]);
    let error = lay_out(&large, &options(8 << 30, 512)).unwrap_err();
    assert_eq!(error, FatError::TooLong { path: "large".into(), len: 1 << 32 });
    let many: Vec<String> = (0..600).map(|number| format!("{number}")).collect();
    let many: Vec<(&str, u64)> = many.iter().map(|name| (name.as_str(), 0)).collect();
    let error = lay_out(&tree(&many), &options(16 * MIB, 512)).unwrap_err();
    assert_eq!(error, FatError::Entries { path: String::new(), entries: 601, most: 512 });
    assert!(lay_out(&tree(&many), &options(40 * MIB, 512)).is_ok());
}

#[test]
fn what_the_format_cannot_hold_is_refused() {
    let with = |path: &[u8], node| {
        let mut tree = tree(&[("a/Linux", 1)]);
        tree.insert(path, node).unwrap();
        lay_out(&tree, &options(40 * MIB, 512)).unwrap_err().to_string()
    };
    let file = || Node::file(0o644, VirtualFile::empty());
    assert_eq!(with(b"a/link", Node::symlink("x")), "FAT: \"a/link\" is neither a file nor a directory");
    assert_eq!(with(b"a/LINUX", file()), "FAT: \"a/Linux\" and \"a/LINUX\" differ in case only");
    assert!(with(b"a/\xff", file()).contains("is no UTF-8"));
    for name in ["a:b", "a?", "tab\t", "back\\slash"] {
        assert!(with(name.as_bytes(), file()).contains("holds a control character or one of"), "{name}");
    }
    for name in [" a", "a ", "a.", "..."] {
        assert!(with(name.as_bytes(), file()).contains("space or dot"), "{name}");
    }
    for label in ["", "efi", "TWELVE CHARS", " A", "A.B"] {
        let options = Options { label, ..options(40 * MIB, 512) };
        assert_eq!(lay_out(&FileTree::new(), &options), Err(FatError::Label(label.into())));
    }
}

#[test]
fn short_names_are_unique() {
    let short = |list: &[&str]| -> Vec<String> {
        let names = names(list).unwrap();
        names.iter().map(|name| String::from_utf8(name.short.to_vec()).unwrap()).collect()
    };
    assert_eq!(
        short(&["BOOTX64.EFI", "Linux", "Talos-v1.13.2.efi", "loader.conf", "PK.auth", "talos-~1.efi", "ж", ".a.b c"]),
        [
            "BOOTX64 EFI",
            "LINUX      ",
            "TALOS-~2EFI",
            "LOADER~1CON",
            "PK~1    AUT",
            "TALOS-~1EFI",
            "_~1        ",
            "A~1     BC "
        ]
    );
    let many: Vec<String> = (0..20_000).map(|number| format!("same beginning {number}.text")).collect();
    let many = short(&many.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!((&many[8][..], &many[9][..], &many[99][..]), ("SAMEBE~9TEX", "SAMEB~10TEX", "SAME~100TEX"));
    assert_eq!(many.iter().collect::<std::collections::BTreeSet<_>>().len(), many.len());
    // One letter more is told apart by length only.
    assert_eq!(names(&["Straße", "STRASSE"]).map(|names| names.len()), Ok(2));
    assert_eq!(names(&["жук", "ЖУК"]), Err(BadName::Clash(1, 0)));
    assert_eq!(names(&["BOOT", "Boot.efi", "EFI"]).unwrap().iter().map(|n| n.entries()).collect::<Vec<_>>(), [1, 2, 1]);
}

/// The same bytes for ever: these change only together with the layout revision.
#[test]
fn layouts_are_known() {
    let files = [("EFI/BOOT/BOOTX64.EFI", 5000), ("EFI/Linux/Talos-v1.13.2.efi", 70_000), ("loader/loader.conf", 57)];
    for (mib, sector, known) in [
        (8, 512, "0cd92c2d848f46ed4ac56b925f53afb2822ffca08745698e136cfb7448ef3b14"),
        (33, 512, "b7814e27186a507a90527fed75200aac32efe50a6340f9235a0fd806cc74cf18"),
        (20, 4096, "796268ca332b52f7d28276884f472dc92c2ccc62a2d5ca710446d05c59e27f1f"),
    ] {
        let volume = lay_out(&tree(&files), &options(mib * MIB, sector)).unwrap();
        assert_eq!(crate::types::Digest::of(&read(&volume.image)).hex(), known, "{mib} MiB at {sector}");
    }
}

#[test]
fn attributes_and_times_are_set() {
    let mut files = tree(&[]);
    files.insert("SEED", Node::file(0o444, VirtualFile::zeros(32))).unwrap();
    files.insert("DIR", Node::directory(0o555)).unwrap();
    let volume = lay_out(&files, &options(33 * MIB, 512)).unwrap();
    let data = Geometry::new(&options(33 * MIB, 512)).unwrap().data_offset();
    let root = read(&volume.image.slice(data..data + 128));
    // Counters: two directories and the file are in use, the cluster before the file is free.
    let info = read(&volume.image.slice(512..1024));
    assert_eq!((number(&info, 0x1e8, 4), number(&info, 0x1ec, 4)), (66_496 - 3, 4));
    // 2019-06-01 21:34:52
    let stamp = "5aac c14e";
    let entry = |name: &str, attributes: &str, tail: &str| {
        let stamp = stamp.replace(' ', "");
        format!("{}{attributes}0000{stamp}{}0000{stamp}{tail}", hex::encode(name), &stamp[4..])
    };
    assert_eq!(hex::encode(&root[..32]), entry("EFI        ", "08", "000000000000"));
    assert_eq!(hex::encode(&root[32..64]), entry("DIR        ", "10", "030000000000"));
    assert_eq!(hex::encode(&root[64..96]), entry("SEED       ", "21", "060020000000"));
    let dots = read(&volume.image.slice(data + 512..data + 576));
    assert_eq!(hex::encode(&dots[..32]), entry(".          ", "10", "030000000000"));
    assert_eq!(hex::encode(&dots[32..]), entry("..         ", "10", "000000000000"));
}

#[test]
fn times_are_those_of_the_calendar() {
    use super::directory::Stamp;
    for (seconds, date, time) in [
        (0, (1980, 1, 1), (0, 0, 0)),
        (951_782_399, (2000, 2, 28), (23, 59, 58)),
        (951_868_799, (2000, 2, 29), (23, 59, 58)),
        (1_704_067_199, (2023, 12, 31), (23, 59, 58)),
        (1_709_251_200, (2024, 3, 1), (0, 0, 0)),
        (u32::MAX, (2106, 2, 7), (6, 28, 14)),
    ] {
        let stamp = Stamp::new(seconds);
        assert_eq!((1980 + (stamp.date >> 9), stamp.date >> 5 & 15, stamp.date & 31), date, "{seconds}");
        assert_eq!((stamp.time >> 11, stamp.time >> 5 & 63, (stamp.time & 31) * 2), time, "{seconds}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn tables_hold_their_chains(lengths in prop::collection::vec((1u64..30, 0u64..4), 0..20), fat16: bool) {
        let format = if fat16 { Format::Fat16 } else { Format::Fat32 };
        let (width, last) = if fat16 { (2, 0xffff) } else { (4, 0x0fff_ffff) };
        let mut expected = vec![last - 7, last];
        let mut runs = Vec::new();
        for (len, gap) in lengths {
            let first = expected.len() as u64 + gap;
            expected.resize(first as usize, 0);
            expected.extend((first + 1..first + len).chain([last]));
            runs.push(Run { first, len });
        }
        expected.resize(1024, 0);
        let bytes = read(&table(format, &runs, 1024 * width as u64));
        let found: Vec<u64> = bytes.chunks(width).map(|bytes| number(bytes, 0, width)).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn any_tree_is_read_back(
        files in prop::collection::vec(("[a-cA-C]{1,2}(/[a-z0-9 é]{0,20}[a-zé]){0,2}(\\.[a-z]{1,5})?", 0u64..20_000), 0..30),
        sector in prop::sample::select(vec![512u32, 1024, 2048, 4096]),
        alignment in prop::sample::select(vec![1u32, 512, 2048, 8192]),
        fat32: bool,
    ) {
        let mut tree = FileTree::new();
        for (path, len) in &files {
            let fill = path.bytes().fold(1u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
            let _ = tree.insert(path, Node::file(0o644, VirtualFile::repeat(vec![fill, 1, 2], *len / 3)));
        }
        let size = u64::from(sector) * if fat32 { 68_000 } else { 9000 };
        let options = Options { alignment, ..options(size, sector) };
        let volume = match lay_out(&tree, &options) {
            Ok(volume) => volume,
            Err(FatError::Clash { .. } | FatError::Name { .. }) => return Ok(()),
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        prop_assert_eq!(volume.format, if fat32 { Format::Fat32 } else { Format::Fat16 });
        prop_assert_eq!(volume.image.len(), size);
        prop_assert!(volume.offsets.values().all(|offset| offset % u64::from(alignment) == 0));
        for (path, node) in tree.iter() {
            let Some(contents) = node.contents().filter(|contents| !contents.is_empty()) else { continue };
            let at = volume.offsets[str::from_utf8(path).unwrap()];
            prop_assert_eq!(read(&volume.image.slice(at..at + contents.len())), read(contents));
        }
        // The data behind the last file is not needed to read it.
        let end = 2 * u64::from(sector) * 1000 + volume.offsets.values().max().copied().unwrap_or(0) + 40_000;
        let mut bytes = read(&volume.image.slice(0..end.min(size)));
        bytes.resize(bytes.len() + (256 << 10), 0);
        prop_assert_eq!(parse(&bytes), expected(&tree));
    }
}
