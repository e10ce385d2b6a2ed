use std::io::Read;

use base64::Engine;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::format::tree::{FileTree, Kind, Node};
use crate::types::Digest;
use crate::virtual_file::{NoBlobs, ReadBlob, VirtualFile};

fn bytes(file: &VirtualFile) -> Vec<u8> {
    file.read_all(&NoBlobs).unwrap().to_vec()
}

fn inline(text: &str) -> VirtualFile {
    VirtualFile::inline(text.to_owned())
}

fn gunzip(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(data).read_to_end(&mut out).unwrap();
    out
}

fn golden(gz: &[u8]) -> Vec<Value> {
    String::from_utf8(gunzip(gz)).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn base64(value: &Value) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap()).unwrap()
}

fn walk(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, ReadError> {
    let mut reader = Reader::new(bytes, Limits { bytes: 1 << 20, entries: 100 });
    let mut all = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut data = Vec::new();
        reader.read_to_end(&mut data).map_err(|source| ReadError::Io { entry: 0, source })?;
        all.push((entry, data));
    }
    Ok(all)
}

#[test]
fn installer_layers_are_the_golden_ones_to_the_byte() {
    let vectors = golden(include_bytes!("../../../tests/golden/extensions/installer-layers.jsonl.gz"));
    assert_eq!(vectors.len(), 6);
    for vector in vectors {
        let mut files: Vec<&Value> = vector["files"].as_array().unwrap().iter().collect();
        files.sort_by_key(|file| file["image_path"].as_str().unwrap());
        let mut layout = Layout::new(0);
        for file in files {
            let (path, mode) = (file["image_path"].as_str().unwrap(), file["mode"].as_u64().unwrap() as u16);
            if file["dir"] == Value::Bool(true) {
                layout.add_directory(path, mode).unwrap();
            } else {
                layout.add_file(path, mode, VirtualFile::inline(base64(&file["data_base64"]))).unwrap();
            }
        }
        let tar = bytes(&layout.finish());
        assert_eq!(tar, gunzip(&base64(&vector["tar_gzip_base64"])), "{}", vector["name"]);
        assert_eq!(Digest::of(&tar).to_string(), vector["diff_id"].as_str().unwrap());
    }
}

