//! What can go wrong between a request and its answer, in the words of the caller.

use crate::store::{BrokeOff, StoreError};
use crate::types::{Digest, VersionError};
use crate::virtual_file::ReadError;

/// Why the factory does not give what was asked for. The text says what the caller can do about it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FactoryError {
    /// The request cannot be met as it stands.
    #[error("{0}")]
    Invalid(String),
    /// No such schematic.
    #[error("schematic ID {0:?} not found")]
    NoSuchSchematic(String),
    /// No such schematic, where the schematic itself was asked for.
    #[error("schematic not found")]
    SchematicNotFound,
    /// No such Talos version, or one that is not offered.
    #[error("version {0} is not available")]
    NoSuchVersion(String),
    /// A tag that a repository does not have.
    #[error("{repository} has no tag {tag:?}")]
    NoSuchTag {
        /// The repository.
        repository: String,
        /// The tag.
        tag: String,
    },
    /// A repository that we do not have.
    #[error("unknown image: {0}")]
    NoSuchImage(String),
    /// A manifest that the repository does not have.
    #[error("manifest unknown: {0}")]
    NoSuchManifest(Digest),
    /// A reference of a kind that no repository has.
    #[error("manifest unknown: {0}")]
    NoSuchReference(String),
    /// A text that should be a digest.
    #[error("{0}")]
    BadDigest(String),
    /// A blob that the repository does not have.
    #[error("blob unknown to registry: {0}")]
    NoSuchBlob(Digest),
    /// A file that a release does not have.
    #[error("{name:?} is not in Talos {version}{hint}")]
    NoSuchFile {
        /// The file.
        name: String,
        /// The version.
        version: String,
        /// What there is instead, or empty.
        hint: String,
    },
    /// A source image whose signature is missing, wrong or foreign.
    #[error("refused: {reason}")]
    Untrusted {
        /// The image, and why.
        reason: String,
    },
    /// A source image, or an answer of the upstream, that cannot be understood.
    #[error("{image}: {reason}")]
    BadSource {
        /// The image.
        image: String,
        /// Why.
        reason: String,
    },
    /// A foreign program would have to be run, and cannot be run safely.
    #[error("{0}")]
    NoSandbox(String),
    /// The upstream does not answer.
    #[error("the upstream registry is not available: {0}")]
    Unavailable(String),
    /// Too much is being done already.
    #[error("too many checksums are being computed; try again later")]
    Busy,
    /// The disk is full.
    #[error("there is no room to store what this needs; try again later")]
    NoRoom,
    /// A fault of ours.
    #[error("internal error: {0}")]
    Internal(String),
}

impl From<StoreError> for FactoryError {
    fn from(error: StoreError) -> Self {
        if error.is_full() { Self::NoRoom } else { Self::Internal(error.to_string()) }
    }
}

impl From<ReadError> for FactoryError {
    fn from(error: ReadError) -> Self {
        match error {
            // Dropped or damaged a moment ago: the next request finds it missing and fetches or prepares it again.
            ReadError::Missing(_) | ReadError::Damaged(_) => Self::Unavailable(error.to_string()),
            other => Self::Internal(other.to_string()),
        }
    }
}

impl From<VersionError> for FactoryError {
    fn from(error: VersionError) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl BrokeOff for FactoryError {
    fn broke_off(reason: String) -> Self {
        Self::Internal(reason)
    }
}
