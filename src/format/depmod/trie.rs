//! The binary index: a trie with compressed paths.

use super::index::Kmod;

const MAGIC: u32 = 0xB007_F457;
const VERSION: u32 = 0x0002_0001;
const PREFIX: u32 = 0x8000_0000;
const VALUES: u32 = 0x4000_0000;
const CHILDREN: u32 = 0x2000_0000;

/// A value with its priority.
type Value = (u32, Vec<u8>);

/// Keys with their values, in the order of insertion.
#[derive(Default)]
pub struct Trie {
    entries: Vec<(Vec<u8>, Value)>,
}

/// A part of the sorted keys below one node.
struct Node<'a> {
    prefix: &'a [u8],
    values: Vec<&'a Value>,
    /// Children by the character that leads to them.
    children: Vec<(u8, Node<'a>)>,
}

impl Trie {
    /// Adds a value; bytes of key and value beyond ASCII have no place in an index and are left out with their value.
    pub fn insert(&mut self, key: &[u8], value: &[u8], priority: u32) {
        if key.is_ascii() && value.is_ascii() {
            self.entries.push((key.to_vec(), (priority, value.to_vec())));
        }
    }

    /// The file.
    pub fn write(mut self, kmod: Kmod) -> Vec<u8> {
        // Among equal keys: ascending priority, and of one priority the last inserted first.
        self.entries.reverse();
        self.entries.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.0.cmp(&b.1.0)));
        let root = build(&self.entries, 0, 0);
        let mut out = Vec::new();
        for word in [MAGIC, VERSION, 0] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        let reference = if kmod == Kmod::V34 { parent_first(&root, &mut out) } else { children_first(&root, &mut out) };
        out[8..12].copy_from_slice(&reference.to_be_bytes());
        out
    }
}

/// The node of `entries`, which all begin with the same `start` characters; its prefix begins at `start`.
fn build(entries: &[(Vec<u8>, Value)], start: usize, depth: usize) -> Node<'_> {
    // The root has no prefix, every other node the longest that all its keys share.
    let end = match (depth, entries) {
        (0, _) | (_, []) => start,
        (_, [first, .., last]) => {
            let shared = first.0[start..].iter().zip(&last.0[start..]).take_while(|(a, b)| a == b).count();
            start + shared
        }
        (_, [only]) => only.0.len(),
    };
    let prefix = entries.first().map(|(key, _)| &key[start..end]).unwrap_or_default();
    let own = entries.partition_point(|(key, _)| key.len() == end);
    let values = entries[..own].iter().map(|(_, value)| value).collect();
    let mut children = Vec::new();
    let mut rest = &entries[own..];
    while let Some((first, _)) = rest.first() {
        let character = first[end];
        let (same, after) = rest.split_at(rest.partition_point(|(key, _)| key[end] == character));
        children.push((character, build(same, end + 1, depth + 1)));
        rest = after;
    }
    Node { prefix, values, children }
}

impl Node<'_> {
    /// First and last character of the children.
    fn span(&self) -> Option<(u8, u8)> {
        Some((self.children.first()?.0, self.children.last()?.0))
    }

    fn flags(&self) -> u32 {
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        flag(!self.prefix.is_empty(), PREFIX)
            | flag(!self.values.is_empty(), VALUES)
            | flag(!self.children.is_empty(), CHILDREN)
    }

    /// Writes the node without its subtrees, with references to its children in the order of their characters. Returns
    /// where the references stand.
    fn write(&self, references: &[u32], out: &mut Vec<u8>) -> usize {
        if !self.prefix.is_empty() {
            out.extend_from_slice(self.prefix);
            out.push(0);
        }
        let mut at = out.len();
        if let Some((first, last)) = self.span() {
            out.extend_from_slice(&[first, last]);
            at = out.len();
            let mut next = self.children.iter().map(|(character, _)| *character).zip(references).peekable();
            for character in first..=last {
                let reference = next.next_if(|(found, _)| *found == character).map_or(0, |(_, reference)| *reference);
                out.extend_from_slice(&reference.to_be_bytes());
            }
        }
        if !self.values.is_empty() {
            out.extend_from_slice(&(self.values.len() as u32).to_be_bytes());
            for (priority, text) in &self.values {
                out.extend_from_slice(&priority.to_be_bytes());
                out.extend_from_slice(text);
                out.push(0);
            }
        }
        at
    }
}

fn children_first(node: &Node<'_>, out: &mut Vec<u8>) -> u32 {
    let references: Vec<u32> = node.children.iter().map(|(_, child)| children_first(child, out)).collect();
    let at = out.len() as u32;
    node.write(&references, out);
    at | node.flags()
}

fn parent_first(node: &Node<'_>, out: &mut Vec<u8>) -> u32 {
    let at = out.len() as u32;
    let table = node.write(&vec![0; node.children.len()], out);
    if let Some((first, _)) = node.span() {
        for (character, child) in &node.children {
            let reference = parent_first(child, out);
            let slot = table + usize::from(character - first) * 4;
            out[slot..slot + 4].copy_from_slice(&reference.to_be_bytes());
        }
    }
    at | node.flags()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_kmods() {
        let trie = || {
            let mut trie = Trie::default();
            for (key, value, priority) in
                [("ab", "x", 0), ("abc", "y", 1), ("b", "z", 2), ("abc", "w", 1), ("abc", "v", 0)]
            {
                trie.insert(key.as_bytes(), value.as_bytes(), priority);
            }
            trie
        };
        assert_eq!(
            hex::encode(trie().write(Kmod::V33)),
            "b007f457000200012000003e00000003000000007600000000017700000000017900620063634000000c0000000100000000780000000001000000027a006162e000002240000034"
        );
        assert_eq!(
            hex::encode(trie().write(Kmod::V34)),
            "b007f457000200012000000c6162e00000164000003e6200636340000028000000010000000078000000000300000000760000000001770000000001790000000001000000027a00"
        );
        assert_eq!(hex::encode(Trie::default().write(Kmod::V34)), "b007f457000200010000000c");
    }
}
