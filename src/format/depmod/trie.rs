//! The binary index: a trie with compressed paths.

use super::index::Kmod;

const MAGIC: u32 = 0xB007_F457;
const VERSION: u32 = 0x0002_0001;
const PREFIX: u32 = 0x8000_0000;
const VALUES: u32 = 0x4000_0000;
const CHILDREN: u32 = 0x2000_0000;

/// Keys with their values, in the order of insertion. Quickest where that is nearly the order of the keys.
#[derive(Default)]
pub struct Trie<'a> {
    entries: Vec<Entry<'a>>,
}

/// A value under a key.
struct Entry<'a> {
    key: &'a [u8],
    priority: u32,
    value: &'a [u8],
}

/// Children of a node: the character that leads to each, and the reference to it.
type Children = Vec<(u8, u32)>;

impl<'a> Trie<'a> {
    /// Adds a value; key and value with characters beyond ASCII have no place in an index and are left out.
    pub fn insert(&mut self, key: &'a str, value: &'a str, priority: u32) {
        if key.is_ascii() && value.is_ascii() {
            self.entries.push(Entry { key: key.as_bytes(), priority, value: value.as_bytes() });
        }
    }

    /// The file.
    pub fn write(mut self, kmod: Kmod) -> Vec<u8> {
        self.entries.sort_by(|a, b| a.key.cmp(b.key));
        // Among equal keys: ascending priority, and of one priority the last inserted first.
        for same in self.entries.chunk_by_mut(|a, b| a.key == b.key).filter(|same| same.len() > 1) {
            same.reverse();
            same.sort_by_key(|entry| entry.priority);
        }
        let mut out = Vec::new();
        for word in [MAGIC, VERSION, 0] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        let reference = node(&self.entries, 0, true, kmod, &mut out);
        out[8..12].copy_from_slice(&reference.to_be_bytes());
        out
    }
}

/// Writes the node of sorted `entries`, which all begin with the same `start` characters, and those below it; its prefix
/// begins at `start`. Returns the reference to it.
fn node(entries: &[Entry<'_>], start: usize, root: bool, kmod: Kmod, out: &mut Vec<u8>) -> u32 {
    // The root has no prefix, every other node the longest that all its keys share.
    let end = match entries {
        _ if root => start,
        [] => start,
        [only] => only.key.len(),
        [first, .., last] => {
            let shared = first.key[start..].iter().zip(&last.key[start..]).take_while(|(a, b)| a == b).count();
            start + shared
        }
    };
    let prefix = entries.first().map(|entry| &entry.key[start..end]).unwrap_or_default();
    let (own, below) = entries.split_at(entries.partition_point(|entry| entry.key.len() == end));
    // From version 34 on parents stand before their children.
    let mut found = if kmod == Kmod::V34 { Children::new() } else { children(below, end, kmod, out) };
    let at = out.len() as u32;
    if !prefix.is_empty() {
        out.extend_from_slice(prefix);
        out.push(0);
    }
    let span = below.first().zip(below.last()).map(|(first, last)| (first.key[end], last.key[end]));
    let mut table = out.len();
    if let Some((first, last)) = span {
        out.extend_from_slice(&[first, last]);
        table = out.len();
        out.resize(table + (usize::from(last - first) + 1) * 4, 0);
    }
    if !own.is_empty() {
        out.extend_from_slice(&(own.len() as u32).to_be_bytes());
        for entry in own {
            out.extend_from_slice(&entry.priority.to_be_bytes());
            out.extend_from_slice(entry.value);
            out.push(0);
        }
    }
    if kmod == Kmod::V34 {
        found = children(below, end, kmod, out);
    }
    if let Some((first, _)) = span {
        for (character, reference) in found {
            let slot = table + usize::from(character - first) * 4;
            out[slot..slot + 4].copy_from_slice(&reference.to_be_bytes());
        }
    }
    let flag = |set: bool, flag: u32| if set { flag } else { 0 };
    at | flag(!prefix.is_empty(), PREFIX) | flag(!own.is_empty(), VALUES) | flag(span.is_some(), CHILDREN)
}

/// Writes the nodes of `entries`, which are alike before the character `at` and all have one there, with those below them.
fn children(entries: &[Entry<'_>], at: usize, kmod: Kmod, out: &mut Vec<u8>) -> Children {
    let mut found = Children::new();
    for same in entries.chunk_by(|a, b| a.key[at] == b.key[at]) {
        found.push((same[0].key[at], node(same, at + 1, false, kmod, out)));
    }
    found
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
                trie.insert(key, value, priority);
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
