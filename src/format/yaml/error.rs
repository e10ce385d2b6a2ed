//! Why a text is no YAML.

use std::fmt;

/// A place in the input: line and column count from 1, columns in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Why a text cannot be read as YAML, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// The bytes are no text that YAML allows.
    #[error("line {line}: {problem} at byte {offset}")]
    Encoding {
        /// The line on which the bad bytes are.
        line: usize,
        /// Offset of the first bad byte.
        offset: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// The text breaks the grammar.
    #[error("{mark}: {problem}")]
    Syntax {
        /// Where.
        mark: Mark,
        /// What was found or expected.
        problem: String,
    },
    /// No document: nothing, or only blanks and comments.
    #[error("the text holds no YAML document: it is empty, or only blanks and comments")]
    Empty,
}

impl YamlError {
    pub(super) fn syntax(mark: Mark, problem: impl Into<String>) -> Self {
        Self::Syntax { mark, problem: problem.into() }
    }
}
