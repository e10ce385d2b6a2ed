//! From tokens to a tree: the first document of a text, with anchors resolved to the nodes that they name.

mod collections;
mod parser;

use std::borrow::Cow;

use super::error::{Mark, YamlError};
use super::scan::{Dialect, Scanner};
use parser::Parser;

/// A node of a [`Tree`].
pub type Id = usize;

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A scalar; `quoted` says that it is a string unless a tag says otherwise.
    Scalar {
        /// Its text, unescaped.
        text: String,
        /// Whether it was quoted or a block.
        quoted: bool,
    },
    /// A sequence.
    Seq(Vec<Id>),
    /// A mapping.
    Map(Vec<(Id, Id)>),
    /// Another name of a node.
    Alias {
        /// The anchor.
        name: String,
        /// The node; it may contain the alias.
        target: Id,
    },
}

/// A parsed node.
#[derive(Clone, Debug)]
pub struct TreeNode {
    /// What it is.
    pub content: Content,
    /// Its tag, written or (for scalars and collections without one) resolved; `!!` stands for YAML's own prefix.
    pub tag: Cow<'static, str>,
    /// Where it begins.
    pub mark: Mark,
}

/// The first document of a text.
#[derive(Debug)]
pub struct Tree {
    nodes: Vec<TreeNode>,
    root: Id,
    emitted: bool,
}

impl Tree {
    /// Parses the first document of `bytes`; what follows it is not looked at (but for two tokens).
    ///
    /// Depth is bounded (100 collections), size is not: a node takes at least one byte of the input.
    ///
    /// # Errors
    /// [`YamlError`] says what is wrong and where.
    pub fn parse(bytes: &[u8]) -> Result<Self, YamlError> {
        Self::parse_dialect(bytes, Dialect::Reference)
    }

    /// Parses a text that our emitter wrote. It differs from [`Tree::parse`] in literal blocks: the emitter writes some
    /// with a wrong indentation in their header or with a tab in front, which no reader by the specification understands.
    ///
    /// # Errors
    /// [`YamlError`] says what is wrong and where.
    pub fn parse_emitted(text: &str) -> Result<Self, YamlError> {
        Self::parse_dialect(text.as_bytes(), Dialect::Emitted)
    }

    fn parse_dialect(bytes: &[u8], dialect: Dialect) -> Result<Self, YamlError> {
        let scanner = Scanner::new(bytes, dialect);
        let mut parser = Parser::new(scanner);
        let root = parser.document()?;
        Ok(Self { nodes: parser.nodes, root, emitted: dialect == Dialect::Emitted })
    }

    /// Whether this is what our emitter wrote ([`Tree::parse_emitted`]).
    pub const fn is_emitted(&self) -> bool {
        self.emitted
    }

    /// The root node.
    pub fn root(&self) -> Id {
        self.root
    }

    /// A node.
    pub fn node(&self, id: Id) -> &TreeNode {
        &self.nodes[id]
    }
}
