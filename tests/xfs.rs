//! XFS volumes against other people's programs: `xfs_repair` finds nothing wrong with them, `xfs_db` reads what was meant,
//! GRUB reads every file back, Linux mounts them and writes into them.
//!
//! Debian packages: grub-common, xfsprogs; and, unpacked by `conformance prepare`, xfsprogs of Debian 13.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use bytes::Bytes;
use image_factory::format::tree::{FileTree, Node};
use image_factory::format::xfs::{Options, SIZE_MIN, Volume, XfsError, lay_out};
use image_factory::types::Digest;
use image_factory::virtual_file::{Extent, ReadBlob, ReadError, VirtualFile};
use proptest::prelude::*;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
/// The UUID of "BOOT".
const UUID: u128 = 0x24c73076_4092_85dd_9d98_686a2dbf6d81;

/// No blob at all: all test contents are inline.
struct NoBlobs;

impl ReadBlob for NoBlobs {
    fn read(&self, digest: &Digest, _: Range<u64>) -> Result<Bytes, ReadError> {
        Err(ReadError::Missing(*digest))
    }
}

fn options(size: u64, sector_size: u32) -> Options<'static> {
    Options { size, sector_size, label: "BOOT", uuid: UUID.to_be_bytes(), mtime: 1_559_424_892 }
}

/// Bytes that differ from file to file and place to place; zeros in the middle of long ones.
fn contents(seed: u64, len: u64) -> VirtualFile {
    let mut state = seed;
    let end = len.min(MIB);
    let mut bytes = Vec::with_capacity(end as usize + 8);
    while (bytes.len() as u64) < end {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        bytes.extend_from_slice(&(state ^ state >> 29).to_le_bytes());
    }
    bytes.truncate(end as usize);
    let ends = VirtualFile::inline(bytes);
    if len == end {
        return ends;
    }
    VirtualFile::concat([
        ends.clone(),
        VirtualFile::zeros(len.saturating_sub(2 * MIB)),
        ends.slice(0..MIB.min(len - MIB)),
    ])
}

fn tree<P: AsRef<str>>(files: impl IntoIterator<Item = (P, u64)>) -> FileTree {
    let mut tree = FileTree::new();
    for (seed, (path, len)) in files.into_iter().enumerate() {
        tree.insert(path.as_ref(), Node::file(0o644, contents(seed as u64, len))).unwrap();
    }
    tree
}

/// What a disk's partition holds.
fn boot() -> FileTree {
    let mut tree = tree([("A/vmlinuz", 11_737_024), ("A/initramfs.xz", 16_886_382)]);
    tree.insert("grub", Node::directory(0o700)).unwrap();
    tree.insert("grub/grub.cfg", Node::file(0o600, contents(7, 829))).unwrap();
    tree
}

/// Files and directories of every kind.
fn sample() -> FileTree {
    let mut tree = boot();
    for (index, len) in [0, 1, 4095, 4096, 4097, 100_000, 3 * MIB + 17].into_iter().enumerate() {
        tree.insert(format!("lengths/{len}"), Node::file(0o400 + index as u16, contents(index as u64, len))).unwrap();
    }
    for name in [".hidden", "two.dots.here", "with space and +,;=[]", "тест-файл.текст", "zażółć gęślą jaźń"]
    {
        tree.insert(format!("names/{name}"), Node::file(0o644, contents(3, 5))).unwrap();
    }
    tree.insert(format!("long/{}", "long name ".repeat(25) + "12345"), Node::file(0o644, contents(99, 700))).unwrap();
    tree.insert("a/b/c/d/e/f", Node::file(0o755, contents(98, 6))).unwrap();
    tree.insert("empty directory", Node::directory(0o1777)).unwrap();
    tree
}

/// A volume in a file, with a folder beside it.
struct Written {
    folder: TempDir,
    image: PathBuf,
}

impl Written {
    fn path(&self) -> &str {
        self.image.to_str().unwrap()
    }
}

/// Writes a file that is sparse: zeros are left out.
fn write(contents: &VirtualFile, path: &Path) {
    let file = File::create(path).unwrap();
    file.set_len(contents.len()).unwrap();
    let mut at = 0;
    for extent in contents.extents() {
        let len = extent.len();
        if !matches!(extent, Extent::Repeat { unit, .. } if unit[..] == [0]) {
            let bytes = contents.slice(at..at + len).read_all(&NoBlobs).unwrap();
            file.write_all_at(&bytes, at).unwrap();
        }
        at += len;
    }
    assert_eq!(at, contents.len());
}