/// Reads an archive and writes it again.
fn rewrite(tar: &[u8], slash: &str) -> Vec<u8> {
    let mut layout = Layout::new(0);
    for (entry, data) in walk(tar).unwrap() {
        let path = String::from_utf8(entry.path).unwrap();
        match entry.kind {
            EntryKind::Directory => layout.add_directory(path + slash, entry.mode).unwrap(),
            EntryKind::File => {
                let mut node = Node::file(entry.mode, VirtualFile::inline(data));
                node.selinux = entry.selinux;
                layout.add(path, &node).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
    bytes(&layout.finish())
}

#[test]
fn virtual_extensions_are_read_and_written_to_the_byte() {
    let schematic = golden(include_bytes!("../../../tests/golden/extensions/schematic-extension.jsonl.gz"));
    let config = golden(include_bytes!("../../../tests/golden/extensions/embedded-config-extension.jsonl.gz"));
    assert!(schematic.len() > 5 && config.len() > 5, "{} {}", schematic.len(), config.len());
    for (vectors, slash) in [(schematic, "/"), (config, "")] {
        for vector in vectors {
            let tar = gunzip(&base64(&vector["tar_gzip_base64"]));
            assert_eq!(rewrite(&tar, slash), tar);
            assert_eq!(hex::encode(Digest::of(&tar).raw()), vector["tar_sha256"].as_str().unwrap());
            let labelled = walk(&tar).unwrap().into_iter().find(|(entry, _)| entry.selinux.is_some());
            let expected = slash.is_empty().then_some("system_u:object_r:system_state_t:s0");
            let found = labelled.and_then(|(entry, _)| entry.selinux);
            assert_eq!(found.as_deref(), expected.map(str::as_bytes));
        }
    }
}

fn sample() -> FileTree {
    let mut tree = FileTree::new();
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(90));
    tree.insert(&long, Node::file(0o4711, inline("long, but a ustar prefix does"))).unwrap();
    tree.insert("x".repeat(150), Node::file(0o600, inline("too long for ustar"))).unwrap();
    tree.insert("ä/ö", Node::file(0o644, inline("not ASCII")).with_selinux("a:b:c:d")).unwrap();
    tree.insert("l", Node::symlink("t".repeat(130))).unwrap();
    tree.link(&long, "z/hard").unwrap();
    tree.insert("null", Node::new(0o666, Kind::CharDevice { major: 1, minor: 3 })).unwrap();
    tree.insert("sda", Node::new(0o660, Kind::BlockDevice { major: 8, minor: 70_000 })).unwrap();
    tree.insert("pipe", Node::new(0o600, Kind::Fifo)).unwrap();
    tree
}

fn sample_tar() -> Vec<u8> {
    let mut layout = Layout::new(1_559_424_892);
    layout.add_tree("p/", &sample()).unwrap();
    bytes(&layout.finish())
}

#[test]
fn every_kind_and_long_names_come_back() {
    let rows: Vec<_> = walk(&sample_tar()).unwrap();
    let find = |path: &str| rows.iter().find(|(entry, _)| entry.path == path.as_bytes()).unwrap();
    let long = format!("p/{}/{}", "d".repeat(120), "f".repeat(90));
    assert_eq!(find(&long).1, b"long, but a ustar prefix does");
    assert_eq!(find(&long).0.mode, 0o4711);
    assert_eq!(find(&format!("p/{}", "x".repeat(150))).1, b"too long for ustar");
    assert_eq!(find("p/ä/ö").0.selinux.as_deref(), Some(&b"a:b:c:d"[..]));
    assert_eq!(find("p/l").0.kind, EntryKind::Symlink(vec![b't'; 130]));
    assert_eq!(find("p/z/hard").0.kind, EntryKind::HardLink(long.into_bytes()));
    assert_eq!(find("p/null").0.kind, EntryKind::CharDevice(1, 3));
    assert_eq!(find("p/sda").0.kind, EntryKind::BlockDevice(8, 70_000));
    assert_eq!(find("p/pipe").0.kind, EntryKind::Fifo);
    assert_eq!(rows.len(), 11);
}

#[test]
fn sizes_beyond_octal_are_pax_records() {
    let mut layout = Layout::new(0);
    layout.add_file("big", 0o644, VirtualFile::zeros(9 << 30)).unwrap();
    layout.add_file("after", 0o644, inline("x")).unwrap();
    let tar = layout.finish();
    let limits = Limits { bytes: 10 << 30, entries: 10 };
    let mut reader = Reader::new(tar.reader(&NoBlobs as &dyn ReadBlob), limits);
    assert_eq!(reader.next_entry().unwrap().unwrap().size, 9 << 30);
    let mut small = Reader::new(tar.reader(&NoBlobs as &dyn ReadBlob), Limits { bytes: 1 << 30, entries: 10 });
    let error = small.next_entry().unwrap_err().to_string();
    assert!(error.contains("9663676416 bytes, which is beyond the limit"), "{error}");
    assert!(small.next_entry().unwrap().is_none());
    assert_eq!(Layout::new(0).add_file("", 0, inline("")), Err(WriteError::Name(String::new())));
    let device = Node::new(0, Kind::CharDevice { major: 1, minor: 1 << 21 });
    assert!(matches!(Layout::new(0).add("d", &device), Err(WriteError::Device { number: 0x20_0000, .. })));
}

/// A header with fields put over it and its checksum made right.
fn header(name: &str, kind: u8, size: &[u8]) -> Vec<u8> {
    let mut layout = Layout::new(0);
    layout.add_file("n", 0o644, inline("")).unwrap();
    let mut block = bytes(&layout.finish());
    block.truncate(512);
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[156] = kind;
    block[124..124 + size.len()].copy_from_slice(size);
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// An archive of one file with a PAX record in front.
fn pax(record: &str) -> Vec<u8> {
    let mut tar = header("x", b'x', format!("{:011o}", record.len()).as_bytes());
    tar.extend_from_slice(record.as_bytes());
    tar.resize(tar.len().next_multiple_of(512), 0);
    tar.extend(header("file", b'0', b""));
    tar
}

#[test]
fn what_would_do_harm_is_refused_by_name() {
    let error = |tar: Vec<u8>| walk(&tar).unwrap_err().to_string();
    assert!(error(header("../etc/passwd", b'0', b"")).contains("\"../etc/passwd\""));
    assert!(error(header("a/../../b", b'0', b"")).contains("component \"..\""));
    assert!(error(pax("17 path=a/../b/c\n")).contains("a/../b/c"));
    assert!(
        error(header("a", b'0', &[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])).contains("beyond")
    );
    assert!(error(header("a", b'0', &[0xff; 12])).contains("size is no number"));
    assert!(error(header("a", b'0', b"9")).contains("size is no number"));
    assert!(error(header("a", b'x', b"77777777777")).contains("extra header of 8589934591 bytes"));
    assert!(error(header("a", b'L', b"00010000000")).contains("extra header"));
    assert!(error(header("a", b'S', b"")).contains("sparse"));
    assert!(error(header("a", b'Z', b"")).contains("'Z' is not known"));
    assert!(error(pax("99 path=a\n")).contains("PAX record"));
    assert!(error(pax("11 size=-1\n")).contains("PAX record"));
    assert!(error(pax("22 GNU.sparse.major=1\n")).contains("sparse"));
    assert!(error(header("x", b'g', b"00000000000").repeat(18)).contains("in a row"));
    assert!(error(header("file", b'0', b"").repeat(101)).contains("100 entries"));
    let mut damaged = header("a", b'0', b"");
    damaged[0] = b'b';
    assert!(error(damaged).contains("checksum is wrong"));
    assert!(error(header("a", b'0', b"00000000010")).contains("end"));
    assert!(error(header("a", b'0', b"")[..100].to_vec()).contains("end"));
}

#[test]
fn names_are_normalised_as_container_runtimes_do() {
    let tar = [header("./", b'5', b""), header("/etc//./x", b'0', b""), header("v7dir/", b'0', b"")].concat();
    let rows: Vec<_> = walk(&tar).unwrap().into_iter().map(|(entry, _)| (entry.path, entry.kind)).collect();
    assert_eq!(
        rows,
        [
            (b"".to_vec(), EntryKind::Directory),
            (b"etc/x".to_vec(), EntryKind::File),
            (b"v7dir".to_vec(), EntryKind::Directory)
        ]
    );
    // A label of PAX records may end in a NUL.
    let tar = pax("43 SCHILY.xattr.security.selinux=u:r:t:s0\0\n");
    assert_eq!(walk(&tar).unwrap()[0].0.selinux.as_deref(), Some(&b"u:r:t:s0"[..]));
}

proptest! {
    #[test]
    fn foreign_bytes_never_panic(data in proptest::collection::vec(any::<u8>(), 0..1600)) {
        let _ = walk(&data);
    }

    #[test]
    fn mutated_archives_never_panic(changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6),
                                    mend: bool) {
        let mut tar = sample_tar();
        for (at, value) in changes {
            let at = at % tar.len();
            tar[at] = value;
            if mend {
                // Else hardly any change comes past the checksum.
                let block = &mut tar[at / 512 * 512..][..512];
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        let _ = walk(&tar);
    }

    #[test]
    fn names_survive(names in proptest::collection::btree_map("[a-zä/]{1,200}", "[a-z]{0,3}", 1..5)) {
        let mut layout = Layout::new(7);
        let mut expected = Vec::new();
        for (name, text) in &names {
            let parts: Vec<_> = name.split('/').filter(|part| !part.is_empty()).collect();
            if parts.is_empty() {
                continue;
            }
            layout.add_file(parts.join("/"), 0o644, inline(text)).unwrap();
            expected.push((parts.join("/").into_bytes(), text.clone().into_bytes()));
        }
        let found: Vec<_> =
            walk(&bytes(&layout.finish())).unwrap().into_iter().map(|(entry, data)| (entry.path, data)).collect();
        prop_assert_eq!(found, expected);
    }
}
