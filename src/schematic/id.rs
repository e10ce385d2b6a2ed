//! The name of a schematic.

use std::fmt;
use std::str::FromStr;

use super::error::SchematicIdError;
use crate::types::Digest;

/// The ID of a schematic: the SHA-256 of its canonical YAML, written as 64 lower-case hex digits without an algorithm.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SchematicId(Digest);

impl SchematicId {
    /// The ID of the schematic with this canonical YAML.
    pub fn of(canonical: &str) -> Self {
        Self(Digest::of(canonical.as_bytes()))
    }

    /// The same 32 bytes as a content digest: that of the canonical YAML as a blob.
    pub const fn digest(&self) -> Digest {
        self.0
    }
}

impl FromStr for SchematicId {
    type Err = SchematicIdError;

    fn from_str(text: &str) -> Result<Self, SchematicIdError> {
        Digest::from_hex(text).map(Self).map_err(|_| SchematicIdError(text.chars().take(80).collect()))
    }
}

impl fmt::Display for SchematicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.hex())
    }
}

impl fmt::Debug for SchematicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