fn written(volume: &Volume) -> Written {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    write(&volume.image, &image);
    Written { folder, image }
}

/// What a program prints; it must succeed.
fn run(command: &mut Command) -> String {
    command.env("TZ", "UTC").env("LC_ALL", "C.UTF-8").env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {} {out}{err}", output.status);
    format!("{out}{err}")
}

/// `xfs_repair` of the unpacked packages (6.13), started through their C library.
static NEWER: LazyLock<Vec<PathBuf>> = LazyLock::new(|| {
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"));
    let packages = cache.join("image-factory-conformance/packages");
    let lock = fs::read(packages.join("lock.json")).expect("packages unpacked by `conformance prepare`");
    let lock: serde_json::Value = serde_json::from_slice(&lock).unwrap();
    let folder = |name: &str| packages.join(lock["packages"][name]["sha256"].as_str().expect(name));
    let libraries = |name| folder(name).join("usr/lib/x86_64-linux-gnu");
    let path = ["libc6:amd64", "libblkid1:amd64", "liburcu8t64:amd64", "libuuid1:amd64"].map(libraries);
    vec![
        path[0].join("ld-linux-x86-64.so.2"),
        "--library-path".into(),
        std::env::join_paths(&path).unwrap().into(),
        folder("xfsprogs:amd64").join("usr/sbin/xfs_repair"),
    ]
});

/// Lets `xfs_repair`, the machine's (6.1 on Debian 12) and a newer one, check an image: they must have nothing to say but
/// what they are doing, and that they do not know the sectors of the disk below.
fn repair(image: &str) {
    let mut newer = Command::new(&NEWER[0]);
    newer.args(&NEWER[1..]);
    for mut command in [Command::new("xfs_repair"), newer] {
        let report = run(command.args(["-n", "-f", image]));
        let doing = ["Phase ", "        - ", "No modify flag set, skipping "];
        let host = [
            "Cannot get host filesystem geometry.",
            "Repair may fail if there is a sector size mismatch between",
            "the image and the host filesystem.",
        ];
        let strange = |line: &&str| !doing.iter().any(|doing| line.starts_with(doing)) && !host.contains(line);
        assert_eq!(report.lines().filter(strange).collect::<Vec<_>>(), [""; 0], "{report}");
        assert!(report.contains("Phase 7 - verify link counts..."), "{report}");
    }
}

/// What `xfs_db` prints for commands.
fn db(image: &str, commands: &[&str]) -> String {
    let mut command = Command::new("xfs_db");
    command.args(["-r", "-f"]);
    for text in commands {
        command.args(["-c", text]);
    }
    run(command.arg(image))
}

/// Compares a file with its contents, by GRUB; `scratch` is a path to write them to.
fn grub_reads(image: &str, path: &str, contents: &VirtualFile, scratch: &Path) {
    write(contents, scratch);
    let inside = format!("(loop0)/{path}");
    let said = run(Command::new("grub-fstest").args([image, "cmp", &inside]).arg(scratch));
    assert_eq!(said, "", "{path}");
}

/// Lets all programs check a volume that was made of `tree`; gives it and its image.
fn check(tree: &FileTree, options: &Options<'_>) -> (Volume, Written) {
    let volume = lay_out(tree, options).unwrap();
    assert_eq!(volume.image.len(), options.size);
    let written = written(&volume);
    let image = written.path();
    repair(image);
    let scratch = written.folder.path().join("file");
    for (path, node) in tree.iter() {
        let path = str::from_utf8(path).unwrap();
        let Some(contents) = node.contents() else { continue };
        grub_reads(image, path, contents, &scratch);
        let ranges = volume.extents.get(path).map_or(&[][..], |ranges| ranges);
        let found = VirtualFile::concat(ranges.iter().map(|range| volume.image.slice(range.clone())));
        assert_eq!(found, *contents, "{path}");
    }
    (volume, written)
}

#[test]
fn volumes_of_all_shapes_are_read() {
    for (mib, sector) in [(1000, 512), (1000, 4096), (2000, 512), (2000, 4096), (300, 512), (300, 4096)] {
        println!("{mib} MiB at {sector}");
        check(&sample(), &options(mib * MIB, sector));
        check(&boot(), &options(mib * MIB, sector));
    }
}

