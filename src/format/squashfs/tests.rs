use std::io::{Cursor, Write};
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::format::tree::{FileTree, Kind, Node};
use crate::types::Digest;
use crate::virtual_file::NoBlobs;
use crate::virtual_file::VirtualFile;

const ALL: [Compression; 3] = [Compression::DEFAULT, Compression::Xz, Compression::Stored];

fn image(tree: &FileTree, compression: Compression) -> Vec<u8> {
    let mut out = Vec::new();
    let options = Options { compression, ..Options::default() };
    let written = write(tree, &options, &NoBlobs, &mut out).unwrap();
    assert_eq!(written.len, out.len() as u64);
    out
}

fn read(image: &[u8]) -> Result<FileTree, ReadError> {
    Squashfs::open(Cursor::new(image), Limits { entries: 7000, bytes: 16 << 20 })?.tree("", &mut store)
}

fn store(
    _: &[u8],
    size: u64,
    copy: &mut dyn FnMut(&mut dyn Write) -> std::io::Result<u64>,
) -> Result<VirtualFile, Box<dyn std::error::Error + Send + Sync>> {
    let mut bytes = Vec::new();
    assert_eq!(copy(&mut bytes)?, size);
    assert_eq!(bytes.len() as u64, size);
    Ok(VirtualFile::inline(bytes))
}

/// The tree with contents inline, and hard links numbered anew: so two trees of one meaning are equal.
fn plain(tree: &FileTree) -> Vec<(Vec<u8>, Node, Option<Vec<u8>>)> {
    let mut first: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut all = vec![(Vec::new(), tree.root().clone(), None)];
    for (path, node) in tree.iter() {
        let others = |inode| tree.iter().filter(|(_, node)| node.inode == Some(inode)).count() > 1;
        let link = node.inode.filter(|inode| others(*inode)).map(|inode| {
            match first.iter().find(|(known, _)| *known == inode) {
                Some((_, name)) => name.clone(),
                None => {
                    first.push((inode, path.to_vec()));
                    path.to_vec()
                }
            }
        });
        let kind = match &node.kind {
            Kind::File(file) => Kind::File(VirtualFile::inline(file.read_all(&NoBlobs).unwrap())),
            other => other.clone(),
        };
        all.push((path.to_vec(), Node { kind, inode: None, ..node.clone() }, link));
    }
    all
}

fn text(size: usize, seed: u32) -> VirtualFile {
    let mut state = seed | 1;
    let mut word = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 20
    };
    let mut out = Vec::new();
    while out.len() < size {
        out.extend_from_slice(format!("{:x} ", word()).as_bytes());
    }
    out.truncate(size);
    VirtualFile::inline(out)
}

/// One of everything that the format tells apart.
fn sample() -> FileTree {
    let mut tree = FileTree::new();
    let block = BLOCK_SIZE as usize;
    let mut file = |path: &str, mode, contents| tree.insert(path, Node::file(mode, contents)).unwrap();
    file("usr/local/bin/large", 0o755, text(3 * block + 17, 1));
    file("usr/local/bin/block", 0o4755, text(block, 2));
    file("usr/local/bin/small", 0o644, text(100, 3));
    file("usr/local/bin/copy", 0o600, text(100, 3));
    file("etc/empty", 0o600, VirtualFile::empty());
    file("etc/fills-a-fragment", 0o600, text(block - 50, 4));
    let holes = [VirtualFile::zeros(2 * block as u64), text(5, 5), VirtualFile::zeros(block as u64)];
    file("etc/holes", 0o644, VirtualFile::concat(holes));
    file("etc/zeros", 0o644, VirtualFile::zeros(4 * block as u64 + 3));
    tree.insert("usr/lib", Node::directory(0o1777).with_selinux("system_u:object_r:lib_t:s0")).unwrap();
    tree.insert("usr/lib/a", Node::file(0o644, text(9, 6)).with_selinux("system_u:object_r:bin_t:s0\0")).unwrap();
    tree.insert("usr/lib/b", Node::symlink("a").with_selinux("system_u:object_r:lib_t:s0")).unwrap();
    tree.insert("usr/lib/c", Node::symlink("t".repeat(4095))).unwrap();
    tree.link("usr/local/bin/large", "hard/one").unwrap();
    tree.link("usr/local/bin/large", "hard/two").unwrap();
    tree.link("usr/lib/b", "hard/symlink").unwrap();
    tree.insert("dev/null", Node::new(0o666, Kind::CharDevice { major: 1, minor: 3 })).unwrap();
    tree.insert("dev/disk", Node::new(0o660, Kind::BlockDevice { major: 259, minor: 70_000 })).unwrap();
    tree.insert("dev/pipe", Node::new(0o600, Kind::Fifo)).unwrap();
    tree.insert("n".repeat(255), Node::directory(0o700)).unwrap();
    for number in 0..3000 {
        tree.insert(format!("many/entry-with-a-longer-name-{number}"), Node::file(0o644, text(3, number))).unwrap();
    }
    tree.set_root(0o711, None);
    tree
}

