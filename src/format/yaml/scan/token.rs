//! Tokens.

use std::fmt;

use crate::format::yaml::error::Mark;

/// The style in which a scalar was written, as far as its meaning depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Unquoted: its type is found from its text.
    Plain,
    /// Quoted or a block: a string.
    Quoted,
}

/// The kinds of tokens, as YAML 1.1's productions and libyaml name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    StreamStart,
    StreamEnd,
    Version { major: u32, minor: u32 },
    TagDirective { handle: String, prefix: String },
    DocumentStart,
    DocumentEnd,
    BlockSequenceStart,
    BlockMappingStart,
    BlockEnd,
    FlowSequenceStart,
    FlowSequenceEnd,
    FlowMappingStart,
    FlowMappingEnd,
    BlockEntry,
    FlowEntry,
    Key,
    Value,
    Alias(String),
    Anchor(String),
    Tag { handle: String, suffix: String },
    Scalar { text: String, style: Style },
}

/// A token and where it begins.
#[derive(Clone, Debug)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Where it begins.
    pub mark: Mark,
}

/// The token as an error names it.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StreamStart => "the beginning of the text",
            Self::StreamEnd => "the end of the text",
            Self::Version { .. } | Self::TagDirective { .. } => "a directive",
            Self::DocumentStart => "\"---\"",
            Self::DocumentEnd => "\"...\"",
            Self::BlockSequenceStart | Self::BlockEntry => "a list item",
            Self::BlockMappingStart | Self::Key => "a key",
            Self::BlockEnd => "a line that is indented less",
            Self::FlowSequenceStart => "\"[\"",
            Self::FlowSequenceEnd => "\"]\"",
            Self::FlowMappingStart => "\"{\"",
            Self::FlowMappingEnd => "\"}\"",
            Self::FlowEntry => "\",\"",
            Self::Value => "\":\"",
            Self::Alias(name) => return write!(f, "the alias *{name}"),
            Self::Anchor(name) => return write!(f, "the anchor &{name}"),
            Self::Tag { .. } => "a tag",
            Self::Scalar { .. } => "a text",
        })
    }
}
