//! XFS volumes of any size for any tree: refused, or laid out in the promised length with every file where it is said to be,
//! and no two bytes in one place.
#![no_main]

use image_factory::format::tree::{FileTree, Node};
use image_factory::format::xfs::{Options, SIZE_MAX, SIZE_MIN, lay_out};
use image_factory::types::Digest;
use image_factory::virtual_file::VirtualFile;

/// Numbers from the front of the data; zeros when it is used up.
fn take(data: &mut &[u8], len: usize) -> u64 {
    let (front, rest) = data.split_at(len.min(data.len()));
    *data = rest;
    front.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let sector_size = match take(&mut data, 1) {
        number @ 0..=31 => 1 << number,
        number => [512, 4096][(number % 2) as usize],
    };
    // Sizes that are mostly possible: the least or a power of two, and some sectors more.
    let least = match take(&mut data, 1) % 64 {
        number @ 0..=43 => (1 << number).max(SIZE_MIN),
        44 => 0,
        45 => SIZE_MIN - 512,
        46 => SIZE_MAX,
        47 => u64::MAX >> 10,
        _ => SIZE_MIN,
    };
    let size = least + take(&mut data, 3) * u64::from(sector_size);
    let label = take(&mut data, 4).to_string();
    let mtime = take(&mut data, 4) as u32;
    let mut tree = FileTree::new();
    tree.set_root(take(&mut data, 2) as u16, None);
    while !data.is_empty() {
        let (kind, len, name) = (take(&mut data, 1), take(&mut data, 3), take(&mut data, 1) as usize);
        let (path, rest) = data.split_at(name.min(data.len()));
        data = rest;
        let node = match kind {
            0 => Node::directory(len as u16),
            1 => Node::symlink("x"),
            // One blob a file, so that no two are taken for each other.
            _ => {
                let digest = Digest::of(&tree.len().to_le_bytes());
                Node::file(kind as u16, VirtualFile::blob(digest, len << (kind % 24)))
            }
        };
        let _ = tree.insert(path, node);
    }
    let options = Options { size, sector_size, label: &label, uuid: [7; 16], mtime };
    let Ok(volume) = lay_out(&tree, &options) else { return };
    assert_eq!(volume.image.len(), size);
    let mut taken = Vec::new();
    for (path, node) in tree.iter() {
        let Some(contents) = node.contents().filter(|contents| !contents.is_empty()) else { continue };
        let ranges = &volume.extents[str::from_utf8(path).expect("a path that was laid out")];
        let found = VirtualFile::concat(ranges.iter().map(|range| volume.image.slice(range.clone())));
        assert_eq!(found, *contents);
        assert!(ranges.iter().all(|range| range.start % 4096 == 0));
        taken.extend(ranges.iter().cloned());
    }
    taken.sort_by_key(|range| range.start);
    assert!(taken.windows(2).all(|two| two[0].end <= two[1].start));
});
