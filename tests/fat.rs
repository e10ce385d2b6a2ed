//! FAT volumes against other people's programs: `fsck.vfat` finds nothing wrong with them, mtools reads every file back.
//!
//! Debian packages: dosfstools, mtools.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use image_factory::format::fat::{FatError, Format, Options, Volume, lay_out};
use image_factory::format::tree::{FileTree, Node};
use image_factory::types::Digest;
use image_factory::virtual_file::{Extent, ReadBlob, ReadError, VirtualFile};
use proptest::prelude::*;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

/// No blob at all: all test contents are inline.
struct NoBlobs;

impl ReadBlob for NoBlobs {
    fn read(&self, digest: &Digest, _: Range<u64>) -> Result<Bytes, ReadError> {
        Err(ReadError::Missing(*digest))
    }
}

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

/// Bytes that differ from file to file and place to place.
fn contents(seed: u64, len: u64) -> VirtualFile {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(len as usize + 8);
    while (bytes.len() as u64) < len {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        bytes.extend_from_slice(&(state ^ state >> 29).to_le_bytes());
    }
    bytes.truncate(len as usize);
    VirtualFile::inline(bytes)
}

fn tree<P: AsRef<str>>(files: impl IntoIterator<Item = (P, u64)>) -> FileTree {
    let mut tree = FileTree::new();
    for (seed, (path, len)) in files.into_iter().enumerate() {
        tree.insert(path.as_ref(), Node::file(0o644, contents(seed as u64, len))).unwrap();
    }
    tree
}

/// What an ISO's image and a disk's partition hold, and names of every kind.
fn sample() -> FileTree {
    let mut tree = tree([
        ("EFI/BOOT/BOOTX64.EFI", 101_000),
        ("EFI/Linux/Talos-v1.13.2.efi", 3_000_003),
        ("EFI/Linux/Talos-v1.13.2~2.efi", 4096),
        ("loader/loader.conf", 57),
        ("loader/keys/auto/PK.auth", 2000),
        ("loader/keys/auto/KEK.auth", 2048),
        ("loader/keys/auto/db.auth", 2049),
        ("names/empty", 0),
        ("names/EMPTY.TXT", 0),
        ("names/.hidden", 1),
        ("names/two.dots.here", 2),
        ("names/with space and +,;=[]", 3),
        ("names/тест-файл.текст", 4),
        ("names/zażółć gęślą jaźń", 5),
        ("names/a/b/c/d/e/f", 6),
    ]);
    let long = format!("names/{}", "long name ".repeat(25) + "12345");
    tree.insert(&long, Node::file(0o644, contents(99, 700))).unwrap();
    // Exactly as long as entries of long names are: no end mark.
    tree.insert("names/thirteen char", Node::file(0o644, contents(98, 512))).unwrap();
    tree.insert("names/twenty-six characters long", Node::file(0o644, contents(97, 511))).unwrap();
    tree.insert("loader/random-seed", Node::file(0o444, VirtualFile::zeros(32))).unwrap();
    tree.insert("empty directory", Node::directory(0o755)).unwrap();
    tree
}

/// A volume in a file, with a folder beside it.
struct Written {
    folder: TempDir,
    image: PathBuf,
}

fn write(volume: &Volume) -> Written {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    let file = File::create(&image).unwrap();
    file.set_len(volume.image.len()).unwrap();
    let mut at = 0;
    for extent in volume.image.extents() {
        let len = extent.len();
        // The image is a sparse file: zeros are left out.
        if !matches!(extent, Extent::Repeat { unit, .. } if unit[..] == [0]) {
            let bytes = volume.image.slice(at..at + len).read_all(&NoBlobs).unwrap();
            file.write_all_at(&bytes, at).unwrap();
        }
        at += len;
    }
    assert_eq!(at, volume.image.len());
    Written { folder, image }
}