#[test]
fn grub_tells_files_apart() {
    let written = written(&lay_out(&boot(), &options(SIZE_MIN, 512)).unwrap());
    let scratch = written.folder.path().join("file");
    let original = contents(0, 11_737_024);
    let changed = VirtualFile::concat([original.slice(0..10_000_000), VirtualFile::zeros(1_737_024)]);
    for (expected, same) in [(original.clone(), true), (changed, false), (original.slice(0..11_737_023), false)] {
        write(&expected, &scratch);
        let mut command = Command::new("grub-fstest");
        let output = command.args([written.path(), "cmp", "(loop0)/A/vmlinuz"]).arg(&scratch).output().unwrap();
        assert_eq!(output.status.success(), same);
    }
}

#[test]
fn odd_and_large_sizes_are_read() {
    for size in [SIZE_MIN + 4096, SIZE_MIN + 2 * 4096, SIZE_MIN + 3 * 4096, SIZE_MIN + 512, SIZE_MIN + 7 * 512] {
        check(&boot(), &options(size, 512));
    }
    for (size, sector) in [(SIZE_MIN + 3 * 4096, 4096), (1 << 34, 512), ((1 << 40) + 4096, 4096)] {
        check(&boot(), &options(size, sector));
    }
}

/// Fields of the superblock that features which we leave out change, what the files take, and the checksum.
const DIFFERENT: &[&str] =
    &["versionnum", "features_ro_compat", "features_incompat", "logstart", "icount", "ifree", "fdblocks", "crc"];

#[test]
fn superblocks_are_the_references() {
    for (mib, golden) in [
        (1000, include_str!("golden/layouts/disk/THREE-v1.9.5-metal-amd64.qcow2.json")),
        (2000, include_str!("golden/layouts/disk/THREE-v1.13.2-metal-amd64.qcow2.json")),
    ] {
        let golden: serde_json::Value = serde_json::from_str(golden).unwrap();
        let partition = &golden["partitions"][2];
        assert_eq!((partition["name"].as_str(), partition["bytes"].as_u64()), (Some("BOOT"), Some(mib * MIB)));
        let of = |line: &str| line.split(" = ").next().unwrap().to_owned();
        let fields = |lines: Vec<&str>| -> Vec<String> {
            lines.into_iter().filter(|line| !DIFFERENT.contains(&&of(line)[..])).map(str::to_owned).collect()
        };
        let expected = partition["xfs"]["superblock"].as_array().unwrap().iter().map(|line| line.as_str().unwrap());
        let written = written(&lay_out(&boot(), &options(mib * MIB, 512)).unwrap());
        let found = db(written.path(), &["sb 0", "p"]);
        assert!(found.contains("crc = ") && found.contains(" (correct)"), "{found}");
        assert_eq!(fields(found.lines().collect()), fields(expected.collect()));
        // One chunk of inodes; besides files the three of the volume itself.
        assert!(found.contains("\nicount = 64\nifree = 56\n"), "{found}");
    }
}

/// All that `xfs_db` shows of an empty volume is as `mkfs.xfs` has it, but times, checksums and numbers of changes.
#[test]
fn an_empty_volume_is_that_of_mkfs() {
    for (mib, sector) in [(1000, 512), (2000, 512), (1000, 4096), (2000, 4096), (300, 512), (301, 4096)] {
        let ours = written(&lay_out(&FileTree::new(), &options(mib * MIB, sector)).unwrap());
        let theirs = ours.folder.path().join("theirs");
        let file = format!("file,name={},size={mib}m", theirs.display());
        let sector = format!("size={sector}");
        let uuid = format!("uuid={}", "24c73076-4092-85dd-9d98-686a2dbf6d81");
        run(Command::new("mkfs.xfs").args(["-q", "-f", "-L", "BOOT", "-d", &file, "-s", &sector]).args([
            "-m",
            &format!("{uuid},crc=1,finobt=1,inobtcount=1,reflink=1,rmapbt=0,bigtime=1"),
            "-i",
            "sparse=1,nrext64=0,maxpct=25",
        ]));
        let mut commands = vec!["sb 0".to_owned(), "p".to_owned()];
        for group in 0..4 {
            for header in ["agf", "agi", "agfl"] {
                commands.extend([format!("{header} {group}"), "p".to_owned()]);
            }
            for (header, root) in
                [("agf", "bnoroot"), ("agf", "cntroot"), ("agf", "refcntroot"), ("agi", "root"), ("agi", "free_root")]
            {
                commands.extend([format!("{header} {group}"), format!("addr {root}"), "p".to_owned()]);
            }
        }
        for inode in 128..192 {
            commands.extend([format!("inode {inode}"), "p".to_owned()]);
        }
        let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
        let shown = |image: &str| -> Vec<String> {
            let text = db(image, &commands);
            assert!(!text.contains("incorrect"), "{text}");
            let times = |line: &&str| {
                ![
                    "crc = ",
                    "v3.crtime.",
                    "core.atime",
                    "core.mtime",
                    "core.ctime",
                    "v3.crc",
                    "core.gen",
                    "v3.change_count",
                ]
                .iter()
                .any(|time| line.starts_with(time))
            };
            text.lines().filter(times).map(str::to_owned).collect()
        };
        let (ours, theirs) = (shown(ours.path()), shown(theirs.to_str().unwrap()));
        assert!(ours.len() > 2000, "{}", ours.len());
        for (line, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            assert_eq!(ours, theirs, "line {line}");
        }
        assert_eq!(ours.len(), theirs.len());
    }
}

