//! Why a schematic is refused.

use std::fmt;

use crate::format::meta::MetaError;
use crate::format::yaml::{Mark, YamlError};

/// One value of a schematic that is not what its field takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where the value (or the key) stands.
    pub mark: Mark,
    /// What is wrong with it.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.mark, self.text)
    }
}

/// Why a schematic is refused. Each text is for the one who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchematicError {
    /// The body is too long to be looked at.
    #[error("the schematic has {size} bytes; at most {limit} are accepted")]
    TooLarge {
        /// Its length in bytes.
        size: usize,
        /// The most that is accepted.
        limit: usize,
    },
    /// The body is no YAML.
    #[error("the schematic is no valid YAML: {0}")]
    Yaml(#[from] YamlError),
    /// The body is YAML, but no schematic. Never empty.
    #[error("the schematic is not valid: {}", Problems(.0))]
    Values(Vec<Problem>),
    /// The schematic would be stored as a text that is too long.
    #[error("the schematic has more than {limit} bytes in its canonical form")]
    CanonicalTooLarge {
        /// The most that is accepted.
        limit: usize,
    },
    /// An owner where there are no users.
    #[error("owner {0:?} is set, but authentication is not enabled here: leave the field out")]
    Owner(String),
    /// A value outside of the list of those that mean something.
    #[error("{field} is {value:?}; accepted are {accepted}")]
    Choice {
        /// The field's path.
        field: &'static str,
        /// What was given.
        value: String,
        /// What is accepted.
        accepted: &'static str,
    },
    /// Bytes that are no text where a text is needed.
    #[error("{0} is binary data that is not UTF-8 text")]
    NotText(&'static str),
    /// Values that the META partition has no room for.
    #[error("customization.meta: {0}")]
    Meta(#[from] MetaError),
}

struct Problems<'a>(&'a [Problem]);

impl fmt::Display for Problems<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if at > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

/// A text that is no schematic ID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no schematic ID: expected 64 lower-case hex digits")]
pub struct SchematicIdError(pub(super) String);
