//! What can go wrong when a source image's signature is looked for and held against the policy.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::types::Digest;

/// A failure of the place that signatures are read from, in its own words.
///
/// Keeps the source's error, so that the caller can tell an upstream that is down from one that answers nonsense.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct SourceError(pub Arc<dyn std::error::Error + Send + Sync>);

/// A signature that was found, and why it does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Where it was found: storage form and digest.
    pub place: String,
    /// Why it does not count, naming the check that failed.
    pub reason: String,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

/// Why an image or a file is not trusted, or the policy cannot work.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A part of the policy's configuration cannot work.
    #[error("containerSignature.{key}: {reason}")]
    Policy {
        /// The configuration key, without its section.
        key: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// A Sigstore trusted root that cannot be read or used.
    #[error("trusted root {place}: {reason}")]
    Root {
        /// The file, or where else it came from.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// One signature was checked and does not hold.
    #[error("{check}: {reason}")]
    Refused {
        /// The check that failed; one of the names in [`crate::verify::names`].
        check: &'static str,
        /// Why.
        reason: String,
    },
    /// The image has no signature in any form that we know.
    #[error("image {repository}@{digest} is not signed: no Sigstore bundle refers to it and it has no .sig tag")]
    Unsigned {
        /// Repository path, as the caller gave it.
        repository: String,
        /// Digest of the image.
        digest: Digest,
    },
    /// The image has signatures, and none of them holds under the policy.
    #[error("image {repository}@{digest}: no valid signature: {}", list(candidates))]
    NoneValid {
        /// Repository path, as the caller gave it.
        repository: String,
        /// Digest of the image.
        digest: Digest,
        /// Each signature found, and why it does not count.
        candidates: Vec<Candidate>,
    },
    /// No signature that could be read holds, and not all could be read: a later try may end differently.
    #[error("image {repository}@{digest}: reading {what}: {error}{}", also(candidates))]
    Source {
        /// Repository path, as the caller gave it.
        repository: String,
        /// Digest of the image.
        digest: Digest,
        /// What could not be read.
        what: String,
        /// The first failure.
        #[source]
        error: SourceError,
        /// Signatures that were read, and why they do not count.
        candidates: Vec<Candidate>,
    },
    /// The trusted root could not be refreshed.
    #[error("refreshing the trusted root from {url}: {reason}")]
    Refresh {
        /// Address of the TUF repository.
        url: String,
        /// What happened.
        reason: String,
    },
}

impl VerifyError {
    pub(super) fn policy(key: &'static str, reason: impl fmt::Display) -> Self {
        Self::Policy { key, reason: reason.to_string() }
    }

    pub(super) fn root(path: &Path, reason: impl fmt::Display) -> Self {
        Self::Root { place: path.display().to_string(), reason: reason.to_string() }
    }

    /// Whether trying again later may end differently with the same signatures and policy.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Source { .. } | Self::Refresh { .. })
    }
}

fn list(candidates: &[Candidate]) -> String {
    candidates.iter().map(Candidate::to_string).collect::<Vec<_>>().join("; ")
}

fn also(candidates: &[Candidate]) -> String {
    if candidates.is_empty() { String::new() } else { format!("; other signatures do not count: {}", list(candidates)) }
}
