//! Archives of any tree, twice in a row: the reader finds what was written.
#![no_main]

use std::collections::HashMap;
use std::io::Read;

use fuzz::{Blobs, Input, bytes, hold_ranges, tree};
use image_factory::format::cpio::{Archive, Limits, Reader};
use image_factory::format::tree::Kind;
use image_factory::types::Digest;
use image_factory::virtual_file::VirtualFile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let (last, padding) = (VirtualFile::blob(Digest::of(b"last"), input.number(5)), input.number(2));
    let tree = tree(&mut input);
    let mut archive = Archive::new(1);
    if archive.add_tree(&tree).is_err() {
        return assert!(tree.get("TRAILER!!!").is_some(), "a tree that the format can hold");
    }
    archive.add_tree(&tree).expect("it could be added before");
    assert_eq!(archive.add_file("last", last.clone()).is_err(), last.len() > u64::from(u32::MAX));
    let archive = archive.finish_padded(padding);
    assert!(archive.len().is_multiple_of(padding.max(1)));
    hold_ranges(&archive, &mut Input::new(data));

    let mut reader = Reader::new(archive.reader(Blobs), Limits { bytes: 1 << 32, entries: 1000 });
    // Number in the archive, names left, and contents at the last of them.
    let mut inodes: HashMap<(usize, u64), (u32, u32, Option<Vec<u8>>)> = HashMap::new();
    for (round, (path, node)) in (0..2).flat_map(|round| tree.iter().map(move |item| (round, item))) {
        let entry = reader.next_entry().expect("what was written can be read").expect("an entry for each node");
        assert_eq!((entry.name.as_slice(), entry.mode, entry.mtime), (path, node.st_mode(), 1));
        let mut contents = Vec::new();
        reader.read_to_end(&mut contents).expect("contents can be read");
        let expected = match &node.kind {
            Kind::File(file) => bytes(file),
            Kind::Symlink(target) => target.to_vec(),
            _ => Vec::new(),
        };
        let device = match node.kind {
            Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => (major, minor),
            _ => (0, 0),
        };
        assert_eq!(entry.device, device);
        match node.inode {
            Some(inode) => {
                let known = inodes.entry((round, inode)).or_insert((entry.inode, entry.links, None));
                assert_eq!(known.0, entry.inode);
                known.1 -= 1;
                if known.1 == 0 || node.contents().is_none() {
                    assert!(contents == expected, "contents of {path:?}");
                } else {
                    assert!(contents.is_empty());
                }
            }
            None => assert!(contents == expected, "contents of {path:?}"),
        }
    }
    let mut numbers: Vec<u32> = inodes.values().map(|known| known.0).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), inodes.len());
    assert!(inodes.values().all(|known| known.1 == 0));
    match reader.next_entry().expect("what was written can be read") {
        Some(entry) => assert_eq!((entry.name.as_slice(), u64::from(entry.size)), (&b"last"[..], last.len())),
        None => assert!(last.len() > u64::from(u32::MAX)),
    }
});
