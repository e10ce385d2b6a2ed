//! What goes wrong between us and the upstream.

use std::fmt;
use std::time::Duration;

use crate::store::StoreError;

use super::name::Reference;

/// What was asked for: named in every error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The registry as configured: `ghcr.io`, or `oci:<folder>`.
    pub registry: String,
    /// The repository in it, with the configured namespace in front.
    pub repository: String,
    /// The tag or digest; `None` where the whole repository was asked for.
    pub reference: Option<Reference>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        match &self.reference {
            None => Ok(()),
            Some(Reference::Tag(tag)) => write!(f, ":{tag}"),
            Some(Reference::Digest(digest)) => write!(f, "@{digest}"),
        }
    }
}

/// Why the upstream did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The configuration cannot work.
    #[error("upstream configuration: {0}")]
    Config(String),
    /// A repository, tag or page that cannot exist; the upstream was not asked.
    #[error("{what} {name:?} is malformed: {reason}")]
    Name {
        /// `repository` or `tag`.
        what: &'static str,
        /// What was given, shortened.
        name: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// The upstream is up and does not have it.
    #[error("upstream: {place} not found: {reason}")]
    NotFound {
        /// What was asked for.
        place: Box<Place>,
        /// The upstream's words.
        reason: String,
    },
    /// The upstream refuses us, with or without credentials.
    #[error("upstream: {place}: access refused: {reason}")]
    Unauthorized {
        /// What was asked for.
        place: Box<Place>,
        /// Why, and what was tried.
        reason: String,
    },
    /// The upstream cannot be reached, is overloaded or fails; it may work later.
    #[error("upstream: {place}: unavailable: {reason}")]
    Unavailable {
        /// What was asked for.
        place: Box<Place>,
        /// What happened last.
        reason: String,
        /// How long the upstream asked us to stay away.
        retry_after: Option<Duration>,
    },
    /// The upstream answered, and the answer is wrong: not JSON, another digest, cut short, too large.
    #[error("upstream: {place}: bad answer: {reason}")]
    BadAnswer {
        /// What was asked for.
        place: Box<Place>,
        /// What is wrong with it.
        reason: String,
    },
    /// What came could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Place {
    pub(super) fn not_found(&self, reason: impl Into<String>) -> UpstreamError {
        UpstreamError::NotFound { place: Box::new(self.clone()), reason: reason.into() }
    }

    pub(super) fn unauthorized(&self, reason: impl Into<String>) -> UpstreamError {
        UpstreamError::Unauthorized { place: Box::new(self.clone()), reason: reason.into() }
    }

    pub(super) fn unavailable(&self, reason: impl Into<String>) -> UpstreamError {
        UpstreamError::Unavailable { place: Box::new(self.clone()), reason: reason.into(), retry_after: None }
    }

    pub(super) fn bad(&self, reason: impl Into<String>) -> UpstreamError {
        UpstreamError::BadAnswer { place: Box::new(self.clone()), reason: reason.into() }
    }
}
