//! From a YAML tree to a schematic, by the reference's rules for typed fields.
//!
//! Wrong values are collected, so that one answer names them all; a tree that makes no sense (a list merged into a
//! mapping, an alias inside its own anchor, aliases without end) stops at once.

mod fields;
mod free;
mod merge;
mod scalar;

use super::error::{Problem, SchematicError};
use super::model::Schematic;
use crate::format::yaml::{Content, Id, Mark, Tree};

/// Collections inside one another that are read at most.
const MAX_DEPTH: usize = 100;

/// What aliases may add: bytes of text, and 16 for each value.
const MAX_EXPANSION: usize = 1 << 20;

/// Problems that are told at most.
const MAX_PROBLEMS: usize = 20;

/// Reading has stopped; the last problem says why.
struct Stop;

type Step<T> = Result<T, Stop>;

/// Reads a schematic.
pub(super) fn schematic(tree: &Tree) -> Result<Schematic, SchematicError> {
    let mut construct = Construct { tree, problems: Vec::new(), aliases: Vec::new(), depth: 0, expansion: 0 };
    let mut out = Schematic::default();
    let result = construct.structure(tree.root(), &mut out, None);
    if result.is_err() || !construct.problems.is_empty() {
        return Err(SchematicError::Values(construct.problems));
    }
    Ok(out)
}

struct Construct<'a> {
    tree: &'a Tree,
    problems: Vec<Problem>,
    /// Aliases that are being followed.
    aliases: Vec<Id>,
    depth: usize,
    expansion: usize,
}

impl<'a> Construct<'a> {
    fn mark(&self, id: Id) -> Mark {
        self.tree.node(id).mark
    }

    /// Notes a wrong value.
    fn problem(&mut self, id: Id, text: String) -> Step<()> {
        self.problems.push(Problem { mark: self.mark(id), text });
        if self.problems.len() < MAX_PROBLEMS { Ok(()) } else { Err(Stop) }
    }

    /// Notes a problem after which nothing can be read.
    fn stop<T>(&mut self, id: Id, text: impl Into<String>) -> Step<T> {
        self.problems.push(Problem { mark: self.mark(id), text: text.into() });
        Err(Stop)
    }

    /// Goes through an alias to its node, and reads that by `read`.
    fn follow<T>(&mut self, id: Id, read: impl FnOnce(&mut Self, Id, &'a Content) -> Step<T>) -> Step<T> {
        let tree = self.tree;
        let content = &tree.node(id).content;
        if !self.aliases.is_empty() {
            self.expansion += 16 + if let Content::Scalar { text, .. } = content { text.len() } else { 0 };
            if self.expansion > MAX_EXPANSION {
                return self.stop(id, "aliases repeat too much: write the values out, or leave some away");
            }
        }
        match content {
            Content::Alias { name, target } => {
                if self.aliases.contains(&id) {
                    return self.stop(id, format!("the value of anchor &{name} contains itself"));
                }
                self.aliases.push(id);
                let result = self.follow(*target, read);
                self.aliases.pop();
                result
            }
            Content::Scalar { .. } => read(self, id, content),
            Content::Seq(_) | Content::Map(_) => {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return self.stop(id, format!("collections are nested more than {MAX_DEPTH} deep"));
                }
                let result = read(self, id, content);
                self.depth -= 1;
                result
            }
        }
    }

    /// What a node is, for an error.
    fn shown(&self, id: Id) -> String {
        let node = self.tree.node(id);
        match &node.content {
            Content::Seq(_) => "a list".to_owned(),
            Content::Map(_) => "a mapping".to_owned(),
            Content::Alias { target, .. } => self.shown(*target),
            Content::Scalar { text, quoted } => {
                let kind = match &*node.tag {
                    "!!str" if *quoted => "the quoted text",
                    "!!str" => "the text",
                    "!!int" => "the integer",
                    "!!float" => "the number",
                    "!!bool" => "the boolean",
                    "!!timestamp" => "the time stamp",
                    "!!null" => return "null".to_owned(),
                    _ => return format!("{} {:?}", node.tag, shorten(text)),
                };
                format!("{kind} {:?}", shorten(text))
            }
        }
    }
}

/// The beginning of a text, to be shown.
fn shorten(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