#[test]
fn big_files_go_across_groups() {
    let extents = |volume: &Volume, path: &str| volume.extents[path].len();
    for sector in [512, 4096] {
        let files = [("A/initramfs.xz", 400 * MIB + 5), ("A/vmlinuz", 60 * MIB), ("grub/grub.cfg", 829)];
        let (volume, _) = check(&tree(files), &options(1000 * MIB, sector));
        assert_eq!((extents(&volume, "A/initramfs.xz"), extents(&volume, "A/vmlinuz")), (2, 1));
        let volume = lay_out(&tree(files), &options(2000 * MIB, sector)).unwrap();
        assert_eq!(extents(&volume, "A/initramfs.xz"), 1);
    }
    let (volume, written) =
        check(&tree([("A/initramfs.xz", 700 * MIB), ("A/vmlinuz", 190 * MIB)]), &options(1000 * MIB, 512));
    assert_eq!(extents(&volume, "A/initramfs.xz"), 3);
    // What xfs_db says of it is what we say of it.
    let map = db(written.path(), &["inode 132", "bmap"]);
    let starts: Vec<u64> = map.lines().map(|line| line.split_whitespace().nth(4).unwrap().parse().unwrap()).collect();
    let number = |start: u64| ((start / (64_000 * 4096)) << 16) | (start / 4096 % 64_000);
    assert_eq!(starts, volume.extents["A/initramfs.xz"].iter().map(|range| number(range.start)).collect::<Vec<_>>());
    // A file with more than 8 GiB in one group.
    let volume = lay_out(&tree([("big", 20 << 30)]), &options(100 << 30, 512)).unwrap();
    assert_eq!(extents(&volume, "big"), 3);
    repair(self::written(&volume).path());
}

#[test]
fn full_volumes_are_read() {
    for (mib, sector, room) in
        [(1000, 512, 904), (1000, 4096, 904), (2000, 512, 1873), (2000, 4096, 1873), (300, 512, 226)]
    {
        let full = |len| tree([("A/full", len)]);
        let error = lay_out(&full(1 << 40), &options(mib * MIB, sector)).unwrap_err();
        let XfsError::Full { available, .. } = error else { panic!("{error}") };
        assert_eq!(available / MIB, room, "{mib} MiB at {sector}");
        let volume = lay_out(&full(available), &options(mib * MIB, sector)).unwrap();
        assert_eq!(volume.extents["A/full"].len(), 4);
        let written = written(&volume);
        repair(written.path());
        mount(&written, "rm A/full; sync; dd if=/dev/zero of=A/new bs=64k count=16 status=none");
        assert!(matches!(lay_out(&full(available + 1), &options(mib * MIB, sector)), Err(XfsError::Full { .. })));
    }
}

/// Has Linux mount a volume read-write, do what a script says in its root, and unmount it; `xfs_repair` must be content
/// afterwards. Does nothing where Linux has no XFS or the test may not mount.
fn mount(written: &Written, script: &str) {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default().lines().any(|line| line.trim() == "xfs");
    if !known || fs::metadata("/proc/self").unwrap().uid() != 0 {
        println!("not mounted: that needs root and a kernel with XFS");
        return;
    }
    let point = written.folder.path().join("point");
    fs::create_dir_all(&point).unwrap();
    // A name space of its own: nothing stays mounted if the script fails.
    let script = format!("mount -t xfs -o loop \"$0\" \"$1\"; (cd \"$1\"; {script}); umount \"$1\"");
    run(Command::new("unshare").args(["-m", "sh", "-eu", "-c", &script]).args([&written.image, &point]));
    repair(written.path());
}

