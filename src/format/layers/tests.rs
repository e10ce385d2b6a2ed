use std::io::Write;

use proptest::prelude::*;

use super::*;
use crate::format::tar::Layout;
use crate::virtual_file::{NoBlobs, ReadBlob};

/// An entry of a test layer.
enum E {
    File(&'static str, &'static str),
    Dir(&'static str),
    Symlink(&'static str, &'static str),
    /// Name, then target.
    Link(&'static str, &'static str),
}

fn layer(entries: &[E]) -> Vec<u8> {
    let mut parts = Vec::new();
    for entry in entries {
        let mut layout = Layout::new(0);
        match entry {
            E::File(path, text) => layout.add_file(path, 0o644, VirtualFile::inline(text.to_string())).unwrap(),
            E::Dir(path) => layout.add_directory(path, 0o750).unwrap(),
            E::Symlink(path, target) => layout.add(path, &Node::symlink(target.to_string())).unwrap(),
            E::Link(path, target) => {
                // A tree would put the target in front: only the link's own header is wanted.
                layout.add(path, &Node::symlink(target.to_string())).unwrap();
            }
        }
        let mut bytes = layout.finish().read_all(&NoBlobs).unwrap().to_vec();
        bytes.truncate(bytes.len() - 1024);
        if let E::Link(..) = entry {
            bytes[156] = b'1';
            bytes[148..156].fill(b' ');
            let sum: u32 = bytes[..512].iter().map(|byte| u32::from(*byte)).sum();
            bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        parts.extend(bytes);
    }
    parts.resize(parts.len() + 1024, 0);
    parts
}

fn store(_: &[u8], _: u64, contents: &mut dyn Read) -> Result<VirtualFile, Box<dyn std::error::Error + Send + Sync>> {
    let mut bytes = Vec::new();
    contents.read_to_end(&mut bytes)?;
    Ok(VirtualFile::inline(bytes))
}

fn apply_with(layers: &[Vec<u8>], wanted: &dyn Fn(&[u8]) -> bool) -> Result<FileTree, LayerError> {
    let mut all = Layers::new(Limits { bytes: 1 << 20, entries: 100 }, wanted);
    for layer in layers {
        all.apply(&layer[..], &mut store)?;
    }
    Ok(all.into_tree())
}

fn apply(layers: &[Vec<u8>]) -> Result<FileTree, LayerError> {
    apply_with(layers, &|_| true)
}

/// Paths with their text, `/` for directories, `-> target` for symlinks.
fn show(tree: &FileTree) -> Vec<String> {
    tree.iter()
        .map(|(path, node)| {
            let what = match &node.kind {
                Kind::File(file) => format!("={}", String::from_utf8_lossy(&file.read_all(&NoBlobs).unwrap())),
                Kind::Symlink(target) => format!(" -> {}", String::from_utf8_lossy(target)),
                Kind::Directory => "/".to_owned(),
                other => format!(" {other:?}"),
            };
            format!("{}{what}", String::from_utf8_lossy(path))
        })
        .collect()
}

#[test]
fn later_layers_replace_and_whiteouts_remove() {
    use E::*;
    let tree = apply(&[
        layer(&[Dir("./"), Dir("a"), File("a/x", "1"), File("a/y", "1"), Dir("b"), File("b/c/z", "1"), File("f", "1")]),
        layer(&[
            File("a/.wh.x", ""),
            File("a/y", "2"),
            Dir("f"),
            File("f/in", "2"),
            File(".wh.b", ""),
            File("a/.wh.no", ""),
        ]),
    ])
    .unwrap();
    assert_eq!(show(&tree), ["a/", "a/y=2", "f/", "f/in=2"]);
    assert_eq!(tree.root().mode, 0o750);
}

#[test]
fn opaque_whiteouts_hide_lower_layers_only() {
    use E::*;
    for marker_first in [false, true] {
        let marker = || File("d/.wh..wh..opq", "");
        let mut upper = vec![File("d/new", "2"), File("d/sub/new", "2"), Dir("d")];
        upper.insert(if marker_first { 0 } else { 3 }, marker());
        let lower = layer(&[Dir("d"), File("d/old", "1"), File("d/sub/old", "1"), File("de", "1")]);
        let tree = apply(&[lower, layer(&upper)]).unwrap();
        assert_eq!(show(&tree), ["d/", "d/new=2", "d/sub/", "d/sub/new=2", "de=1"]);
    }
    let tree = apply(&[layer(&[File("x/y", "1")]), layer(&[File(".wh..wh..opq", ""), File("n", "2")])]).unwrap();
    assert_eq!(show(&tree), ["n=2"]);
    // A whiteout does not hide what its own layer has.
    let tree = apply(&[layer(&[File("f", "1")]), layer(&[File("f", "2"), File(".wh.f", "")])]).unwrap();
    assert_eq!(show(&tree), ["f=2"]);
    assert!(matches!(apply(&[layer(&[File(".wh.", "")])]), Err(LayerError::Whiteout { .. })));
    assert!(matches!(apply(&[layer(&[File("a/.wh...", "")])]), Err(LayerError::Whiteout { .. })));
}

#[test]
fn hard_links_reach_into_lower_layers_and_outlive_their_target() {
    use E::*;
    let tree = apply(&[
        layer(&[File("a", "1"), Link("b", "./a")]),
        layer(&[Link("d/c", "/b"), File(".wh.a", ""), File("b", "2")]),
    ])
    .unwrap();
    assert_eq!(show(&tree), ["b=2", "d/", "d/c=1"]);
    let tree = apply(&[layer(&[File("a", "1"), Link("b", "a")])]).unwrap();
    assert_eq!(tree.get("a").unwrap().inode, tree.get("b").unwrap().inode);
    let error = apply(&[layer(&[Link("b", "a")])]).unwrap_err().to_string();
    assert_eq!(error, "layer 0: hard link \"b\": its target \"a\" is not there");
}

#[test]
fn symlinked_parents_are_followed_inside_the_root() {
    use E::*;
    let tree = apply(&[
        layer(&[Dir("usr/lib"), Symlink("lib", "usr/lib"), Symlink("up", "../../../usr"), Symlink("abs", "/lib/x")]),
        layer(&[
            File("lib/m", "1"),
            File("up/bin/p", "1"),
            Dir("usr/lib/x"),
            File("abs/deep", "1"),
            Link("l", "lib/m"),
        ]),
    ])
    .unwrap();
    assert_eq!(
        show(&tree),
        [
            "abs -> /lib/x",
            "l=1",
            "lib -> usr/lib",
            "up -> ../../../usr",
            "usr/",
            "usr/bin/",
            "usr/bin/p=1",
            "usr/lib/",
            "usr/lib/m=1",
            "usr/lib/x/",
            "usr/lib/x/deep=1"
        ]
    );
    let round = layer(&[Symlink("a", "b"), Symlink("b", "a"), File("a/x", "")]);
    assert!(matches!(apply(&[round]), Err(LayerError::Symlinks { .. })));
    let under_file = layer(&[File("a", ""), File("a/b", "")]);
    let error = apply(&[under_file]).unwrap_err().to_string();
    assert_eq!(error, "layer 0: \"a/b\": its parent \"a\" is not a directory");
}

#[test]
fn unwanted_files_are_never_stored() {
    use E::*;
    let layers = [
        layer(&[File("keep/a", "1"), File("skip/a", "1"), Link("skip/b", "skip/a"), Link("keep/b", "keep/a")]),
        layer(&[File("keep/c", "2"), File("skip/.wh.a", ""), Link("keep/d", "skip/b")]),
    ];
    let wanted = |path: &[u8]| path.starts_with(b"keep/");
    let tree = apply_with(&layers[..1], &wanted).unwrap();
    assert_eq!(show(&tree), ["keep/", "keep/a=1", "keep/b=1"]);
    let error = apply_with(&layers, &wanted).unwrap_err().to_string();
    assert_eq!(error, "layer 1: hard link \"keep/d\": its target \"skip/b\" was left out");
}

#[test]
fn compressed_layers_and_bombs() {
    use E::*;
    let plain = layer(&[File("a", "1"), File("b", "2")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&plain).unwrap();
    let (gzip, zstd) = (gzip.finish().unwrap(), zstd::encode_all(&plain[..], 3).unwrap());
    for bytes in [plain.clone(), gzip.clone(), zstd] {
        assert_eq!(show(&apply(&[bytes]).unwrap()), ["a=1", "b=2"]);
    }
    assert!(apply(&[gzip[..gzip.len() / 2].to_vec()]).unwrap_err().to_string().contains("layer 0"));
    let mut bomb = Layout::new(0);
    bomb.add_file("zeros", 0o644, VirtualFile::zeros(64 << 20)).unwrap();
    let bomb = bomb.finish();
    let bomb = zstd::encode_all(bomb.reader(&NoBlobs as &dyn ReadBlob), 1).unwrap();
    let error = apply(&[bomb]).unwrap_err().to_string();
    assert!(error.contains("\"zeros\" has 67108864 bytes, which is beyond the limit"), "{error}");
    // The limits are those of all layers together.
    let many: Vec<_> = (0..60).map(|_| plain.clone()).collect();
    assert!(apply(&many).unwrap_err().to_string().contains("layer 50"));
}

#[test]
fn what_the_store_says_comes_back() {
    let mut layers = Layers::new(Limits::default(), &|_| true);
    let tar = layer(&[E::File("a", "1")]);
    let error = layers.apply(&tar[..], &mut |_, _, _| Err("disk full".into())).unwrap_err().to_string();
    assert_eq!(error, "layer 0: storing \"a\": disk full");
}

proptest! {
    #[test]
    fn trees_survive_a_layer(names in proptest::collection::btree_map("[a-c]{1,2}(/[a-c]{1,2}){0,2}", "[a-z]{0,3}", 0..12)) {
        let mut tree = FileTree::new();
        for (name, text) in &names {
            let _ = tree.insert(name, Node::file(0o640, VirtualFile::inline(text.clone())));
        }
        let mut layout = Layout::new(0);
        layout.add_tree("", &tree).unwrap();
        let tar = layout.finish().read_all(&NoBlobs).unwrap().to_vec();
        prop_assert_eq!(apply(&[tar]).unwrap(), tree);
    }

    #[test]
    fn mutated_layers_never_panic(changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6), mend: bool) {
        use E::*;
        let mut tar = layer(&[Dir("a"), File("a/x", "1"), Symlink("s", "a"), Link("s/l", "a/x"), File("s/.wh..wh..opq", "")]);
        for (at, value) in changes {
            let at = at % tar.len();
            tar[at] = value;
            if mend {
                let block = &mut tar[at / 512 * 512..][..512];
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        let _ = apply(&[tar.clone(), tar]);
    }
}
