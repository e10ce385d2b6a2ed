//! Squashfs images against the format's own tools: `unsquashfs` reads ours, we read those of `mksquashfs`.
//!
//! Debian packages: squashfs-tools, python3. Devices and labels are made only as root, so these tests want root, as CI is.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use image_factory::format::squashfs::{Compression, Limits, Options, Squashfs, write};
use image_factory::format::tree::{FileTree, Kind, Node};
use image_factory::types::Digest;
use image_factory::virtual_file::{ReadBlob, ReadError, VirtualFile};

/// No blob at all: all test contents are inline.
struct NoBlobs;

impl ReadBlob for NoBlobs {
    fn read(&self, digest: &Digest, _: Range<u64>) -> Result<Bytes, ReadError> {
        Err(ReadError::Missing(*digest))
    }
}

/// Runs a tool to its end; its standard output. What it complains about fails the test.
fn run(tool: &str, arguments: &[&OsStr]) -> String {
    let output = Command::new(tool).args(arguments).env("TZ", "UTC").output().unwrap_or_else(|e| panic!("{tool}: {e}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{tool} {arguments:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn text(size: usize) -> VirtualFile {
    let line = |number: usize| format!("line {number} of a text that compresses {}\n", number * number % 9973);
    let mut all: String = (0..size / 20 + 1).map(line).collect();
    all.truncate(size);
    VirtualFile::inline(all)
}

fn sample() -> FileTree {
    let mut tree = FileTree::new();
    let mut file = |path: &str, mode, contents| tree.insert(path, Node::file(mode, contents)).unwrap();
    file("usr/local/bin/large", 0o755, text(1_000_000));
    file("usr/local/bin/block", 0o4755, text(128 << 10));
    file("usr/local/bin/small", 0o644, text(100));
    file("usr/local/bin/copy", 0o600, text(100));
    file("etc/empty", 0o600, VirtualFile::empty());
    file("etc/zeros", 0o644, VirtualFile::zeros(600_000));
    file("etc/holes", 0o644, VirtualFile::concat([text(7), VirtualFile::zeros(400_000), text(200_000)]));
    tree.insert("usr/lib", Node::directory(0o1777).with_selinux("system_u:object_r:lib_t:s0")).unwrap();
    tree.insert("usr/lib/a", Node::file(0o644, text(9)).with_selinux("system_u:object_r:bin_t:s0")).unwrap();
    tree.insert("usr/lib/b", Node::symlink("a")).unwrap();
    tree.link("usr/local/bin/large", "hard").unwrap();
    tree.insert("dev/null", Node::new(0o666, Kind::CharDevice { major: 1, minor: 3 })).unwrap();
    tree.insert("dev/disk", Node::new(0o660, Kind::BlockDevice { major: 259, minor: 1003 })).unwrap();
    tree.insert("dev/pipe", Node::new(0o600, Kind::Fifo)).unwrap();
    for number in 0..5000 {
        tree.insert(format!("many/entry-with-a-longer-name-{number}"), Node::file(0o644, text(3))).unwrap();
    }
    tree.set_root(0o711, None);
    tree
}

fn write_image(tree: &FileTree, compression: Compression, path: &Path) {
    let options = Options { compression, ..Options::default() };
    write(tree, &options, &NoBlobs, &mut File::create(path).unwrap()).unwrap();
}

/// What a folder holds, in the words that a tree can be put into: mode with type, contents or target, device.
fn folder(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut all = BTreeMap::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        let what = if kind.is_symlink() {
            fs::read_link(&path).unwrap().to_string_lossy().into_owned()
        } else if kind.is_file() {
            Digest::of(&fs::read(&path).unwrap()).hex()
        } else if kind.is_char_device() || kind.is_block_device() {
            let device = meta.rdev();
            format!("{},{}", (device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00))
        } else {
            String::new()
        };
        if kind.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let links = if kind.is_dir() { 0 } else { meta.nlink() };
        assert_eq!((meta.uid(), meta.gid()), (0, 0));
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        all.insert(name, format!("{:o} {links} {what}", meta.mode()));
    }
    all
}

/// The same of a tree.
fn described(tree: &FileTree) -> BTreeMap<Vec<u8>, String> {
    let root = (&b""[..], tree.root());
    std::iter::once(root)
        .chain(tree.iter())
        .map(|(path, node)| {
            let what = match &node.kind {
                Kind::File(file) => Digest::of(&file.read_all(&NoBlobs).unwrap()).hex(),
                Kind::Symlink(target) => String::from_utf8_lossy(target).into_owned(),
                Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => format!("{major},{minor}"),
                Kind::Directory | Kind::Fifo => String::new(),
            };
            let links = match node.inode {
                _ if node.is_directory() => 0,
                None => 1,
                Some(inode) => tree.iter().filter(|(_, node)| node.inode == Some(inode)).count(),
            };
            (path.to_vec(), format!("{:o} {links} {what}", node.st_mode()))
        })
        .collect()
}

fn assert_same(found: &BTreeMap<Vec<u8>, String>, expected: &BTreeMap<Vec<u8>, String>) {
    for (path, what) in expected {
        assert_eq!(found.get(path), Some(what), "{:?}", String::from_utf8_lossy(path));
    }
    assert_eq!(found.len(), expected.len());
}

/// The label of a file as Linux keeps it.
fn label(path: &Path) -> Option<String> {
    let python = "import os,sys\ntry: print(os.getxattr(sys.argv[1], 'security.selinux', follow_symlinks=False).decode())\nexcept OSError: pass";
    let text = run("python3", &["-c".as_ref(), python.as_ref(), path.as_ref()]);
    (!text.is_empty()).then(|| text.trim_end().to_owned())
}

#[test]
fn unsquashfs_unpacks_what_was_written() {
    let tree = sample();
    for compression in [Compression::DEFAULT, Compression::Xz, Compression::Stored] {
        let scratch = tempfile::tempdir().unwrap();
        let (image, out) = (scratch.path().join("image"), scratch.path().join("out"));
        write_image(&tree, compression, &image);
        run("unsquashfs", &["-q".as_ref(), "-n".as_ref(), "-d".as_ref(), out.as_ref(), image.as_ref()]);
        assert_same(&folder(&out), &described(&tree));
        assert_eq!(fs::metadata(out.join("etc/empty")).unwrap().mtime(), 1_559_424_892);
        assert_eq!(label(&out.join("usr/lib")).as_deref(), Some("system_u:object_r:lib_t:s0"));
        assert_eq!(label(&out.join("usr/lib/a")).as_deref(), Some("system_u:object_r:bin_t:s0"));
        assert_eq!(label(&out.join("etc/empty")), None);
        // The holes are holes.
        assert!(fs::metadata(&image).unwrap().len() < 3_000_000);
    }
}

/// The superblock as a tool says it, against the same tree by `mksquashfs`.
#[test]
fn unsquashfs_says_of_ours_what_it_says_of_mksquashfs() {
    let mut tree = sample();
    // Listings list the sizes of directories, which differ with where runs end: only for long ones.
    tree.remove("many");
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    for (compression, arguments) in [
        (Compression::Zstd { level: 18 }, &["-comp", "zstd", "-Xcompression-level", "18"][..]),
        (Compression::Xz, &["-comp", "xz", "-Xdict-size", "100%"]),
    ] {
        for name in ["ours", "theirs"] {
            let _ = fs::remove_file(path(name));
        }
        let _ = fs::remove_dir_all(path("out"));
        write_image(&tree, compression, &path("ours"));
        run("unsquashfs", &["-q".as_ref(), "-n".as_ref(), "-d".as_ref(), path("out").as_ref(), path("ours").as_ref()]);
        let (out, theirs) = (path("out"), path("theirs"));
        let mut command: Vec<&OsStr> = vec![out.as_ref(), theirs.as_ref()];
        let fixed =
            ["-all-root", "-noappend", "-no-progress", "-quiet", "-mkfs-time", "1559424892", "-all-time", "1559424892"];
        command.extend(fixed.iter().chain(arguments).map(OsStr::new));
        run("mksquashfs", &command);
        let listing = |name: &str| run("unsquashfs", &["-lls".as_ref(), path(name).as_ref()]);
        assert_eq!(listing("ours"), listing("theirs"));
        let superblock = |name: &str| {
            let text = run("unsquashfs", &["-s".as_ref(), path(name).as_ref()]);
            let lines =
                text.lines().filter(|line| !line.contains("superblock on") && !line.contains("Filesystem size"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(superblock("ours"), superblock("theirs"));
        let len = |name: &str| fs::metadata(path(name)).unwrap().len();
        assert!(len("ours") <= len("theirs") + 8192, "{} {}", len("ours"), len("theirs"));
    }
}

#[test]
fn images_of_mksquashfs_are_read() {
    let scratch = tempfile::tempdir().unwrap();
    let folder_path = scratch.path().join("folder");
    fs::create_dir_all(folder_path.join("usr/lib/modules/6.18.0/kernel")).unwrap();
    let put = |path: &str, bytes: &[u8]| {
        let path = folder_path.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
    };
    let large = text(700_001).read_all(&NoBlobs).unwrap();
    put("usr/lib/modules/6.18.0/kernel/loop.ko", &large);
    put("usr/lib/modules/6.18.0/modules.order", b"kernel/loop.ko\n");
    put("empty", b"");
    put("sparse", &[&[0; 500_000][..], b"end"].concat());
    for number in 0..700 {
        put(&format!("many/file-{number}"), format!("{number}").as_bytes());
    }
    symlink("usr/lib", folder_path.join("lib")).unwrap();
    fs::hard_link(folder_path.join("empty"), folder_path.join("hard")).unwrap();
    run("mkfifo", &[folder_path.join("pipe").as_ref()]);
    run("mknod", &[folder_path.join("disk").as_ref(), "b".as_ref(), "259".as_ref(), "1003".as_ref()]);
    let set = "import os,sys\nos.setxattr(sys.argv[1], 'security.selinux', b'system_u:object_r:lib_t:s0\\0')\nos.setxattr(sys.argv[1], 'user.other', b'x')";
    run("python3", &["-c".as_ref(), set.as_ref(), folder_path.join("usr").as_ref()]);
    for arguments in [
        &["-comp", "zstd"][..],
        &["-comp", "xz", "-b", "1M"],
        &["-comp", "xz", "-Xbcj", "x86", "-always-use-fragments"],
        &["-comp", "gzip", "-b", "4096"],
        &["-comp", "zstd", "-no-fragments", "-noI", "-noD", "-noX"],
    ] {
        let image = scratch.path().join("image");
        let mut command: Vec<&OsStr> = vec![folder_path.as_ref(), image.as_ref()];
        command.extend(["-all-root", "-noappend", "-no-progress", "-quiet"].iter().chain(arguments).map(OsStr::new));
        run("mksquashfs", &command);
        let limits = Limits { entries: 1000, bytes: 10 << 20 };
        let mut squashfs = Squashfs::open(File::open(&image).unwrap(), limits).unwrap();
        let tree = squashfs
            .tree("", &mut |_, _, copy| {
                let mut bytes = Vec::new();
                copy(&mut bytes)?;
                Ok(VirtualFile::inline(bytes))
            })
            .unwrap();
        assert_same(&described(&tree), &folder(&folder_path));
        assert_eq!(
            tree.get("usr").unwrap().selinux.as_deref(),
            Some(&b"system_u:object_r:lib_t:s0"[..]),
            "{arguments:?}"
        );
        let module = squashfs.read_file("usr/lib/modules/6.18.0/kernel/loop.ko", 1 << 20).unwrap().unwrap();
        assert_eq!(module, large);
        let modules = squashfs.walk("usr/lib/modules").unwrap();
        assert_eq!(modules.len(), 5);
    }
    let image = scratch.path().join("lz4");
    let command: [&OsStr; 6] = [
        folder_path.as_ref(),
        image.as_ref(),
        "-comp".as_ref(),
        "lz4".as_ref(),
        "-quiet".as_ref(),
        "-no-progress".as_ref(),
    ];
    run("mksquashfs", &command);
    let error = Squashfs::open(File::open(&image).unwrap(), Limits::default()).err().unwrap().to_string();
    assert!(error.contains("compressed with lz4"), "{error}");
}

fn golden() -> Vec<serde_json::Value> {
    let mut text = String::new();
    let file = include_bytes!("golden/extensions/initramfs.jsonl.gz");
    flate2::read::GzDecoder::new(&file[..]).read_to_string(&mut text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The images of the golden extensions list as the reference's do, sizes of directories included.
#[test]
fn golden_extensions_list_alike() {
    use base64::Engine;
    let scratch = tempfile::tempdir().unwrap();
    let image = scratch.path().join("image");
    let mut compared = 0;
    for vector in golden() {
        let Some(entries) = vector["appended_cpio"].as_array() else { continue };
        let minor = vector["version"].as_str().unwrap().split('.').nth(1).unwrap().parse::<u32>().unwrap();
        let firmware = if minor >= 10 { "usr/lib/firmware" } else { "lib/firmware" };
        for entry in entries {
            let Some(listing) = entry["squashfs"].as_array() else { continue };
            let number = entry["name"].as_str().unwrap().strip_suffix(".sqsh").unwrap();
            let extension = &vector["extensions_in_order"][number.parse::<usize>().unwrap()];
            let mut tree = FileTree::new();
            for file in extension.as_array().unwrap() {
                let Some(path) = file["path"].as_str().unwrap().strip_prefix("rootfs/") else { continue };
                let node = match file["data_base64"].as_str() {
                    None => Node::directory(0o755),
                    Some(data) => {
                        let data = base64::engine::general_purpose::STANDARD.decode(data).unwrap();
                        Node::file(0o644, VirtualFile::inline(data))
                    }
                };
                tree.insert(path, node).unwrap();
            }
            tree.split_off(firmware);
            let compression = if minor >= 8 { Compression::DEFAULT } else { Compression::Xz };
            write_image(&tree, compression, &image);
            let ours = run("unsquashfs", &["-lln".as_ref(), image.as_ref()]);
            let ours: Vec<String> = ours
                .lines()
                .map(|line| {
                    let words: Vec<&str> = line.split_whitespace().collect();
                    [&words[..3], &words[5..]].concat().join(" ")
                })
                .collect();
            let theirs: Vec<&str> = listing.iter().map(|line| line.as_str().unwrap()).collect();
            assert_eq!(ours, theirs, "{} {}", vector["name"], vector["version"]);
            compared += 1;
        }
    }
    assert!(compared > 80, "{compared}");
}
