//! A YAML value as a program holds it: what the emitter writes, and what a parsed free-form map is read into.

use super::Text;
use super::number::float_text;

/// A YAML value. Maps keep the order of their pairs; [`super::sort_pairs`] gives the
/// order in which the reference writes a map that has none.
#[derive(Clone, Debug)]
pub enum Node {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer above `i64::MAX`.
    Uint(u64),
    /// A floating point number.
    Float(f64),
    /// A time stamp, as the RFC 3339 text it is written with.
    Timestamp(String),
    /// A string.
    String(Text),
    /// A sequence.
    Seq(Vec<Node>),
    /// A mapping.
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// A string node.
    pub fn string(text: impl Into<Text>) -> Self {
        Self::String(text.into())
    }

    /// A mapping whose keys are these strings, in this order.
    pub fn map<'a>(pairs: impl IntoIterator<Item = (&'a str, Self)>) -> Self {
        Self::Map(pairs.into_iter().map(|(key, value)| (Self::string(key), value)).collect())
    }

    /// The plain text that a scalar other than a string is written with; `None` for the rest.
    pub(super) fn plain_text(&self) -> Option<String> {
        Some(match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Uint(value) => value.to_string(),
            Self::Float(value) => float_text(*value),
            Self::Timestamp(text) => text.clone(),
            Self::String(_) | Self::Seq(_) | Self::Map(_) => return None,
        })
    }
}

/// Floats are equal when their bits are, so that a not-a-number equals itself and a value its copy.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Uint(a), Self::Uint(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Timestamp(a), Self::Timestamp(b)) => a == b,
            (Self::String(a), Self::String(b)) => a == b,
            (Self::Seq(a), Self::Seq(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            _ => false,
        }
    }
}
