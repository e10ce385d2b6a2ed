//! Golden initramfs: what the reference appends to a base, held against what we append.

use std::io::Read;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::*;
use crate::assemble::initramfs::{Extension, initramfs};
use crate::format::cpio;
use crate::store::MemoryStore;

/// Lines of a golden file.
fn golden(name: &str) -> Vec<Value> {
    let path = format!("{}/tests/golden/extensions/{name}.jsonl.gz", env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn bytes(value: &Value) -> Vec<u8> {
    BASE64.decode(value.as_str().unwrap()).unwrap()
}

/// The tree of an extension image, as its files are listed.
fn tree(files: &Value) -> FileTree {
    let mut tree = FileTree::new();
    for file in files.as_array().unwrap() {
        let node = match file.get("data_base64") {
            Some(data) => Node::file(0o644, VirtualFile::inline(bytes(data))),
            None => Node::directory(0o755),
        };
        tree.insert(file["path"].as_str().unwrap(), node).unwrap();
    }
    tree
}

/// Entries of all archives in `bytes`, one after another: name, mode, data; folders at their first appearance only.
fn entries(bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
    let mut reader = cpio::Reader::new(bytes, cpio::Limits::default());
    let mut found: Vec<(String, u32, Vec<u8>)> = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut data = Vec::new();
        reader.read_to_end(&mut data).unwrap();
        assert_eq!(entry.owner, (0, 0));
        let name = String::from_utf8(entry.name.clone()).unwrap();
        if !found.iter().any(|(known, ..)| *known == name) {
            found.push((name, entry.mode, data));
        }
    }
    found
}

/// What the golden data lists of one archive, without its trailer.
fn listed(archive: &Value) -> Vec<(String, u32)> {
    let mode = |entry: &Value| u32::from_str_radix(&entry["mode"].as_str().unwrap()[2..], 8).unwrap();
    let members = archive.as_array().unwrap().iter().filter(|entry| entry["name"] != "TRAILER!!!");
    members.map(|entry| (entry["name"].as_str().unwrap().to_owned(), mode(entry))).collect()
}

fn prepared(case: &Value, version: &TalosVersion, store: &Arc<MemoryStore>) -> Result<Vec<Extension>, String> {
    let spool = Spool::new().unwrap();
    let extensions = case["extensions_in_order"].as_array().unwrap().iter().map(|files| {
        let made =
            prepare_tree(store.as_ref(), &tree(files), &spool, Rules::of(version)).map_err(|error| match error {
                PrepareError::Extension(error) => error.to_string(),
                PrepareError::Factory(error) => panic!("{error}"),
            })?;
        made.metadata.check(version).map_err(|error| error.to_string())?;
        Ok(made.assembled())
    });
    extensions.collect()
}

#[test]
fn initramfs_is_the_golden_one() {
    let cases = golden("initramfs");
    assert_eq!(cases.len(), 36);
    for case in cases {
        let name = format!("{} {}", case["name"], case["version"]);
        let version = TalosVersion::parse(case["version"].as_str().unwrap()).unwrap();
        let store = Arc::new(MemoryStore::default());
        let extensions = match (prepared(&case, &version, &store), case.get("error").and_then(Value::as_str)) {
            (Ok(extensions), None) => extensions,
            (Err(error), Some(golden)) => {
                let last = golden.rsplit(": ").next().unwrap();
                assert!(error.ends_with(last), "{name}: {error:?} is not {golden:?}");
                continue;
            }
            (ours, golden) => panic!("{name}: ours {ours:?}, golden {golden:?}"),
        };
        let base = case["base"].as_str().unwrap();
        let file = initramfs(&VirtualFile::inline(base.to_owned()), &extensions, None).unwrap();
        let all = file.read_all(store.as_ref()).unwrap();
        let at = all.windows(base.len()).position(|window| window == base.as_bytes()).unwrap();
        let (before, after) = (&all[..at], &all[at + base.len()..]);

        let microcode = entries(before);
        let golden = case.get("prepended_cpio").map(listed).unwrap_or_default();
        let ours: Vec<_> = microcode.iter().map(|(name, mode, _)| (name.clone(), *mode)).collect();
        assert_eq!(ours, golden, "{name}: prepended");
        if let Some(size) = case.get("prepended_size").and_then(Value::as_u64) {
            assert_eq!(before.len() as u64, size, "{name}: length of what is prepended");
        }
        for (entry, golden) in
            microcode.iter().zip(case.get("prepended_cpio").and_then(Value::as_array).into_iter().flatten())
        {
            if let Some(data) = golden.get("data_base64") {
                assert_eq!(entry.2, bytes(data), "{name}: {}", entry.0);
            }
        }

        let appended = entries(after);
        let ours: Vec<_> = appended.iter().map(|(name, mode, _)| (name.clone(), *mode)).collect();
        assert_eq!(ours, listed(&case["appended_cpio"]), "{name}: appended");
        for (entry, golden) in appended.iter().zip(case["appended_cpio"].as_array().unwrap()) {
            if let Some(data) = golden.get("data_base64") {
                assert_eq!(entry.2, bytes(data), "{name}: {}", entry.0);
            }
            if let Some(listing) = golden.get("squashfs") {
                assert_eq!(squashfs_listing(&entry.2), listing_without_sizes(listing), "{name}: {}", entry.0);
            }
        }
        let list = appended.iter().find(|(name, ..)| name == "extensions.yaml").unwrap();
        assert_eq!(std::str::from_utf8(&list.2).unwrap(), case["extensions_yaml"].as_str().unwrap(), "{name}");
    }
}

/// Mode and path of everything in an image, as `unsquashfs -lls` begins its lines.
fn squashfs_listing(image: &[u8]) -> Vec<(String, String)> {
    let mut image = squashfs::Squashfs::open(std::io::Cursor::new(image), squashfs::Limits::default()).unwrap();
    let mut lines = vec![("d".to_owned(), String::new())];
    for found in image.walk("").unwrap() {
        if found.path.is_empty() {
            continue;
        }
        let kind = if found.kind == squashfs::FoundKind::Directory { "d" } else { "-" };
        lines.push((kind.to_owned(), String::from_utf8(found.path).unwrap()));
    }
    lines.sort_by(|a, b| a.1.cmp(&b.1));
    lines
}

fn listing_without_sizes(listing: &Value) -> Vec<(String, String)> {
    let lines = listing.as_array().unwrap().iter().map(|line| {
        let line = line.as_str().unwrap();
        let path = line.split_once("squashfs-root").unwrap().1.trim_start_matches('/');
        (line[..1].to_owned(), path.to_owned())
    });
    let mut lines: Vec<_> = lines.collect();
    lines.sort_by(|a, b| a.1.cmp(&b.1));
    lines
}