#[test]
fn linux_reads_and_writes() {
    for (mib, sector) in [(1000, 512), (1000, 4096), (2000, 512), (2000, 4096), (300, 512), (300, 4096)] {
        let tree = sample();
        let written = written(&lay_out(&tree, &options(mib * MIB, sector)).unwrap());
        let expected = written.folder.path().join("expected");
        let mut listing = BTreeMap::new();
        for (path, node) in tree.iter() {
            let path = str::from_utf8(path).unwrap();
            let place = expected.join(path);
            match node.contents() {
                Some(contents) => write(contents, &place),
                None => fs::create_dir_all(&place).unwrap(),
            }
            let kind = if node.is_directory() { "d" } else { "f" };
            listing.insert(path.to_owned(), format!("{kind} {:o} 0:0 1559424892.0000000000", node.mode));
        }
        let listing = listing.iter().map(|(path, line)| format!("{line} {path}\n")).collect::<String>();
        let list = written.folder.path().join("list");
        fs::write(&list, listing).unwrap();
        let (expected, list) = (expected.display(), list.display());
        mount(
            &written,
            &format!(
                "find . -mindepth 1 -printf '%y %m %U:%G %T@ %P\n' | LC_ALL=C sort -k 5 > {list}.found
                LC_ALL=C sort -k 5 {list} | diff - {list}.found
                diff -r {expected} .
                test \"$(stat -c %h . a 'empty directory' A/vmlinuz)\" = \"$(printf '9\n3\n2\n1')\"
                mkdir B && cp A/* B && cp --reflink=always B/vmlinuz B/linked && sync
                rm -r A && mv B A && mkdir many
                for number in $(seq 300); do echo $number > many/$number; done
                echo changed >> grub/grub.cfg && truncate -s 1000000 lengths/1
                sync && rm -r names"
            ),
        );
    }
}

#[test]
fn many_files_are_read() {
    // Chunks of inodes exactly full, one more, and several.
    for count in [61u64, 62, 300] {
        let files = (0..count).map(|number| (format!("{}/{}", number / 25, number % 25), number % 3 * 3000));
        let directories = count.div_ceil(25);
        let mut tree = tree(files.take((count - directories) as usize));
        while (tree.len() as u64) < count {
            tree.insert(format!("d{}", tree.len()), Node::directory(0o755)).unwrap();
        }
        assert_eq!(tree.len() as u64, count);
        check(&tree, &options(SIZE_MIN, 512));
    }
    // As many as there can be.
    let most = 252 * 64 - 3;
    let digit = |number: usize| char::from(b"0123456789abcdefghijklmnopqrstuvwxyz"[number % 36]);
    let mut all = FileTree::new();
    for number in 0.. {
        let path = format!("{}/{}/{}", digit(number / 36 / 36), digit(number / 36), digit(number));
        if all.len() == most {
            let _ = all.insert(&path, Node::file(0o644, VirtualFile::empty()));
            break;
        }
        all.insert(&path, Node::file(0o644, VirtualFile::empty())).unwrap();
    }
    assert!(matches!(lay_out(&all, &options(SIZE_MIN, 512)), Err(XfsError::Inodes { .. })));
    while all.len() > most {
        let last = all.iter().last().unwrap().0.to_vec();
        all.remove(last);
    }
    let written = written(&lay_out(&all, &options(SIZE_MIN, 4096)).unwrap());
    repair(written.path());
    mount(&written, "test \"$(find . | wc -l)\" = 16126; echo more > more");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_trees_are_read(
        files in prop::collection::vec(("[a-d]{1,2}(/[a-z0-9é.+ ]{0,30}[a-z]){1,2}", 0u64..300_000, 0u16..0o10000), 1..30),
        sector in prop::sample::select(vec![512u32, 4096]),
        blocks in 76_800u64..100_000,
        big in 0u64..200 * MIB,
    ) {
        let mut tree = FileTree::new();
        for (seed, (path, len, mode)) in files.iter().enumerate() {
            let _ = tree.insert(path, Node::file(*mode, contents(seed as u64, *len)));
        }
        tree.insert("big", Node::file(0o644, contents(77, big))).unwrap();
        let options = options(blocks * 4096, sector);
        match lay_out(&tree, &options) {
            Err(XfsError::Full { needed, available, .. }) => prop_assert!(needed > available),
            Err(XfsError::Entries { needed, .. }) => prop_assert!(needed > 336),
            _ => drop(check(&tree, &options)),
        }
    }
}
