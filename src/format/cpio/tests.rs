use std::io::{Read, Write};

use proptest::prelude::*;

use super::*;
use crate::virtual_file::NoBlobs;

fn bytes(file: &VirtualFile) -> Vec<u8> {
    file.read_all(&NoBlobs).unwrap().to_vec()
}

fn inline(text: &str) -> VirtualFile {
    VirtualFile::inline(text.to_owned())
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

fn sample() -> VirtualFile {
    let mut archive = Archive::new(1_559_424_892);
    archive.add_file("0.sqsh", inline("abcde")).unwrap();
    let mut tree = FileTree::new();
    tree.insert("lib/firmware/a", Node::file(0o600, inline("fw"))).unwrap();
    tree.insert("lib/firmware/s", Node::symlink("a")).unwrap();
    tree.link("lib/firmware/a", "lib/firmware/b").unwrap();
    tree.insert("null", Node::new(0o666, Kind::CharDevice { major: 1, minor: 3 })).unwrap();
    archive.add_tree(&tree).unwrap();
    archive.finish()
}

#[test]
fn an_archive_lists_what_was_added() {
    let archive = bytes(&sample());
    assert_eq!(archive.len() % 4, 0);
    assert_eq!(&archive[..110 + 8], b"07070100000000000081A40000000000000000000000015CF2EF7C00000005000000000000000000000000000000000000000700000000\
        0.sqsh\0\0");
    let listed = walk(&archive).unwrap();
    let rows: Vec<_> = listed
        .iter()
        .map(|(e, data)| (String::from_utf8_lossy(&e.name).into_owned(), e.mode, e.inode, e.links, data.len()))
        .collect();
    assert_eq!(
        rows,
        [
            ("0.sqsh".to_owned(), 0o100_644, 0, 1, 5),
            ("lib".to_owned(), 0o040_755, 1, 2, 0),
            ("lib/firmware".to_owned(), 0o040_755, 2, 2, 0),
            ("lib/firmware/a".to_owned(), 0o100_600, 3, 2, 0),
            ("lib/firmware/b".to_owned(), 0o100_600, 3, 2, 2),
            ("lib/firmware/s".to_owned(), 0o120_777, 4, 1, 1),
            ("null".to_owned(), 0o020_666, 5, 1, 0),
        ]
    );
    assert_eq!(listed[6].0.device, (1, 3));
}

#[test]
fn padding_and_limits_of_the_format() {
    assert_eq!(Archive::new(0).finish().len(), 124);
    assert_eq!(Archive::new(0).finish_padded(EARLY_PADDING).len(), 512);
    let mut archive = Archive::new(0);
    assert!(matches!(archive.add_file("a", VirtualFile::zeros(1 << 32)), Err(WriteError::TooLong { .. })));
    assert_eq!(archive.add_file(TRAILER, VirtualFile::empty()), Err(WriteError::Trailer));
    assert_eq!(archive.add_file("a/TRAILER!!!", VirtualFile::empty()), Ok(()));
    assert!(matches!(archive.add_file("../a", inline("")), Err(WriteError::Tree(_))));
    archive.add_file("a", VirtualFile::zeros(u64::from(u32::MAX))).unwrap();
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(data).unwrap();
    out.finish().unwrap()
}

fn xz(data: &[u8]) -> Vec<u8> {
    let mut out = liblzma::write::XzEncoder::new(Vec::new(), 6);
    out.write_all(data).unwrap();
    out.finish().unwrap()
}

#[test]
fn concatenated_segments_of_every_kind_are_walked() {
    let plain = bytes(&sample());
    let all = [
        plain.clone(),
        vec![0; 388],
        zstd::encode_all(&plain[..], 3).unwrap(),
        xz(&[&plain[..], &[0; 512]].concat()),
        gzip(&plain),
        plain.clone(),
        vec![0; 7],
    ]
    .concat();
    let listed = walk(&all).unwrap();
    assert_eq!(listed.len(), 7 * 5);
    for segment in 0..5 {
        let part: Vec<_> = listed.iter().filter(|(entry, _)| entry.segment == segment).collect();
        assert_eq!(part.len(), 7, "segment {segment}");
        assert_eq!(part[0].1, b"abcde");
    }
    // Nothing is read that is not asked for, and the walk goes on behind it.
    let mut reader = Reader::new(&all[..], Limits::default());
    let mut names = 0;
    while reader.next_entry().unwrap().is_some() {
        names += 1;
    }
    assert_eq!(names, 35);
}

#[test]
fn damage_is_named() {
    let plain = bytes(&sample());
    let error = |bytes: &[u8]| walk(bytes).unwrap_err().to_string();
    assert!(error(&plain[..50]).contains("entry 0"), "{}", error(&plain[..50]));
    assert!(error(&plain[..plain.len() - 124]).contains("entry 7"));
    assert!(error(b"hello").contains("start no cpio archive"));
    assert!(error(b"0hello\0").contains("entry 0"));
    let mut bad = plain.clone();
    bad[20] = b'+';
    assert!(error(&bad).contains("hexadecimal"));
    let compressed = zstd::encode_all(&plain[..], 3).unwrap();
    assert!(walk(&compressed[..compressed.len() - 5]).is_err());
    // A bomb: a few KiB that would be 1 GiB.
    let bomb = zstd::encode_all(std::io::repeat(0).take(64 << 20), 3).unwrap();
    assert!(error(&bomb).contains("more than 1048576 bytes"));
    let many: Vec<u8> = (0..15).flat_map(|_| plain.clone()).collect();
    assert!(error(&many).contains("100 entries"));
}

/// The golden archives, entry by entry; the data of squashfs images is not in them.
#[test]
fn golden_archives_list_alike() {
    use base64::Engine;
    let mut text = String::new();
    let golden = include_bytes!("../../../tests/golden/extensions/initramfs.jsonl.gz");
    flate2::read::GzDecoder::new(&golden[..]).read_to_string(&mut text).unwrap();
    let mut compared = 0;
    for line in text.lines() {
        let vector: serde_json::Value = serde_json::from_str(line).unwrap();
        for (archive, padding) in [("prepended_cpio", EARLY_PADDING), ("appended_cpio", 4)] {
            let Some(entries) = vector[archive].as_array() else { continue };
            let entries = &entries[..entries.len() - 1];
            let mut ours = Archive::new(0);
            let mut expected = Vec::new();
            for entry in entries {
                let name = entry["name"].as_str().unwrap();
                let mode = u32::from_str_radix(entry["mode"].as_str().unwrap().strip_prefix("0o").unwrap(), 8).unwrap();
                let data = entry["data_base64"].as_str().unwrap_or_default();
                let data = base64::engine::general_purpose::STANDARD.decode(data).unwrap();
                let node = match mode & 0o170_000 {
                    0o040_000 => Node::directory(mode as u16),
                    _ => Node::file(mode as u16, VirtualFile::inline(data.clone())),
                };
                ours.add(name, node).unwrap();
                expected.push((name.as_bytes().to_vec(), mode, entry["ino"].as_u64().unwrap() as u32, data));
            }
            let bytes = bytes(&ours.finish_padded(padding));
            if let Some(size) = vector["prepended_size"].as_u64().filter(|_| padding == EARLY_PADDING) {
                assert_eq!(bytes.len() as u64, size);
            }
            let found: Vec<_> =
                walk(&bytes).unwrap().into_iter().map(|(e, data)| (e.name, e.mode, e.inode, data)).collect();
            assert_eq!(found, expected);
            compared += 1;
        }
    }
    assert!(compared > 30, "{compared}");
}

proptest! {
    #[test]
    fn foreign_bytes_never_panic(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = walk(&data);
    }

    #[test]
    fn mutated_archives_never_panic(at in 0_usize..1200, value: u8, cut in 0_usize..1200, kind in 0..4) {
        let plain = bytes(&sample());
        let mut data = match kind {
            0 => plain,
            1 => gzip(&plain),
            2 => xz(&plain),
            _ => zstd::encode_all(&plain[..], 1).unwrap(),
        };
        let index = at % data.len();
        data[index] = value;
        data.truncate(data.len().saturating_sub(cut / 4));
        let _ = walk(&data);
    }
}
