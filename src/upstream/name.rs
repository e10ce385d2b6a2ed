//! Names of repositories and tags, by the grammar of the OCI distribution specification ("Pulling manifests").

use std::fmt;

use crate::types::Digest;

use super::error::UpstreamError;

/// Which manifest of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// By tag; what it points to may change.
    Tag(String),
    /// By digest.
    Digest(Digest),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl From<Digest> for Reference {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

/// Refuses what is no repository: names come from catalogs and from clients, and end up in URLs.
pub(super) fn check_repository(name: &str) -> Result<(), UpstreamError> {
    let bad = |reason| Err(UpstreamError::Name { what: "repository", name: shortened(name), reason });
    if name.len() > 255 {
        return bad("at most 255 bytes are allowed");
    }
    if name.split('/').all(is_component) {
        Ok(())
    } else {
        bad("it must be parts of lower-case letters, digits and single separators (. _ __ -), joined by /")
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(part: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    if !bytes.first().is_some_and(|b| alphanumeric(*b)) || !bytes.last().is_some_and(|b| alphanumeric(*b)) {
        return false;
    }
    part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-'))
}

/// Refuses what is no tag.
pub(super) fn check_tag(tag: &str) -> Result<(), UpstreamError> {
    if is_tag(tag) {
        return Ok(());
    }
    let reason = "a tag is 1 to 128 letters, digits, '_', '.', '-', and starts with none of the last two";
    Err(UpstreamError::Name { what: "tag", name: shortened(tag), reason })
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
pub(super) fn is_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// The first characters of a foreign text, without control characters: fit for an error message.
pub(super) fn shortened(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.chars().take(200).map(clean).collect();
    if text.chars().nth(200).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_grammar_pass() {
        for good in ["a", "siderolabs/imager", "a.b/c_d/e__f/g--h", "0/1"] {
            assert!(check_repository(good).is_ok(), "{good}");
        }
        let long = "a".repeat(256);
        for bad in ["", "/", "a/", "/a", "a//b", "..", "a/../b", "A", "a b", "a?x", "a%2e", "a___b", "-a", "a.", &long]
        {
            assert!(check_repository(bad).is_err(), "{bad}");
        }
        for good in ["v1.13.2", "_", "latest", "sha256-00.sig"] {
            assert!(check_tag(good).is_ok(), "{good}");
        }
        for bad in ["", ".a", "-a", "a/b", "a:b", "a?b", "é", &"a".repeat(129)] {
            assert!(check_tag(bad).unwrap_err().to_string().contains("tag"), "{bad}");
        }
    }
}