#[test]
fn bytes_do_not_depend_on_how_many_processors_compress() {
    let mut tree = sample();
    let block = BLOCK_SIZE as usize;
    for n in 0..40 {
        let contents = match n % 3 {
            0 => text(block * n / 7, n as u32),
            1 => VirtualFile::concat([text(block, n as u32), VirtualFile::zeros(2 * BLOCK_SIZE as u64), text(9, 9)]),
            _ => text(block / 5, n as u32),
        };
        tree.insert(format!("usr/share/{n}"), Node::file(0o644, contents)).unwrap();
    }
    for compression in [Compression::Zstd { level: 3 }, Compression::DEFAULT, Compression::Stored, Compression::Xz] {
        let made = |processors| {
            let (mut out, options) = (Vec::new(), Options { compression, ..Options::default() });
            write::write_with(&tree, &options, &NoBlobs, &mut out, processors).unwrap();
            Digest::of(&out)
        };
        let one = made(1);
        assert!((2..5).all(|processors| made(processors) == one), "{compression:?}");
    }
}

#[test]
fn what_is_written_comes_back() {
    let tree = sample();
    // The hard-linked symlink's label is that of the first path which has one; all names get it.
    let mut expected = plain(&tree);
    for (path, node, _) in &mut expected {
        if path == b"hard/symlink" {
            node.selinux = Some("system_u:object_r:lib_t:s0".into());
        }
    }
    for compression in ALL {
        let image = image(&tree, compression);
        assert_eq!(image.len() % 4096, 0);
        let found = plain(&read(&image).unwrap());
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert!(found == expected, "{compression:?} {:?}", String::from_utf8_lossy(&expected.0));
        }
    }
}

#[test]
fn block_sizes() {
    let mut tree = FileTree::new();
    tree.insert("file", Node::file(0o644, text(3 << 20, 1))).unwrap();
    tree.insert("small", Node::file(0o644, text(5000, 2))).unwrap();
    for block_size in [4096, 1 << 20] {
        let mut out = Vec::new();
        write(&tree, &Options { block_size, ..Options::default() }, &NoBlobs, &mut out).unwrap();
        assert_eq!(plain(&read(&out).unwrap()), plain(&tree));
    }
    for block_size in [0, 2048, 5000, 2 << 20] {
        let error = write(&tree, &Options { block_size, ..Options::default() }, &NoBlobs, &mut Vec::new());
        assert!(matches!(error, Err(WriteError::BlockSize(size)) if size == block_size));
    }
}

/// Changes only with the compressors' versions or with our layout; either changes the digests of what is served.
#[test]
fn images_are_the_same_as_ever() {
    let digests: Vec<_> = ALL.map(|compression| Digest::of(&image(&sample(), compression)).hex()).to_vec();
    assert_eq!(
        digests,
        [
            "5cc002ca49db2a08448a0482458d06e4f136f41a1c169f4451eb8e5856fbd170",
            "e9b3d81ea757ff9d2a63fd4d9107755ff55cdc33ce1f7de1d7dc4c8d8952b1d8",
            "dc823d74d577c100f3530c517dbcc8b1ac4f563c0a508a4673c705cdbf7e9d85"
        ]
    );
}

#[test]
fn one_path_is_found_without_a_walk() {
    let image = image(&sample(), Compression::DEFAULT);
    let mut squashfs = Squashfs::open(Cursor::new(&image), Limits::default()).unwrap();
    assert_eq!(
        squashfs.read_file("usr/local/bin/small", 100).unwrap().unwrap(),
        text(100, 3).read_all(&NoBlobs).unwrap()
    );
    assert!(matches!(squashfs.read_file("usr/local/bin/small", 99), Err(ReadError::TooMuch(_))));
    for path in ["usr/local/bin/no", "usr/local/bin/small/no", "no/no", "usr"] {
        assert_eq!(squashfs.read_file(path, 100).unwrap(), None, "{path}");
    }
    assert_eq!(squashfs.find("many").unwrap().unwrap().kind, FoundKind::Directory);
    assert_eq!(squashfs.find("").unwrap().unwrap().mode, 0o711);
    let paths: Vec<_> = squashfs.walk("usr/local").unwrap().into_iter().map(|found| found.path).collect();
    assert_eq!(paths.len(), 6);
    assert_eq!(paths[2], b"usr/local/bin/block");
    assert!(squashfs.walk("usr/no").unwrap().is_empty());
    let large = squashfs.find("hard/one").unwrap().unwrap();
    assert_eq!(large.links, 3);
    let tree = squashfs.tree("usr/lib", &mut store).unwrap();
    let paths: Vec<_> = tree.iter().map(|(path, _)| path.to_vec()).collect();
    assert_eq!(paths, [&b"usr"[..], b"usr/lib", b"usr/lib/a", b"usr/lib/b", b"usr/lib/c"]);
}

#[test]
fn equal_contents_are_stored_once() {
    let mut tree = FileTree::new();
    tree.insert("a", Node::file(0o644, text(1 << 20, 1))).unwrap();
    let one = image(&tree, Compression::Stored).len();
    tree.insert("b", Node::file(0o600, text(1 << 20, 1))).unwrap();
    assert!(image(&tree, Compression::Stored).len() <= one + 4096);
}