fn run(tool: &str, arguments: &[&str], image: &Path) -> String {
    let mut command = Command::new(tool);
    command.args(arguments).env("TZ", "UTC").env("LC_ALL", "C.UTF-8").env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
    let output = command.output().unwrap_or_else(|error| panic!("{tool}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && err.is_empty(), "{tool} {arguments:?} {}: {out}{err}", image.display());
    out.into_owned()
}

/// Paths with contents (`None`: a directory) below a folder.
fn found(root: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut all = BTreeMap::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            all.insert(name, path.is_file().then(|| fs::read(&path).unwrap()));
            if path.is_dir() {
                todo.push(path);
            }
        }
    }
    all
}

/// Lets both programs check a volume that was made of `tree`.
fn check(tree: &FileTree, options: &Options<'_>) -> Volume {
    let volume = lay_out(tree, options).unwrap();
    let written = write(&volume);
    let image = written.image.to_str().unwrap();
    let report = run("fsck.vfat", &["-n", "-v", image], &written.image);
    for wrong in ["differ", "wrong", "bad", "invalid", "Perhaps", "Reclaim", "Free cluster summary", "Dirty"] {
        assert!(!report.contains(wrong), "{report}");
    }
    assert!(report.contains(&format!("/{} clusters", volume.clusters)), "{report}");
    let out = written.folder.path().join("out");
    fs::create_dir(&out).unwrap();
    if !tree.is_empty() {
        run("mcopy", &["-s", "-n", "-Q", "-i", image, "::*", out.to_str().unwrap()], &written.image);
    }
    let read = |file: &VirtualFile| file.read_all(&NoBlobs).unwrap().to_vec();
    let expected: BTreeMap<String, Option<Vec<u8>>> = tree
        .iter()
        .map(|(path, node)| (String::from_utf8(path.to_vec()).unwrap(), node.contents().map(read)))
        .collect();
    let found = found(&out);
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (path, contents) in &expected {
        assert!(found[path] == *contents, "{path}: {:?}", found[path].as_ref().map(Vec::len));
        let Some(contents) = contents.as_ref().filter(|contents| !contents.is_empty()) else { continue };
        let at = volume.offsets[path];
        assert_eq!(at % u64::from(options.alignment), 0, "{path}");
        assert!(read(&volume.image.slice(at..at + contents.len() as u64)) == *contents, "{path} at {at}");
    }
    volume
}

#[test]
fn volumes_of_all_shapes_are_read() {
    let tree = sample();
    for (mib, sector, format, clusters) in [
        (8, 512, Format::Fat16, None),
        (32, 512, Format::Fat16, None),
        (40, 512, Format::Fat16, Some(8)),
        (33, 512, Format::Fat32, None),
        (100, 512, Format::Fat32, Some(1)),
        (100, 512, Format::Fat32, None),
        (140, 512, Format::Fat32, None),
        (268, 512, Format::Fat32, None),
        (2101, 512, Format::Fat32, None),
        (4200, 512, Format::Fat32, Some(64)),
        (100, 4096, Format::Fat16, None),
        (1101, 4096, Format::Fat32, None),
        (2101, 4096, Format::Fat32, None),
        (2101, 4096, Format::Fat32, Some(8)),
        (150, 1024, Format::Fat32, None),
        (150, 2048, Format::Fat32, Some(1)),
    ] {
        println!("{mib} MiB at {sector}");
        let volume = check(&tree, &Options { sectors_per_cluster: clusters, ..options(mib * MIB, sector) });
        assert_eq!(volume.format, format, "{mib} MiB at {sector}");
    }
}

#[test]
fn unaligned_volumes_and_odd_sizes_are_read() {
    let tree = sample();
    for (sectors, alignment) in [(70_001, 1), (70_003, 2048), (70_005, 1 << 20), (9001, 2048), (9003, 1)] {
        check(&tree, &Options { alignment, ..options(sectors * 512, 512) });
    }
}

#[test]
fn attributes_label_and_times_are_seen() {
    let volume = lay_out(&sample(), &options(40 * MIB, 512)).unwrap();
    let written = write(&volume);
    let image = written.image.to_str().unwrap();
    let listing = run("mdir", &["-i", image, "::loader"], &written.image);
    assert!(listing.contains("Volume in drive : is EFI"), "{listing}");
    assert!(listing.contains("Volume Serial Number is 1234-ABCD"), "{listing}");
    let line = listing.lines().find(|line| line.contains("loader.conf")).unwrap();
    assert_eq!(
        line.split_whitespace().collect::<Vec<_>>(),
        ["LOADER~1", "CON", "57", "2019-06-01", "21:34", "loader.conf"]
    );
    let attributes = run("mattrib", &["-i", image, "::loader/random-seed", "::loader/loader.conf"], &written.image);
    let attributes: Vec<Vec<&str>> = attributes.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(attributes, [["A", "R", "::/loader/random-seed"].as_slice(), &["A", "::/loader/loader.conf"]]);
}

