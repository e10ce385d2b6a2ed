//! FAT volumes of any size for any tree: refused, or laid out in the promised length with every file where it is said to be.
#![no_main]

use fuzz::{Input, hold_ranges};
use image_factory::format::fat::{Format, Options, lay_out};
use image_factory::format::tree::{FileTree, Node};
use image_factory::types::Digest;
use image_factory::virtual_file::VirtualFile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    // Sizes that are mostly possible: a power of two, and a few sectors more.
    let sector_size = match input.number(1) {
        number @ 0..=31 => 1 << number,
        number => 512 << (number % 4),
    };
    let size = (1u64 << (input.number(1) % 48)) + input.number(2) * u64::from(sector_size);
    let choice = input.number(1);
    let label = input.number(2).to_string();
    let options = Options {
        size,
        sector_size,
        format: [None, None, Some(Format::Fat16), Some(Format::Fat32)][(choice % 4) as usize],
        sectors_per_cluster: (choice & 4 != 0).then(|| 1 << (choice / 8 % 8)),
        alignment: 1u32 << (input.number(1) % 24),
        label: &label,
        serial: 1,
        mtime: input.number(4) as u32,
    };
    let mut tree = FileTree::new();
    while !input.is_empty() {
        let (kind, len, name) = (input.number(1), input.number(3), input.number(1) as usize);
        let path = input.bytes(name);
        let node = match kind {
            0 => Node::directory(0o755),
            1 => Node::symlink("x"),
            // One blob a file, so that no two are taken for each other.
            _ => {
                let digest = Digest::of(&tree.len().to_le_bytes());
                Node::file(kind as u16, VirtualFile::blob(digest, len << (kind % 16)))
            }
        };
        let _ = tree.insert(path, node);
    }
    let Ok(volume) = lay_out(&tree, &options) else { return };
    assert_eq!(volume.image.len(), size);
    for (path, node) in tree.iter() {
        let Some(contents) = node.contents().filter(|contents| !contents.is_empty()) else { continue };
        let at = volume.offsets[str::from_utf8(path).expect("a path that was laid out")];
        assert_eq!(at % u64::from(options.alignment), 0);
        assert_eq!(volume.image.slice(at..at + contents.len()), *contents);
    }
    hold_ranges(&volume.image, &mut Input::new(data));
});
