//! Archives of any tree: the reader finds what was written.
//!
//! The input is the length of a file at the end (5 bytes), which may be longer than a header can say, and the tree.
#![no_main]

use std::collections::HashMap;
use std::io::Read;

use fuzz::{Blobs, Input, bytes, hold_ranges, tree};
use image_factory::format::tar::{EntryKind, Layout, Limits, Reader};
use image_factory::format::tree::Kind;
use image_factory::types::Digest;
use image_factory::virtual_file::VirtualFile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let last = VirtualFile::blob(Digest::of(b"last"), input.number(5));
    let tree = tree(&mut input);
    let mut layout = Layout::new(1);
    // A name that is no text, where the format needs text.
    if layout.add_tree("", &tree).is_err() {
        return;
    }
    layout.add_file("last", 0o644, last.clone()).expect("the name is one");
    let archive = layout.finish();
    assert_eq!(archive.len() % 512, 0);
    hold_ranges(&archive, &mut Input::new(data));

    let mut reader = Reader::new(archive.reader(Blobs), Limits { bytes: u64::MAX, entries: 1000 });
    let mut first_names: HashMap<u64, Vec<u8>> = HashMap::new();
    for (path, node) in tree.iter() {
        let entry = reader.next_entry().expect("what was written can be read").expect("an entry for each node");
        assert_eq!(entry.path, path);
        assert_eq!((entry.mode, entry.selinux.as_deref()), (node.mode, node.selinux.as_deref()));
        let first = node.inode.and_then(|inode| first_names.get(&inode).cloned());
        if let (Some(inode), None) = (node.inode, &first) {
            first_names.insert(inode, path.to_vec());
        }
        let kind = match (&node.kind, first) {
            (_, Some(first)) => EntryKind::HardLink(first),
            (Kind::Directory, _) => EntryKind::Directory,
            (Kind::File(_), _) => EntryKind::File,
            (Kind::Symlink(target), _) => EntryKind::Symlink(target.to_vec()),
            (Kind::CharDevice { major, minor }, _) => EntryKind::CharDevice(*major, *minor),
            (Kind::BlockDevice { major, minor }, _) => EntryKind::BlockDevice(*major, *minor),
            (Kind::Fifo, _) => EntryKind::Fifo,
        };
        assert_eq!(entry.kind, kind);
        let mut contents = Vec::new();
        reader.read_to_end(&mut contents).expect("contents can be read");
        if entry.kind == EntryKind::File {
            assert!(node.contents().is_some_and(|file| bytes(file) == contents), "contents of {path:?}");
        }
    }
    let entry = reader.next_entry().expect("what was written can be read").expect("the last entry");
    assert_eq!((entry.path.as_slice(), entry.size), (&b"last"[..], last.len()));
    let end = last.len().next_multiple_of(512) + 1024;
    assert_eq!(reader.consumed().0 + end, archive.len());
    assert_eq!(archive.slice(archive.len() - end..archive.len() - end + last.len()), last);
});
