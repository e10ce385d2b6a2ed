//! The emitter: block style, indent 4, list items indented under their key.

mod scalar;

use super::analyze;
use super::node::Node;

/// Where long lines are folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// At the first space beyond column 80 (`extensions.yaml`).
    Folded,
    /// Never (canonical schematics, manifests of extensions).
    Unlimited,
}

const INDENT: usize = 4;

/// What a node hangs under: it decides how far its contents are indented.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parent {
    Root,
    Item,
    Pair,
}

/// Writes `node` as one YAML document, ending in a line break.
pub fn emit(node: &Node, width: Width) -> String {
    emit_within(node, width, usize::MAX).unwrap_or_default()
}

/// Writes `node` as [`emit`] does, or gives `None` as soon as the text is longer than `limit` bytes.
pub fn emit_within(node: &Node, width: Width, limit: usize) -> Option<String> {
    let width = match width {
        Width::Folded => 80,
        Width::Unlimited => usize::MAX,
    };
    let mut emitter = Emitter { out: String::new(), column: 0, white: true, indention: true, width, limit };
    emitter.node(node, Parent::Root, 0)?;
    emitter.indent(0);
    (emitter.out.len() <= limit).then_some(emitter.out)
}

struct Emitter {
    out: String,
    /// Characters since the last line break.
    column: usize,
    /// Whether the last character separates tokens.
    white: bool,
    /// Whether the line so far is only indentation and block indicators.
    indention: bool,
    width: usize,
    limit: usize,
}

/// The indentation of what a node contains, where `outer` is that of its parent.
const fn inner(parent: Parent, outer: usize) -> usize {
    match parent {
        Parent::Root => 0,
        Parent::Item => outer + 2,
        Parent::Pair => INDENT * ((outer + INDENT) / INDENT),
    }
}

impl Emitter {
    /// Writes a node; `outer` is the indentation of its parent. `None` stops everything: the text has grown too long.
    fn node(&mut self, node: &Node, parent: Parent, outer: usize) -> Option<()> {
        if self.out.len() > self.limit {
            return None;
        }
        let indent = inner(parent, outer);
        match node {
            Node::Seq(items) if items.is_empty() => self.token("[]", true),
            Node::Map(pairs) if pairs.is_empty() => self.token("{}", true),
            Node::Seq(items) => {
                for item in items {
                    self.indent(indent);
                    self.indicator("-");
                    self.node(item, Parent::Item, indent)?;
                }
            }
            Node::Map(pairs) => {
                for (key, value) in pairs {
                    self.indent(indent);
                    if self.simple_key(key, indent) {
                        self.token(":", false);
                    } else {
                        self.indicator("?");
                        self.node(key, Parent::Pair, indent)?;
                        self.indent(indent);
                        self.indicator(":");
                    }
                    self.node(value, Parent::Pair, indent)?;
                }
            }
            Node::String(text) => {
                self.scalar(&analyze::string(text), if parent == Parent::Root { INDENT } else { indent }, true)
            }
            scalar => self.scalar(&analyze::plain(scalar), indent, true),
        }
        Some(())
    }

    /// Writes a key that may stand before its `:` on one line; `false` (and nothing written) for others.
    fn simple_key(&mut self, key: &Node, indent: usize) -> bool {
        let empty = match key {
            Node::Seq(items) if items.is_empty() => "[]",
            Node::Map(pairs) if pairs.is_empty() => "{}",
            _ => "",
        };
        if !empty.is_empty() {
            self.token(empty, true);
            return true;
        }
        let scalar = match key {
            Node::Seq(_) | Node::Map(_) => return false,
            Node::String(text) => analyze::string(text),
            scalar => analyze::plain(scalar),
        };
        let simple = scalar.is_simple_key();
        if simple {
            self.scalar(&scalar, indent, false);
        }
        simple
    }

    fn put(&mut self, c: char) {
        self.out.push(c);
        self.column += 1;
    }

    /// Copies a line break.
    fn put_break(&mut self, c: char) {
        self.out.push(c);
        self.column = 0;
        self.indention = true;
    }

    /// Ends the line if anything but indentation is on it, and indents.
    fn indent(&mut self, indent: usize) {
        if !self.indention || self.column > indent || self.column == indent && !self.white {
            self.put_break('\n');
        }
        while self.column < indent {
            self.put(' ');
        }
        self.white = true;
    }

    fn token(&mut self, token: &str, spaced: bool) {
        if spaced && !self.white {
            self.put(' ');
        }
        token.chars().for_each(|c| self.put(c));
        self.white = false;
        self.indention = false;
    }

    /// A block indicator: what follows may stand on its line, indented.
    fn indicator(&mut self, indicator: &str) {
        let indention = self.indention;
        self.token(indicator, true);
        self.indention = indention;
    }
}
