//! Trees of files out of the fuzzer's bytes.

use image_factory::format::tree::{FileTree, Kind, Node};

use super::Input;

/// Nodes at most.
const NODES: usize = 300;
/// Bytes of all files together at most.
const BYTES: u64 = 1 << 19;

/// Nodes of every kind until the input is used up; those that no tree can hold are left out.
///
/// A node is: kind and flags (1 byte), mode (2), a label where a flag says so, the path, and what the kind needs.
pub fn tree(input: &mut Input<'_>) -> FileTree {
    let mut tree = FileTree::new();
    let mut paths: Vec<&[u8]> = Vec::new();
    let mut left = BYTES;
    while !input.is_empty() && tree.len() < NODES {
        let (kind, mode) = (input.number(1), input.number(2) as u16);
        let label = (kind & 0x80 != 0).then(|| input.short()).filter(|label| !label.is_empty() && !label.contains(&0));
        let path = input.short();
        let device = |input: &mut Input<'_>| (input.number(2) as u32 & 0xfff, input.number(3) as u32 & 0xf_ffff);
        let kind = match kind & 7 {
            0 => Kind::Directory,
            1 => Kind::Symlink(input.short().to_vec().into()),
            2 => {
                let (major, minor) = device(input);
                Kind::CharDevice { major, minor }
            }
            3 => {
                let (major, minor) = device(input);
                Kind::BlockDevice { major, minor }
            }
            4 => Kind::Fifo,
            5 if !paths.is_empty() => {
                let target = paths[input.number(1) as usize % paths.len()];
                let _ = tree.link(target, path);
                continue;
            }
            _ => {
                let file = input.file(left);
                left = left.saturating_sub(file.len());
                Kind::File(file)
            }
        };
        let node = Node::new(mode, kind);
        let node = label.iter().fold(node, |node, label| node.with_selinux(label.to_vec()));
        if tree.insert(path, node).is_ok() {
            paths.push(path);
        }
    }
    tree
}
