//! Free-form values: the overlay's options.

use std::collections::HashMap;

use super::merge::Seen;
use super::scalar::Scalar;
use super::{Construct, Step};
use crate::format::yaml::{Content, Id, Node, Text, sort_pairs};

/// A mapping that is being read: pairs, and where each key is.
#[derive(Default)]
struct Pairs {
    pairs: Vec<(Node, Node)>,
    places: HashMap<(u8, Vec<u8>), usize>,
}

impl<'a> Construct<'a> {
    /// The overlay's options: a mapping whose keys are texts. `None` for null, and for what is none (that is noted).
    pub(super) fn options(&mut self, id: Id, what: &str) -> Step<Option<Vec<(Node, Node)>>> {
        self.follow(id, |this, id, content| match content {
            Content::Map(pairs) => {
                let mut out = Pairs::default();
                if !this.pairs_into(pairs, true, &mut out, None)? {
                    return Ok(None);
                }
                Ok(Some(this.sort(out.pairs)))
            }
            Content::Scalar { text, quoted }
                if matches!(this.scalar(id, text, *quoted)?, Scalar::Typed(Node::Null, _) | Scalar::Merge(_)) =>
            {
                Ok(None)
            }
            _ => {
                let found = this.shown(id);
                this.problem(id, format!("{what} takes a mapping, not {found}"))?;
                Ok(None)
            }
        })
    }

    /// Any value; `None` for a merge key in a value's place, which the reference drops, and for what was refused.
    pub(super) fn any(&mut self, id: Id) -> Step<Option<Node>> {
        self.follow(id, |this, id, content| {
            Ok(match content {
                Content::Scalar { text, quoted } => match this.scalar(id, text, *quoted)? {
                    Scalar::Typed(node, _) => Some(node),
                    Scalar::Str(text) | Scalar::Unknown(text) => Some(Node::string(text)),
                    Scalar::Binary(bytes) => Some(Node::String(Text::from_bytes(bytes))),
                    Scalar::Merge(_) => None,
                },
                Content::Seq(items) => {
                    let mut out = Vec::with_capacity(items.len());
                    for item in items {
                        out.extend(this.any(*item)?);
                    }
                    Some(Node::Seq(out))
                }
                Content::Map(pairs) => {
                    let text_keys = pairs.iter().all(|(key, _)| this.is_text_key(*key));
                    let mut out = Pairs::default();
                    this.pairs_into(pairs, text_keys, &mut out, None)?.then(|| Node::Map(this.sort(out.pairs)))
                }
                Content::Alias { .. } => None, // followed already
            })
        })
    }

    /// Puts pairs into canonical order; what our emitter wrote has it.
    fn sort(&self, pairs: Vec<(Node, Node)>) -> Vec<(Node, Node)> {
        if self.tree.is_emitted() { pairs } else { sort_pairs(pairs) }
    }

    fn is_text_key(&self, id: Id) -> bool {
        let node = self.tree.node(id);
        match &node.content {
            Content::Alias { target, .. } => self.is_text_key(*target),
            Content::Scalar { .. } => matches!(&*node.tag, "!!str" | "!!merge" | "!"),
            Content::Seq(_) | Content::Map(_) => false,
        }
    }

    /// Adds the pairs of a mapping to `out`; with `text_keys`, each key counts as the text that is written. `false` where
    /// the mapping was refused.
    fn pairs_into(
        &mut self,
        pairs: &'a [(Id, Id)],
        text_keys: bool,
        out: &mut Pairs,
        mut merged: Option<&mut Seen>,
    ) -> Step<bool> {
        if !self.unique_keys(pairs)? {
            return Ok(false);
        }
        let (own, merge) = self.split_merge(pairs);
        for (id, value) in own {
            let key = if text_keys { self.text(id, "a key")?.map(Node::String) } else { self.any(id)? };
            let Some(key) = key else { continue };
            let place = self.key_of(id, &key)?;
            if let Some(seen) = merged.as_deref_mut()
                && !seen.insert(place.clone())
            {
                continue;
            }
            let Some(mut value) = self.any(value)? else { continue };
            if matches!(key, Node::Float(number) if number.is_nan()) {
                value = Node::Null; // the reference cannot find it again when it writes
            }
            match out.places.get(&place) {
                // `1` and `1.0` are two keys, which are written alike.
                Some(at) if !self.tree.is_emitted() => out.pairs[*at].1 = value,
                _ => {
                    out.places.insert(place, out.pairs.len());
                    out.pairs.push((key, value));
                }
            }
        }
        if let Some(value) = merge {
            self.merge(pairs, value, merged, &mut |this, id, seen| {
                this.follow(id, |this, _, content| match content {
                    Content::Map(pairs) => this.pairs_into(pairs, text_keys, out, Some(seen)).map(|_| ()),
                    _ => Ok(()), // checked by `merge`
                })
            })?;
        }
        Ok(true)
    }
}
