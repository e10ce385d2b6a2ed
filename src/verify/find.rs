//! The verifier: a policy and a trusted root, held against the images of a registry.

use std::sync::{Arc, PoisonError, RwLock};

use super::checks::Verdict;
use super::error::VerifyError;
use super::policy::Policy;
use super::root::{TrustedRoot, TufSource, refresh_trusted_root};
use super::search::{Finding, Search, refusal};
use super::source::SignatureSource;
use crate::types::Digest;

/// Holds images against a policy and a trusted root.
pub struct Verifier {
    policy: Policy,
    root: RwLock<Arc<TrustedRoot>>,
}

impl Verifier {
    /// A verifier; cheap to share behind an `Arc`.
    pub fn new(policy: Policy, root: TrustedRoot) -> Self {
        Self { policy, root: RwLock::new(Arc::new(root)) }
    }

    /// The policy.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The trusted root in use now.
    pub fn root(&self) -> Arc<TrustedRoot> {
        Arc::clone(&self.root.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The name under which verdicts of this verifier can be remembered; see [`Policy::id`].
    pub fn id(&self) -> String {
        self.policy.id(&self.root())
    }

    /// Takes a newer trusted root over TUF. A failure leaves the present one in use and is one line in the log. For a
    /// verifier whose root is a file of the operator's this does nothing: that file is the operator's word.
    pub async fn refresh(&self, source: &TufSource) {
        if !self.root().is_public_good() {
            return;
        }
        match refresh_trusted_root(source).await {
            Ok(root) => *self.root.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(root),
            Err(error) => tracing::warn!(%error, "the trusted root stays as it is"),
        }
    }

    /// Searches a signature of the image that holds under the policy: Sigstore bundles that refer to it, then the
    /// `.sig` tag. The first that holds ends the search.
    ///
    /// # Errors
    /// [`VerifyError::Unsigned`] when there is no signature, [`VerifyError::NoneValid`] when none holds,
    /// [`VerifyError::Source`] when none that could be read holds and some could not be read.
    pub async fn verify_image(
        &self,
        source: &impl SignatureSource,
        repository: &str,
        digest: &Digest,
    ) -> Result<Verdict, VerifyError> {
        let (_, result) = self.explain_image(source, repository, digest).await;
        result
    }

    /// Like [`Verifier::verify_image`], with every signature that was looked at and all its checks.
    pub async fn explain_image(
        &self,
        source: &impl SignatureSource,
        repository: &str,
        digest: &Digest,
    ) -> (Vec<Finding>, Result<Verdict, VerifyError>) {
        if matches!(self.policy, Policy::Disabled) {
            return (Vec::new(), Ok(Verdict::unchecked(*digest)));
        }
        let root = self.root();
        let mut search = Search { policy: &self.policy, root: &root, source, repository, digest, findings: Vec::new() };
        let verdict = match search.referrers().await {
            Some(verdict) => Some(verdict),
            None => search.sig_tag().await,
        };
        let findings = search.findings;
        let result = verdict.map_or_else(|| Err(refusal(&findings, repository, digest)), Ok);
        (findings, result)
    }
}

#[cfg(test)]
mod tests;
