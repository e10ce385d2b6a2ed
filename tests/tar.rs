//! Layers against the system's `tar`: it unpacks ours, we apply those that it makes.
//!
//! Debian packages: tar, gzip, zstd, python3. Devices and labels are made only as root, so these tests want root, as CI is.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use image_factory::format::layers::{Layers, Limits};
use image_factory::format::tar::Layout;
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

fn run(folder: &Path, command: &str) -> String {
    let output =
        Command::new("sh").args(["-c", command]).current_dir(folder).env("LC_ALL", "C.UTF-8").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{command}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn long() -> String {
    format!("{}/{}", "directory".repeat(20), "file".repeat(40))
}

#[test]
fn tar_unpacks_ours() {
    let mut tree = FileTree::new();
    tree.insert("usr/install/amd64/vmlinuz.efi", Node::file(0o644, VirtualFile::inline("kernel"))).unwrap();
    tree.insert(long(), Node::file(0o600, VirtualFile::inline("long"))).unwrap();
    tree.insert("ä", Node::symlink("usr/".repeat(40))).unwrap();
    tree.link(long(), "hard").unwrap();
    tree.insert("label", Node::file(0o4755, VirtualFile::inline("x")).with_selinux("system_u:object_r:bin_t:s0"))
        .unwrap();
    let mut layout = Layout::new(1_559_424_892);
    layout.add_tree("", &tree).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("layer.tar"), layout.finish().read_all(&NoBlobs).unwrap()).unwrap();
    let listed = run(scratch.path(), "tar --quoting-style=literal -tf layer.tar");
    let expected: Vec<_> = tree.iter().map(|(path, _)| String::from_utf8(path.to_vec()).unwrap()).collect();
    let listed: Vec<_> = listed.lines().map(|line| line.trim_end_matches('/')).collect();
    assert_eq!(listed, expected);
    run(scratch.path(), "mkdir out && tar --xattrs --xattrs-include=security.selinux -xpf layer.tar -C out");
    let path = |name: &str| scratch.path().join("out").join(name);
    assert_eq!(fs::read(path("usr/install/amd64/vmlinuz.efi")).unwrap(), b"kernel");
    assert_eq!(fs::read(path("hard")).unwrap(), b"long");
    assert_eq!(fs::metadata(path("hard")).unwrap().ino(), fs::metadata(path(&long())).unwrap().ino());
    assert_eq!(fs::read_link(path("ä")).unwrap().to_str().unwrap(), "usr/".repeat(40));
    let labelled = fs::metadata(path("label")).unwrap();
    assert_eq!((labelled.mode(), labelled.mtime(), labelled.uid()), (0o104_755, 1_559_424_892, 0));
    let python = "import os; print(os.getxattr('out/label', 'security.selinux').decode())";
    assert_eq!(run(scratch.path(), &format!("python3 -c \"{python}\"")), "system_u:object_r:bin_t:s0\n");
}

#[test]
fn layers_of_tar_are_applied() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("in");
    let put = |path: &str, text: &str| {
        fs::create_dir_all(folder.join(path).parent().unwrap()).unwrap();
        fs::write(folder.join(path), text).unwrap();
    };
    put("rootfs/usr/lib/a", "a");
    put(&format!("rootfs/{}", long()), "long");
    put("rootfs/ä", "not ASCII");
    symlink("t".repeat(200), folder.join("rootfs/symlink")).unwrap();
    fs::hard_link(folder.join("rootfs/usr/lib/a"), folder.join("rootfs/hard")).unwrap();
    run(&folder, "mkfifo rootfs/pipe && mknod rootfs/disk b 259 1003 && truncate -s 9000 rootfs/zeros");
    let python = "import os; os.setxattr('rootfs/usr/lib/a', 'security.selinux', b'system_u:object_r:bin_t:s0\\0')";
    run(&folder, &format!("python3 -c \"{python}\""));
    for make in [
        "tar --format=gnu -cf ../layer .",
        "tar --format=posix -cf ../layer .",
        "tar --format=pax --xattrs --xattrs-include=security.selinux -czf ../layer .",
        "tar --format=posix -c . | zstd -q > ../layer",
    ] {
        run(&folder, make);
        let mut layers = Layers::new(Limits::default(), &|_| true);
        let layer = fs::File::open(scratch.path().join("layer")).unwrap();
        layers
            .apply(layer, &mut |_, _, contents| {
                let mut bytes = Vec::new();
                contents.read_to_end(&mut bytes)?;
                Ok(VirtualFile::inline(bytes))
            })
            .unwrap_or_else(|error| panic!("{make}: {error}"));
        let tree = layers.into_tree().subtree("rootfs").unwrap();
        let text = |path: &str| match &tree.get(path).unwrap_or_else(|| panic!("{make}: {path}")).kind {
            Kind::File(file) => String::from_utf8(file.read_all(&NoBlobs).unwrap().to_vec()).unwrap(),
            other => format!("{other:?}"),
        };
        assert_eq!(text("usr/lib/a"), "a");
        assert_eq!(text("hard"), "a");
        assert_eq!(text(&long()), "long");
        assert_eq!(text("ä"), "not ASCII");
        assert_eq!(text("zeros"), "\0".repeat(9000));
        assert_eq!(tree.get("hard").unwrap().inode, tree.get("usr/lib/a").unwrap().inode);
        assert_eq!(tree.get("symlink").unwrap().kind, Kind::Symlink("t".repeat(200).into()));
        assert_eq!(tree.get("disk").unwrap().kind, Kind::BlockDevice { major: 259, minor: 1003 });
        assert_eq!(tree.get("pipe").unwrap().kind, Kind::Fifo);
        let labels: Vec<_> = tree.iter().filter_map(|(_, node)| node.selinux.as_deref()).collect();
        let expected = if make.contains("selinux") { 2 } else { 0 };
        assert_eq!(labels, vec![&b"system_u:object_r:bin_t:s0"[..]; expected], "{make}");
        assert_eq!(tree.len(), 3 + 2 + 6, "{make}");
    }
}
