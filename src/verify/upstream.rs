//! The upstream as a source of signatures.

use std::sync::Arc;

use bytes::Bytes;

use super::error::SourceError;
use super::source::{Referrer, SignatureSource};
use crate::types::Digest;
use crate::upstream::{Reference, Upstream, UpstreamError};

fn failed(error: UpstreamError) -> SourceError {
    SourceError(Arc::new(error))
}

impl SignatureSource for Upstream {
    async fn manifest_by_tag(&self, repository: &str, tag: &str) -> Result<Option<Bytes>, SourceError> {
        match Self::manifest(self, repository, &Reference::Tag(tag.to_owned())).await {
            Ok(manifest) => Ok(Some(manifest.bytes)),
            Err(UpstreamError::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    async fn manifest(&self, repository: &str, digest: &Digest) -> Result<Bytes, SourceError> {
        let manifest = Self::manifest(self, repository, &Reference::Digest(*digest)).await;
        manifest.map(|manifest| manifest.bytes).map_err(failed)
    }

    async fn referrers(&self, repository: &str, digest: &Digest) -> Result<Vec<Referrer>, SourceError> {
        let found = Self::referrers(self, repository, digest).await.map_err(failed)?;
        let listed = found.into_iter().map(|descriptor| Referrer {
            digest: descriptor.digest,
            artifact_type: descriptor.artifact_type,
            annotations: descriptor.annotations,
        });
        Ok(listed.collect())
    }

    async fn small_blob(&self, repository: &str, digest: &Digest, max: u64) -> Result<Bytes, SourceError> {
        Self::small_blob(self, repository, digest, max).await.map_err(failed)
    }
}
