//! Paths inside a tree, ordered as a sorted walk meets them.

use std::cmp::Ordering;

use bytes::Bytes;

/// Longest path in bytes (Linux: `PATH_MAX` less the final NUL).
pub const MAX_PATH: usize = 4095;
/// Longest component in bytes (Linux: `NAME_MAX`).
pub const MAX_NAME: usize = 255;

/// Why bytes are no path in a tree.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("path {path:?} {what}")]
pub struct PathError {
    /// The path, cut to 200 characters.
    pub path: String,
    /// What is wrong with it.
    pub what: &'static str,
}

/// A checked relative path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct TreePath(Bytes);

impl TreePath {
    /// Checks `path`; final slashes are dropped.
    pub(super) fn new(path: &[u8]) -> Result<Self, PathError> {
        let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        let trimmed = &path[..end];
        let refuse = |what| Err(PathError { path: String::from_utf8_lossy(path).chars().take(200).collect(), what });
        if path.starts_with(b"/") {
            return refuse("is absolute");
        }
        if trimmed.is_empty() {
            return refuse("is empty");
        }
        if trimmed.len() > MAX_PATH {
            return refuse("is longer than 4095 bytes");
        }
        if trimmed.contains(&0) {
            return refuse("holds a NUL");
        }
        for name in trimmed.split(|byte| *byte == b'/') {
            match name {
                b"" => return refuse("has an empty component"),
                b"." | b".." => return refuse("has a component \".\" or \"..\""),
                _ if name.len() > MAX_NAME => return refuse("has a component longer than 255 bytes"),
                _ => {}
            }
        }
        Ok(Self(Bytes::copy_from_slice(trimmed)))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// For messages.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).chars().take(200).collect()
    }

    /// Whether it is `other` or below it.
    pub(super) fn is_under(&self, other: &Self) -> bool {
        self.0.strip_prefix(other.bytes()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// The path as seen from the directory `prefix`, which must stand above it.
    pub(super) fn below(&self, prefix: &Self) -> Self {
        Self(self.0.slice((prefix.0.len() + 1).min(self.0.len())..))
    }

    /// The directories above it, the outermost first.
    pub(super) fn parents(&self) -> Vec<Self> {
        let slashes = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        slashes.map(|(at, _)| Self(self.0.slice(..at))).collect()
    }
}

impl Ord for TreePath {
    /// By bytes, with the slash before every other: so a directory is followed by all that is in it.
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
        self.0.iter().map(key).cmp(other.0.iter().map(key))
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
