//! Archives against the system's `cpio`: it lists and unpacks ours, we read those that it makes.
//!
//! Debian packages: cpio, zstd, xz-utils, gzip.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::{Read, Write};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use image_factory::format::cpio::{Archive, EARLY_PADDING, Limits, Reader};
use image_factory::format::tree::{FileTree, Node};
use image_factory::types::Digest;
use image_factory::virtual_file::{ReadBlob, ReadError, VirtualFile};

/// No blob at all: all test contents are inline.
struct NoBlobs;

impl ReadBlob for NoBlobs {
    fn read(&self, digest: &Digest, _: Range<u64>) -> Result<Bytes, ReadError> {
        Err(ReadError::Missing(*digest))
    }
}

/// Runs a command in `folder` with `input`; its standard output. What it complains about fails the test.
fn pipe(folder: &Path, command: &str, input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .current_dir(folder)
        .env("TZ", "UTC")
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feed = std::thread::spawn(move || stdin.write_all(&input).unwrap());
    let output = child.wait_with_output().unwrap();
    feed.join().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{command}: {stderr}");
    output.stdout
}

fn tree() -> FileTree {
    let mut tree = FileTree::new();
    let mut file = |path: &str, mode, text: String| {
        tree.insert(path, Node::file(mode, VirtualFile::inline(text))).unwrap();
    };
    file("usr/lib/firmware/i915/a.bin", 0o644, "firmware".repeat(9999));
    file("usr/lib/firmware/odd", 0o600, "odd".to_owned());
    file("usr/lib/firmware/none", 0o400, String::new());
    tree.insert("usr/lib/firmware/link", Node::symlink("i915/a.bin")).unwrap();
    tree.link("usr/lib/firmware/odd", "usr/lib/firmware/z/hard").unwrap();
    tree
}

fn archive() -> Vec<u8> {
    let mut archive = Archive::new(1_559_424_892);
    archive.add_file("0.sqsh", VirtualFile::inline("not really")).unwrap();
    archive.add_tree(&tree()).unwrap();
    archive.finish_padded(EARLY_PADDING).read_all(&NoBlobs).unwrap().to_vec()
}

#[test]
fn cpio_lists_and_unpacks_ours() {
    let scratch = tempfile::tempdir().unwrap();
    let names = pipe(scratch.path(), "cpio --quiet -it", &archive());
    let expected: Vec<_> = ["0.sqsh".to_owned()]
        .into_iter()
        .chain(tree().iter().map(|(path, _)| String::from_utf8_lossy(path).into_owned()))
        .collect();
    assert_eq!(String::from_utf8(names).unwrap().lines().collect::<Vec<_>>(), expected);
    let listing = String::from_utf8(pipe(scratch.path(), "cpio --quiet -itvn", &archive())).unwrap();
    assert!(listing.lines().all(|line| line.contains(" 0        0 ") && line.contains("Jun  1  2019")), "{listing}");
    pipe(scratch.path(), "cpio --quiet -idm", &archive());
    let path = |name: &str| scratch.path().join(name);
    assert_eq!(fs::read(path("0.sqsh")).unwrap(), b"not really");
    assert_eq!(fs::read(path("usr/lib/firmware/link")).unwrap(), "firmware".repeat(9999).as_bytes());
    assert_eq!(fs::read(path("usr/lib/firmware/z/hard")).unwrap(), b"odd");
    let inode = |name: &str| fs::metadata(path(name)).unwrap().ino();
    assert_eq!(inode("usr/lib/firmware/z/hard"), inode("usr/lib/firmware/odd"));
    assert_eq!(fs::metadata(path("usr/lib/firmware/odd")).unwrap().mode(), 0o100_600);
}

#[test]
fn archives_of_cpio_are_read_compressed_or_not() {
    let scratch = tempfile::tempdir().unwrap();
    pipe(scratch.path(), "cpio --quiet -idm", &archive());
    let make = "find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -o -H newc --reproducible -R 0:0";
    let segments: Vec<Vec<u8>> = ["cat", "zstd -19 -q", "xz --check=crc32", "gzip -9", "zstd -1 -q --no-check"]
        .iter()
        .map(|compress| pipe(scratch.path(), &format!("{make} | {compress}"), b""))
        .collect();
    let all = segments.concat();
    let mut reader = Reader::new(&all[..], Limits::default());
    let mut found: Vec<Vec<(String, u32, Vec<u8>)>> = vec![Vec::new(); segments.len()];
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut contents = Vec::new();
        reader.read_to_end(&mut contents).unwrap();
        let name = String::from_utf8(entry.name).unwrap();
        found[entry.segment as usize].push((name.trim_start_matches("./").to_owned(), entry.mode, contents));
    }
    let mut names: Vec<_> = found[0].iter().map(|(name, ..)| name.as_str()).collect();
    // cpio puts all names of an inode beside one another.
    names.sort_unstable();
    let expected = String::from_utf8(pipe(scratch.path(), "find * | LC_ALL=C sort", b"")).unwrap();
    assert_eq!(names, expected.lines().collect::<Vec<_>>());
    let contents = |name: &str| &found[0].iter().find(|row| row.0 == name).unwrap().2;
    assert_eq!(contents("0.sqsh"), b"not really");
    assert_eq!(contents("usr/lib/firmware/i915/a.bin"), "firmware".repeat(9999).as_bytes());
    assert_eq!(contents("usr/lib/firmware/link"), b"i915/a.bin");
    assert!(found.iter().all(|segment| *segment == found[0]));
}