#[test]
fn limits_hold_and_errors_name_the_cause() {
    let image = image(&sample(), Compression::DEFAULT);
    let walk = |limits| Squashfs::open(Cursor::new(&image), limits).and_then(|mut image| image.walk(""));
    let error = walk(Limits { entries: 1000, bytes: 1 << 30 }).unwrap_err().to_string();
    assert_eq!(error, "squashfs: more than 1000 entries");
    let error = walk(Limits { entries: 9000, bytes: 1 << 20 }).unwrap_err().to_string();
    assert!(error.contains("more than 1048576 bytes"), "{error}");
    let open = |bytes: &[u8]| Squashfs::open(Cursor::new(bytes.to_vec()), Limits::default()).map(|_| ());
    assert!(matches!(open(&image[..50]), Err(ReadError::Io { .. })));
    assert!(open(&[0; 96]).unwrap_err().to_string().contains("\"hsqs\""));
    let mut lz4 = image.clone();
    lz4[20] = 5;
    assert!(open(&lz4).unwrap_err().to_string().contains("compressed with lz4"));
    lz4[28] = 3;
    assert!(open(&lz4).unwrap_err().to_string().contains("version is 3.0"));
    assert!(read(&image[..image.len() / 2]).is_err());
}

#[test]
fn contents_that_cannot_be_read_fail_the_image() {
    let mut tree = FileTree::new();
    tree.insert("a/b", Node::file(0o644, VirtualFile::blob(Digest::of(b"x"), 10))).unwrap();
    let error = write(&tree, &Options::default(), &NoBlobs, &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("\"a/b\"") && error.contains("not in the store"), "{error}");
}

prop_compose! {
    fn any_node()(kind in 0..6, mode in 0_u16..0o10000, size in 0_usize..300_000, seed: u32,
                  label in proptest::option::of("[a-z]{1,20}")) -> Node {
        let node = match kind {
            0 => Node::directory(mode),
            1 => Node::symlink(format!("{seed}")),
            2 => Node::new(mode, Kind::CharDevice { major: seed & 0xfff, minor: seed >> 12 }),
            _ => Node::file(mode, text(if seed.is_multiple_of(3) { size } else { size % 2000 }, seed)),
        };
        match label {
            Some(label) => node.with_selinux(label),
            None => node,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_tree_survives(nodes in proptest::collection::vec(("[a-c]{1,2}(/[a-c]{1,2}){0,3}", any_node()), 0..20),
                         links in proptest::collection::vec((any::<u8>(), "[d-f]{1,2}"), 0..3), which in 0_usize..3) {
        let mut tree = FileTree::new();
        for (path, node) in nodes {
            let _ = tree.insert(path, node);
        }
        let files: Vec<_> =
            tree.iter().filter(|(_, node)| !node.is_directory()).map(|(path, _)| path.to_vec()).collect();
        for (pick, name) in links {
            if !files.is_empty() {
                tree.link(&files[usize::from(pick) % files.len()], name).unwrap();
            }
        }
        prop_assert_eq!(plain(&read(&image(&tree, ALL[which])).unwrap()), plain(&tree));
    }
}

/// Images of a small tree that leads through every kind of inode.
static SMALL: LazyLock<[Vec<u8>; 3]> = LazyLock::new(|| {
    let mut tree = sample();
    for large in ["many", "etc/holes", "etc/zeros", "etc/fills-a-fragment", "hard", "usr/local/bin/large"] {
        tree.remove(large);
    }
    tree.link("usr/lib/a", "z").unwrap();
    ALL.map(|compression| image(&tree, compression))
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn mutated_images_never_panic(which in 0_usize..3, cut in any::<u16>(),
                                  changes in proptest::collection::vec((any::<u32>(), any::<u8>()), 1..8)) {
        let mut image = SMALL[which].clone();
        for (at, value) in changes {
            // Half of the changes hit the superblock and the tables, which are at the two ends.
            let at = at as usize;
            let len = image.len();
            let at = match at % 4 {
                0 => at % 96,
                1 => len - 1 - at % 6000,
                _ => at % len,
            };
            image[at] = value;
        }
        if cut.is_multiple_of(5) {
            let len = image.len();
            image.truncate(usize::from(cut) % len);
        }
        let _ = read(&image);
    }

    #[test]
    fn foreign_bytes_never_panic(mut data in proptest::collection::vec(any::<u8>(), 100..600), stored: bool) {
        data[..4].copy_from_slice(b"hsqs");
        data[12..16].copy_from_slice(&4096_u32.to_le_bytes());
        data[20] = [1, 4, 6][usize::from(data[20] % 3)];
        data[21] = 0;
        data[28..32].copy_from_slice(&[4, 0, 0, 0]);
        data[32..40].fill(0);
        let len = data.len() as u64;
        data[40..48].copy_from_slice(&len.to_le_bytes());
        if stored {
            data[64..72].copy_from_slice(&96_u64.to_le_bytes());
            data[97] |= 0x80;
        }
        let _ = read(&data);
    }
}
