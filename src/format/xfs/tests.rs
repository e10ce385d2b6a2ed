use proptest::prelude::*;

use super::directory::{FileType, directory, directory_len};
use super::geometry::{BLOCK, GROUPS, Geometry};
use super::place::Room;
use super::*;
use crate::format::tree::{FileTree, Node};
use crate::types::Digest;
use crate::virtual_file::NoBlobs;

const MIB: u64 = 1 << 20;

fn options(size: u64, sector_size: u32) -> Options<'static> {
    let uuid = 0x24c73076_4092_85dd_9d98_686a2dbf6d81_u128.to_be_bytes();
    Options { size, sector_size, label: "BOOT", uuid, mtime: 1_559_424_892 }
}

fn tree(files: &[(&str, u64)]) -> FileTree {
    let mut tree = FileTree::new();
    for (path, len) in files {
        tree.insert(path, Node::file(0o644, VirtualFile::repeat("x", *len))).unwrap();
    }
    tree
}

fn read(volume: &Volume, range: Range<u64>) -> Vec<u8> {
    volume.image.slice(range).read_all(&NoBlobs).unwrap().to_vec()
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// A structure's checksum must be right.
fn verify(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    let stored = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    bytes[at..at + 4].fill(0);
    assert_eq!(crc32c::crc32c(&bytes), stored);
    bytes
}

/// A volume as a reader understands it who knows the specification only: paths with modes and contents.
fn parse(volume: &Volume) -> BTreeMap<String, (u16, Option<Vec<u8>>)> {
    let sector = number(&read(volume, 0x66..0x68), 0, 2);
    let superblock = verify(read(volume, 0..sector), 0xe0);
    let (group, log) = (number(&superblock, 0x54, 4), superblock[0x7c]);
    for number in 0..4 {
        let header = |index: u64| {
            let start = number * group * 4096 + index * sector;
            read(volume, start..start + sector)
        };
        for (index, checksum) in [0xe0, 0xd8, 0x138, 0x20].into_iter().enumerate() {
            verify(header(index as u64), checksum);
        }
    }
    let offset = |block: u64| ((block >> log) * group + (block & ((1 << log) - 1))) * 4096;
    let inode = |inode: u64| {
        let start = offset(inode / 8) + inode % 8 * 512;
        verify(read(volume, start..start + 512), 0x64)
    };
    let mut found = BTreeMap::new();
    let mut todo = vec![(String::new(), number(&superblock, 0x38, 8))];
    while let Some((path, at)) = todo.pop() {
        let inode = inode(at);
        assert_eq!((&inode[..2], number(&inode, 0x98, 8)), (&b"IN"[..], at));
        let (mode, len, fork) = (number(&inode, 2, 2), number(&inode, 0x38, 8), &inode[0xb0..]);
        let mut contents = None;
        if mode & 0o170_000 == 0o040_000 {
            let mut entries = &fork[6..len as usize];
            while let [name_len, ..] = *entries {
                let (entry, rest) = entries.split_at(usize::from(name_len) + 8);
                let name = str::from_utf8(&entry[3..entry.len() - 5]).unwrap();
                let below = format!("{path}{}{name}", if path.is_empty() { "" } else { "/" });
                todo.push((below, number(entry, entry.len() - 4, 4)));
                entries = rest;
            }
        } else {
            let mut bytes = Vec::new();
            for extent in fork.chunks(16).take(number(&inode, 0x4c, 4) as usize) {
                let extent = u128::from_be_bytes(extent.try_into().unwrap());
                assert_eq!((extent >> 73) as usize * 4096, bytes.len());
                let (start, count) =
                    (offset((extent >> 21 & ((1 << 52) - 1)) as u64), (extent & ((1 << 21) - 1)) as u64);
                bytes.extend(read(volume, start..start + count * 4096));
            }
            assert!(bytes[len as usize..].iter().all(|byte| *byte == 0));
            bytes.truncate(len as usize);
            contents = Some(bytes);
        }
        if !path.is_empty() {
            found.insert(path, (mode as u16 & 0o7777, contents));
        }
    }
    found
}

fn expected(tree: &FileTree) -> BTreeMap<String, (u16, Option<Vec<u8>>)> {
    let text = |path: &[u8]| String::from_utf8(path.to_vec()).unwrap();
    let read = |file: &VirtualFile| file.read_all(&NoBlobs).unwrap().to_vec();
    tree.iter().map(|(path, node)| (text(path), (node.mode, node.contents().map(read)))).collect()
}

#[test]
fn geometries_are_known() {
    for (mib, group, log) in [(300, 19_200, 15), (1000, 64_000, 16), (2000, 128_000, 17), (1024, 65_536, 16)] {
        let geometry = Geometry::new(mib * MIB, 512).unwrap();
        assert_eq!((geometry.group, geometry.group_log()), (group, log), "{mib} MiB");
        assert_eq!((geometry.roots(), geometry.fixed_end(0), geometry.inodes()), (1, 10, 16));
        assert_eq!(geometry.fixed_end(2), 10 + 16_384);
        let geometry = Geometry::new(mib * MIB, 4096).unwrap();
        assert_eq!((geometry.roots(), geometry.fixed_end(0), geometry.inodes()), (4, 13, 16));
    }
    let odd = Geometry::new(SIZE_MIN + 4096 + 512, 512).unwrap();
    assert_eq!((odd.blocks, odd.group, odd.group_len(0), odd.group_len(3)), (76_801, 19_201, 19_201, 19_198));
    let largest = Geometry::new(SIZE_MAX, 4096).unwrap();
    assert_eq!((largest.group, largest.group_log(), largest.number(3, 5)), (1 << 28, 28, 3 << 28 | 5));
}

#[test]
fn what_the_format_cannot_hold_is_refused() {
    let refused = |tree: &FileTree, options: Options<'_>| lay_out(tree, &options).unwrap_err().to_string();
    let empty = FileTree::new();
    assert_eq!(refused(&empty, options(SIZE_MIN, 1024)), "XFS: sectors of 1024 bytes (512 and 4096 are possible)");
    for (size, sector) in
        [(0, 512), (SIZE_MIN - 512, 512), (SIZE_MIN + 512, 4096), (SIZE_MAX + 4096, 512), (u64::MAX, 512)]
    {
        let expected =
            format!("XFS: {size} bytes are not 314572800 to 4398046511104 in whole sectors of {sector} bytes");
        assert_eq!(refused(&empty, options(size, sector)), expected);
    }
    for label in ["THIRTEEN CHAR", "A\0B"] {
        let error = lay_out(&empty, &Options { label, ..options(SIZE_MIN, 512) }).unwrap_err();
        assert_eq!(error, XfsError::Label(label.into()));
    }
    let with = |path: &[u8], node| {
        let mut tree = tree(&[("a/Linux", 1)]);
        tree.insert(path, node).unwrap();
        refused(&tree, options(SIZE_MIN, 512))
    };
    assert_eq!(with(b"a/link", Node::symlink("x")), "XFS: \"a/link\" is neither a file nor a directory");
    assert!(with(b"a/\xff", Node::directory(0o755)).contains("is no UTF-8"));
}

#[test]
fn what_does_not_fit_is_refused_with_sizes() {
    let refused = |files: &[(&str, u64)], mib| lay_out(&tree(files), &options(mib * MIB, 512)).unwrap_err();
    // Groups of 64000 blocks, 2000 of which stay free; in the first 24 are taken, in the others 10, and one has the log.
    let available = (4 * 62_000 - 24 - 3 * 10 - 16_384) * BLOCK;
    let full = |len| [("A/x", len), ("empty", 0)];
    let error = XfsError::Full { size: 1000 * MIB, needed: available + BLOCK, available };
    assert_eq!(refused(&full(available + 1), 1000), error);
    let volume = lay_out(&tree(&full(available)), &options(1000 * MIB, 512)).unwrap();
    assert_eq!((volume.extents["A/x"].len(), volume.extents.len()), (4, 1));
    let mut huge = FileTree::new();
    for path in ["a", "b"] {
        huge.insert(path, Node::file(0, VirtualFile::blob(Digest::of(b""), u64::MAX))).unwrap();
    }
    assert!(matches!(lay_out(&huge, &options(1000 * MIB, 512)), Err(XfsError::Full { .. })));
    // 21 extents of 8 GiB less a block.
    let most = 21 * ((1 << 21) - 1) * BLOCK;
    let error = XfsError::Extents { path: "x".into(), len: most + 1, extents: 22, most: 21 };
    assert_eq!(refused(&[("x", most + 1)], 1 << 20), error);
    let volume = lay_out(&tree(&[("x", most)]), &options(1 << 40, 512)).unwrap();
    assert_eq!(volume.extents["x"].len(), 21);
    // 330 bytes for entries, each of which takes 8 and its name's.
    let names = |last: &'static str| [("a/12345678901234567890123456789012345678901234567890", 0), (last, 0)];
    let (fits, long) = ("x".repeat(330 - 8 - 58), "x".repeat(330 - 7 - 58));
    assert!(lay_out(&tree(&[names("")[0], (&format!("a/{}", &fits[..255]), 0)]), &options(SIZE_MIN, 512)).is_ok());
    let more = format!("a/{}", &long[255..]);
    let error = XfsError::Entries { path: "a".into(), needed: 337 + 8, most: 336 };
    assert_eq!(refused(&[names("")[0], (&format!("a/{}", &long[..255]), 0), (&more, 0)], 300), error);
    let many: Vec<String> = (0..30 * 30 * 18).map(|n| format!("{}/{}/{}", n / 540, n / 18 % 30, n % 18)).collect();
    let many: Vec<(&str, u64)> = many.iter().map(|path| (path.as_str(), 0)).collect();
    assert_eq!(refused(&many, 300), XfsError::Inodes { count: 30 + 900 + 16_200, most: 16_125 });
}

#[test]
fn a_volume_of_gigabytes_is_laid_out_in_a_few_bytes() {
    let (kernel, initramfs) = (Digest::of(b"kernel"), Digest::of(b"initramfs"));
    let mut files = tree(&[("grub/grub.cfg", 829)]);
    let initramfs = VirtualFile::blob(initramfs, 600 * MIB + 1);
    files.insert("A/vmlinuz", Node::file(0o644, VirtualFile::blob(kernel, 12 * MIB))).unwrap();
    files.insert("A/initramfs.xz", Node::file(0o644, initramfs.clone())).unwrap();
    for sector in [512, 4096] {
        let volume = lay_out(&files, &options(2000 * MIB, sector)).unwrap();
        assert_eq!(volume.image.len(), 2000 * MIB);
        assert!(volume.image.encode().len() < 16_000, "{}", volume.image.encode().len());
        let ranges = &volume.extents["A/initramfs.xz"];
        let found = VirtualFile::concat(ranges.iter().map(|range| volume.image.slice(range.clone())));
        assert_eq!((found, ranges.len()), (initramfs.clone(), 2));
    }
}

#[test]
fn directories_are_known() {
    let entries = || [("A", FileType::Directory, 131), ("vmlinuz", FileType::File, 0x0102_0304)].into_iter();
    let bytes = directory(128, entries());
    assert_eq!(hex::encode(&bytes), "020000000080010060410200000083070070766d6c696e757a0101020304");
    assert_eq!(bytes.len(), directory_len(entries().map(|(name, ..)| name)));
}

/// The same bytes for ever: these change only together with the layout revision.
#[test]
fn layouts_are_known() {
    let files = [("A/initramfs.xz", 70_000), ("A/vmlinuz", 5000), ("grub/grub.cfg", 829)];
    for (mib, sector, known) in [
        (1000, 512, "d7b6292ab29a3e010345c035fe4cb2eb36b8d9fd289d3746f06c423b4c6cd27c"),
        (1000, 4096, "3f59cb4477ef6f1cb895f8d7d78d7d4d2631547a843ccadb01d309ca859ea7e8"),
        (2000, 512, "587f0248b7c3d1f056fba2bc16a2ddba45df2da22b46484cc34ec25b6e3b21fe"),
        (2000, 4096, "461f275d7857428c7204f190121e4c7d354455b3030c857de36cb2b2a3e6e19d"),
    ] {
        let volume = lay_out(&tree(&files), &options(mib * MIB, sector)).unwrap();
        let geometry = Geometry::new(mib * MIB, sector).unwrap();
        // Behind these there are zeros.
        let begin = |group| geometry.offset(group, 0)..geometry.offset(group, 64);
        let begins: Vec<u8> = (0..GROUPS).flat_map(|group| read(&volume, begin(group))).collect();
        assert_eq!(Digest::of(&begins).hex(), known, "{mib} MiB at {sector}");
        let zeros = |group| geometry.offset(group, 64)..geometry.offset(group, geometry.group_len(group));
        for group in 0..GROUPS {
            assert_eq!(volume.image.slice(zeros(group)).extents().len(), 1);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_two_files_share_a_block(files in prop::collection::vec(0u64..40_000, 0..12), blocks in 76_800u64..200_000) {
        let geometry = Geometry::new(blocks * BLOCK, 4096).unwrap();
        let mut room = Room::new(&geometry, 24);
        let mut taken: Vec<Range<u64>> = Vec::new();
        for blocks in files {
            let left = room.left();
            let runs = room.take(blocks.min(left));
            prop_assert_eq!(runs.iter().map(|run| u64::from(run.len)).sum::<u64>(), blocks.min(left));
            prop_assert_eq!(room.left(), left - blocks.min(left));
            for run in &runs {
                prop_assert!(run.len > 0 && run.agbno >= geometry.fixed_end(run.group));
                prop_assert!(run.agbno + run.len <= geometry.files_end(run.group));
                let start = geometry.offset(run.group, run.agbno);
                taken.push(start..start + u64::from(run.len) * BLOCK);
            }
        }
        taken.sort_by_key(|range| range.start);
        prop_assert!(taken.windows(2).all(|two| two[0].end <= two[1].start));
    }

    #[test]
    fn any_tree_is_read_back(
        files in prop::collection::vec(("[a-c]{1,2}(/[a-z0-9 é]{0,20}){0,2}", 0u64..20_000, 0u16..0o10000), 0..30),
        sector in prop::sample::select(vec![512u32, 4096]),
        more in 0u64..1000,
    ) {
        let mut tree = FileTree::new();
        for (path, len, mode) in &files {
            let fill = path.bytes().fold(1u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
            let _ = tree.insert(path, Node::file(*mode, VirtualFile::repeat(vec![fill, 1, 2], *len / 3)));
        }
        let options = options(SIZE_MIN + more * u64::from(sector), sector);
        let volume = match lay_out(&tree, &options) {
            Ok(volume) => volume,
            Err(XfsError::Entries { .. }) => return Ok(()),
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        prop_assert_eq!(volume.image.len(), options.size);
        prop_assert_eq!(parse(&volume), expected(&tree));
        for (path, ranges) in &volume.extents {
            let bytes: Vec<u8> = ranges.iter().flat_map(|range| read(&volume, range.clone())).collect();
            prop_assert_eq!(&bytes, &tree.get(path).unwrap().contents().unwrap().read_all(&NoBlobs).unwrap());
        }
    }
}
