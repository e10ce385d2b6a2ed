//! Images of any tree: the reader finds what was written, and nothing else.
//!
//! The input is the compression (1 byte), the block size (1 byte), and the tree.
#![no_main]

use std::io::Cursor;

use fuzz::{Blobs, Input, bytes, tree};
use image_factory::format::squashfs::{Compression, Limits, Options, Squashfs, write};
use image_factory::virtual_file::VirtualFile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let compression =
        [Compression::Stored, Compression::Zstd { level: 1 }, Compression::Zstd { level: 3 }, Compression::Xz];
    let compression = compression[input.number(1) as usize % 4];
    let block_size = 4096 << (input.number(1) % 6);
    let options = Options { compression, mtime: 1, block_size };
    let tree = tree(&mut input);
    let mut image = Vec::new();
    let written = write(&tree, &options, &Blobs, &mut image).expect("any tree can be written");
    assert_eq!((written.len, written.len % 4096), (image.len() as u64, 0));
    let mut again = Vec::new();
    write(&tree, &options, &Blobs, &mut again).expect("any tree can be written");
    assert!(image == again, "two images of one tree differ");

    // The reader counts a file for each of its hard links.
    let limits = Limits { entries: 1000, bytes: 1 << 28 };
    let mut image = Squashfs::open(Cursor::new(image), limits).expect("what was written can be read");
    let read = image.tree("", &mut |_, size, copy| {
        let mut bytes = Vec::new();
        copy(&mut bytes)?;
        assert_eq!(bytes.len() as u64, size);
        Ok(VirtualFile::inline(bytes))
    });
    let read = read.expect("what was written can be read");
    assert_eq!(read.len(), tree.len());
    for ((path, node), (expected_path, expected)) in read.iter().zip(tree.iter()) {
        assert_eq!((path, node.mode, &node.selinux), (expected_path, expected.mode, &expected.selinux));
        match (node.contents(), expected.contents()) {
            (Some(found), Some(expected)) => assert!(bytes(found) == bytes(expected), "contents of {path:?}"),
            _ => assert_eq!(node.kind, expected.kind),
        }
    }
    // Hard links: the same paths share an inode.
    let groups = |tree: &image_factory::format::tree::FileTree| {
        let mut firsts = std::collections::HashMap::new();
        let names = tree.iter().filter_map(|(path, node)| Some((path.to_vec(), node.inode?)));
        let linked: Vec<_> =
            names.map(|(path, inode)| (firsts.entry(inode).or_insert_with(|| path.clone()).clone(), path)).collect();
        // A name that is alone is linked to nothing.
        let alone = |first: &Vec<u8>| linked.iter().filter(|(other, _)| other == first).count() == 1;
        linked.iter().filter(|(first, _)| !alone(first)).cloned().collect::<Vec<_>>()
    };
    assert_eq!(groups(&read), groups(&tree));
});
