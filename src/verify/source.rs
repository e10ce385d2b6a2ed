//! Where images and their signatures are read from, as far as signatures need it.

use std::collections::BTreeMap;
use std::future::Future;

use bytes::Bytes;

use super::error::SourceError;
use crate::types::Digest;

/// One entry of a list of referrers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// Digest of the referring manifest.
    pub digest: Digest,
    /// Its artifact type, when the list says it.
    pub artifact_type: Option<String>,
    /// Its annotations, when the list has them.
    pub annotations: BTreeMap<String, String>,
}

/// Where images and their signatures are read from. Digests are checked by the source.
pub trait SignatureSource: Sync {
    /// The bytes of the manifest at a tag; `None` when there is no such tag.
    fn manifest_by_tag(
        &self,
        repository: &str,
        tag: &str,
    ) -> impl Future<Output = Result<Option<Bytes>, SourceError>> + Send;

    /// The bytes of the manifest of a digest.
    fn manifest(&self, repository: &str, digest: &Digest) -> impl Future<Output = Result<Bytes, SourceError>> + Send;

    /// The manifests whose `subject` is `digest`, by the registry's own list or by the fallback tag `sha256-<hex>`;
    /// empty when there are none.
    fn referrers(
        &self,
        repository: &str,
        digest: &Digest,
    ) -> impl Future<Output = Result<Vec<Referrer>, SourceError>> + Send;

    /// A blob of at most `max` bytes; an error when it is larger.
    fn small_blob(
        &self,
        repository: &str,
        digest: &Digest,
        max: u64,
    ) -> impl Future<Output = Result<Bytes, SourceError>> + Send;
}
