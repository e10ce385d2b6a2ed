use proptest::prelude::*;

use super::*;

fn file(text: &str) -> Node {
    Node::file(0o644, VirtualFile::inline(text.to_owned()))
}

fn paths(tree: &FileTree) -> Vec<String> {
    tree.iter().map(|(path, _)| String::from_utf8_lossy(path).into_owned()).collect()
}

#[test]
fn a_walk_enters_a_directory_before_its_longer_neighbours() {
    let mut tree = FileTree::new();
    for path in ["a-b", "a/z", "a.c", "b", "a/b/c"] {
        tree.insert(path, file("")).unwrap();
    }
    assert_eq!(paths(&tree), ["a", "a/b", "a/b/c", "a/z", "a-b", "a.c", "b"]);
    assert_eq!(tree.get("a/b").unwrap().mode, 0o755);
    assert!(tree.get("a/b").unwrap().is_directory());
    let under: Vec<_> = tree.iter_under("a").map(|(path, _)| path.to_vec()).collect();
    assert_eq!(under, [&b"a"[..], b"a/b", b"a/b/c", b"a/z"]);
    assert_eq!(tree.iter_under("").count(), 0);
}

#[test]
fn paths_that_leave_the_tree_are_refused() {
    let long = "x".repeat(256);
    for path in ["", "/", "/a", "a//b", "./a", "a/../b", "..", "a\0b", long.as_str(), &"a/".repeat(3000)] {
        assert!(matches!(FileTree::new().insert(path, file("")), Err(TreeError::Path(_))), "{path:?}");
    }
    FileTree::new().insert("a/", Node::directory(0o700)).unwrap();
}

#[test]
fn replacing_keeps_directories_and_drops_subtrees() {
    let mut tree = FileTree::new();
    tree.insert("d/x", file("1")).unwrap();
    tree.insert("d", Node::directory(0o700)).unwrap();
    assert_eq!(paths(&tree), ["d", "d/x"]);
    assert_eq!(tree.get("d").unwrap().mode, 0o700);
    assert_eq!(
        tree.insert("d/x/y/z", file("")),
        Err(TreeError::ParentNotDirectory { path: "d/x/y/z".into(), parent: "d/x".into() })
    );
    tree.insert("d", Node::symlink("e")).unwrap();
    assert_eq!(paths(&tree), ["d"]);
    assert!(matches!(tree.insert("l", Node::symlink("")), Err(TreeError::SymlinkTarget { len: 0, .. })));
}

#[test]
fn remove_and_clear_take_subtrees_only() {
    let mut tree = FileTree::new();
    for path in ["a/b/c", "a/b/d", "a/bc", "e"] {
        tree.insert(path, file("")).unwrap();
    }
    tree.clear_below("a/b");
    assert_eq!(paths(&tree), ["a", "a/b", "a/bc", "e"]);
    assert!(tree.remove("a").unwrap().is_directory());
    assert_eq!(paths(&tree), ["e"]);
    assert!(tree.remove("a").is_none());
    tree.clear_below("");
    assert!(tree.is_empty());
}

#[test]
fn links_share_an_inode_number() {
    let mut tree = FileTree::new();
    tree.insert("a", file("x")).unwrap();
    tree.insert("c", file("x")).unwrap();
    tree.link("a", "b/l").unwrap();
    tree.link("b/l", "m").unwrap();
    tree.link("c", "n").unwrap();
    let inode = |path: &str| tree.get(path).unwrap().inode;
    assert_eq!([inode("a"), inode("b/l"), inode("m"), inode("c"), inode("n")], [0, 0, 0, 1, 1].map(Some));
    // A link to itself takes no number that the next one would get, too.
    tree.insert("self", file("s")).unwrap();
    tree.link("self", "self").unwrap();
    tree.insert("other", file("o")).unwrap();
    tree.link("other", "other's").unwrap();
    assert_eq!(tree.get("self").unwrap().inode, None);
    assert!(matches!(tree.link("no", "x"), Err(TreeError::LinkTarget { what: "not there", .. })));
    assert!(matches!(tree.link("b", "x"), Err(TreeError::LinkTarget { what: "a directory", .. })));
}

#[test]
fn splitting_off_keeps_whole_paths_and_parents() {
    let mut tree = FileTree::new();
    tree.insert("usr", Node::directory(0o750)).unwrap();
    tree.insert("usr/lib/firmware/i915/a.bin", file("fw")).unwrap();
    tree.insert("usr/lib/firmware-x", file("")).unwrap();
    let firmware = tree.split_off("usr/lib/firmware");
    assert_eq!(paths(&tree), ["usr", "usr/lib", "usr/lib/firmware-x"]);
    assert_eq!(
        paths(&firmware),
        ["usr", "usr/lib", "usr/lib/firmware", "usr/lib/firmware/i915", "usr/lib/firmware/i915/a.bin"]
    );
    assert_eq!(firmware.get("usr").unwrap().mode, 0o750);
    assert!(tree.split_off("usr/lib/firmware").is_empty());
    let sub = firmware.subtree("usr/lib").unwrap();
    assert_eq!(paths(&sub), ["firmware", "firmware/i915", "firmware/i915/a.bin"]);
    assert!(firmware.subtree("usr/lib/firmware/i915/a.bin").is_none());
}

proptest! {
    #[test]
    fn order_is_that_of_components_and_parents_are_there(
        names in proptest::collection::vec("[a-c./-]{1,6}", 0..20)
    ) {
        let mut tree = FileTree::new();
        for name in &names {
            let _ = tree.insert(name, Node::directory(0o755));
        }
        let listed: Vec<Vec<Vec<u8>>> =
            tree.iter().map(|(path, _)| path.split(|b| *b == b'/').map(<[u8]>::to_vec).collect()).collect();
        let mut sorted = listed.clone();
        sorted.sort();
        prop_assert_eq!(&listed, &sorted);
        for path in &listed {
            prop_assert!(path.len() == 1 || listed.contains(&path[..path.len() - 1].to_vec()));
        }
    }
}
