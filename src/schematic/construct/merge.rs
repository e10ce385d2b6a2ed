//! Mappings: unique keys, and merge keys (`<<`), which take over the fields that the mapping does not have itself.

use std::collections::HashSet;
use std::collections::hash_map::{Entry, HashMap};

use super::{Construct, Step, shorten};
use crate::format::yaml::{Content, Id, Node, Text};

/// Keys that a mapping has already, by type and text.
pub(super) type Seen = HashSet<(u8, Vec<u8>)>;

impl<'a> Construct<'a> {
    /// A key as a member of [`Seen`]; collections cannot be keys.
    pub(super) fn key_of(&mut self, id: Id, key: &Node) -> Step<(u8, Vec<u8>)> {
        Ok(match key {
            Node::Null => (0, Vec::new()),
            Node::Bool(value) => (1, vec![u8::from(*value)]),
            Node::Int(value) => (2, value.to_le_bytes().to_vec()),
            Node::Uint(value) => (3, value.to_le_bytes().to_vec()),
            // Both zeros are one key.
            Node::Float(value) => (4, (value + 0.0).to_bits().to_le_bytes().to_vec()),
            Node::Timestamp(text) => (5, text.clone().into_bytes()),
            Node::String(text) => text_key(text),
            Node::Seq(_) | Node::Map(_) => {
                return self.stop(id, "a list or a mapping cannot be the key of a mapping");
            }
        })
    }

    /// Notes keys that come twice; `false` if there are any. In what our emitter wrote there are none: `1` and `"1"` in it
    /// are a number and a text.
    pub(super) fn unique_keys(&mut self, pairs: &[(Id, Id)]) -> Step<bool> {
        if self.tree.is_emitted() {
            return Ok(true);
        }
        let tree = self.tree;
        let mut first: HashMap<(u8, &str), Id> = HashMap::with_capacity(pairs.len());
        let mut unique = true;
        for (id, _) in pairs {
            // Keys are compared as they are written: `1` and `"1"` are one.
            let key = match &tree.node(*id).content {
                Content::Scalar { text, .. } => (0, text.as_str()),
                Content::Alias { name, .. } => (1, name.as_str()),
                Content::Seq(_) => (2, ""),
                Content::Map(_) => (3, ""),
            };
            match first.entry(key) {
                Entry::Vacant(entry) => {
                    entry.insert(*id);
                }
                Entry::Occupied(entry) => {
                    unique = false;
                    let line = self.mark(*entry.get()).line;
                    self.problem(*id, format!("the key {:?} is already there, on line {line}", shorten(key.1)))?;
                }
            }
        }
        Ok(unique)
    }

    /// Splits the value of a merge key off the pairs of a mapping.
    pub(super) fn split_merge(&self, pairs: &'a [(Id, Id)]) -> (impl Iterator<Item = (Id, Id)> + use<'a>, Option<Id>) {
        let tree = self.tree;
        let is_merge = move |id: Id| {
            let node = tree.node(id);
            matches!(node.content, Content::Scalar { .. }) && node.tag == "!!merge"
        };
        let merge = pairs.iter().rev().find(|(key, _)| is_merge(*key)).map(|(_, value)| *value);
        (pairs.iter().copied().filter(move |(key, _)| !is_merge(*key)), merge)
    }

    /// Reads the value of a merge key: a mapping, an alias of one, or a list of such. `apply` reads one of them, and skips
    /// what is in the set.
    pub(super) fn merge(
        &mut self,
        pairs: &'a [(Id, Id)],
        value: Id,
        outer: Option<&mut Seen>,
        apply: &mut dyn FnMut(&mut Self, Id, &mut Seen) -> Step<()>,
    ) -> Step<()> {
        let mut own = Seen::new();
        let seen = match outer {
            Some(seen) => seen,
            None => {
                for (id, _) in self.split_merge(pairs).0 {
                    if let Some(key) = self.any(id)? {
                        let key = self.key_of(id, &key)?;
                        own.insert(key);
                    }
                }
                &mut own
            }
        };
        match &self.tree.node(value).content {
            Content::Seq(items) => {
                for item in items {
                    self.want_map(*item)?;
                    apply(self, *item, seen)?;
                }
                Ok(())
            }
            _ => {
                self.want_map(value)?;
                apply(self, value, seen)
            }
        }
    }

    fn want_map(&mut self, id: Id) -> Step<()> {
        let target = match &self.tree.node(id).content {
            Content::Alias { target, .. } => *target,
            _ => id,
        };
        if matches!(self.tree.node(target).content, Content::Map(_)) {
            return Ok(());
        }
        let found = self.shown(id);
        self.stop(id, format!("the merge key << takes a mapping or a list of mappings, not {found}"))
    }
}

/// A text as a member of [`Seen`].
pub(super) fn text_key(text: &Text) -> (u8, Vec<u8>) {
    (6, text.as_bytes().to_vec())
}