#[test]
fn others_can_write_into_it() {
    for (mib, sector) in [(33, 512), (20, 512), (1101, 4096)] {
        let volume = lay_out(&sample(), &options(mib * MIB, sector)).unwrap();
        let written = write(&volume);
        let image = written.image.to_str().unwrap();
        let file = written.folder.path().join("A new file.bin");
        fs::write(&file, contents(5, 3_000_001).read_all(&NoBlobs).unwrap()).unwrap();
        run("mcopy", &["-i", image, file.to_str().unwrap(), "::loader/keys"], &written.image);
        run("mdel", &["-i", image, "::EFI/Linux/Talos-v1.13.2.efi"], &written.image);
        run("fsck.vfat", &["-n", image], &written.image);
        let copy = written.folder.path().join("copy");
        run("mcopy", &["-i", image, "::loader/keys/A new file.bin", copy.to_str().unwrap()], &written.image);
        assert!(fs::read(copy).unwrap() == fs::read(file).unwrap());
    }
}

#[test]
fn many_files_are_read() {
    let names = (0..3000).map(|number| (format!("many/the same beginning of {number}.txt"), number % 5 * 300));
    let short = (0..500).map(|number| (format!("FILE{number}.BIN"), 1));
    check(&tree(names.chain(short)), &options(64 * MIB, 512));
    // All entries that FAT16's root has, one of them the label.
    let full = |count: u64| tree((0..count).map(|number| (format!("F{number}"), number)));
    check(&full(511), &options(16 * MIB, 512));
    assert!(matches!(lay_out(&full(512), &options(16 * MIB, 512)), Err(FatError::Entries { entries: 513, .. })));
}

#[test]
fn full_and_nearly_full_volumes_are_read() {
    for (size, sector) in [(33 * MIB, 512), (8 * MIB, 512), (18 * MIB, 4096)] {
        let options = Options { alignment: 512, ..options(size, sector) };
        let empty = check(&FileTree::new(), &options);
        let cluster = u64::from(empty.cluster_size);
        let root = if empty.format == Format::Fat32 { cluster } else { 0 };
        let room = empty.clusters * cluster - root;
        for len in [room, room - 1, room - cluster, room - 3 * cluster + 1] {
            check(&tree([("FULL.BIN", len)]), &options);
        }
        assert!(matches!(lay_out(&tree([("FULL.BIN", room + 1)]), &options), Err(FatError::Full { .. })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_trees_are_read(
        files in prop::collection::vec(("[a-d]{1,2}(/[a-z0-9é.+ ]{0,30}[a-z]){1,2}", 0u64..60_000), 1..40),
        sector in prop::sample::select(vec![512u32, 4096]),
        alignment in prop::sample::select(vec![1u32, 2048]),
        per_cluster in prop::sample::select(vec![None, Some(1), Some(2), Some(8)]),
        fat32: bool,
    ) {
        let mut tree = FileTree::new();
        for (seed, (path, len)) in files.iter().enumerate() {
            let _ = tree.insert(path, Node::file(0o644, contents(seed as u64, *len)));
        }
        let clusters = if fat32 { 67_000 } else { 20_000 };
        let size = clusters * u64::from(sector) * u64::from(per_cluster.unwrap_or(1));
        let options = Options { alignment, sectors_per_cluster: per_cluster, ..options(size, sector) };
        match lay_out(&tree, &options) {
            Err(FatError::Clash { .. } | FatError::Name { .. }) => {}
            _ => {
                let volume = check(&tree, &options);
                prop_assert_eq!(volume.format, if fat32 { Format::Fat32 } else { Format::Fat16 });
            }
        }
    }
}
