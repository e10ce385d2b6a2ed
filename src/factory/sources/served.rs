//! What clients of the source repositories are given: what belongs to verified images, and nothing else.

use std::sync::{Arc, PoisonError};

use super::{Known, Sources};
use crate::factory::{FactoryError, blocking};
use crate::store::RecordKind;
use crate::types::Digest;
use crate::upstream::{Descriptor, Manifest};

impl Sources {
    /// Notes what belongs to a verified image.
    pub(super) fn admit(&self, repository: &str, known: &Known) {
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        for digest in known.manifests.iter().chain(known.blobs.iter().map(|(digest, _)| digest)) {
            members.insert((repository.to_owned(), *digest));
        }
    }

    fn is_member(&self, repository: &str, digest: &Digest) -> bool {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        members.contains(&(repository.to_owned(), *digest))
    }

    /// Learns again, from the store, what belongs to the verified images of a repository.
    async fn remember(&self, repository: &str) -> Result<(), FactoryError> {
        let (store, prefix) = (self.store.clone(), format!("{repository}@"));
        let known = blocking(move || {
            let keys = store.record_keys(RecordKind::Origin)?;
            keys.iter()
                .filter(|key| key.starts_with(&prefix))
                .map(|key| store.record(RecordKind::Origin, key))
                .collect::<Result<Vec<_>, _>>()
        })
        .await?;
        for known in known.into_iter().flatten().filter_map(|bytes| serde_json::from_slice(&bytes).ok()) {
            self.admit(repository, &known);
        }
        Ok(())
    }

    /// A manifest for a client of the source repositories: of a verified image, or belonging to one.
    ///
    /// # Errors
    /// [`FactoryError::NoSuchManifest`] when the upstream has none, [`FactoryError::Untrusted`] when nothing vouches for it.
    pub async fn served_manifest(
        self: &Arc<Self>,
        repository: &str,
        digest: &Digest,
    ) -> Result<Arc<Manifest>, FactoryError> {
        if let Some(found) = self.memory.get(&(repository.to_owned(), *digest)) {
            return Ok(found);
        }
        if !self.is_member(repository, digest) {
            self.remember(repository).await?;
        }
        if self.is_member(repository, digest) {
            let manifest = self.manifest(repository, digest, None).await?;
            self.memory.insert((repository.to_owned(), *digest), manifest.clone());
            return Ok(manifest);
        }
        self.image(repository, digest).await
    }

    /// A signature object of a source image, found under a tag made of the image's digest: it is served only when the
    /// image itself satisfies the policy.
    ///
    /// # Errors
    /// [`FactoryError::NoSuchTag`] and those of [`Sources::image`].
    pub async fn signature_tag(
        self: &Arc<Self>,
        repository: &str,
        subject: &Digest,
        tag: &str,
    ) -> Result<Arc<Manifest>, FactoryError> {
        self.image(repository, subject).await?;
        let digest = self.resolve(repository, tag).await?;
        self.manifest(repository, &digest, None).await
    }

    /// Descriptors of what refers to a verified image.
    ///
    /// # Errors
    /// Those of [`Sources::image`], and as the upstream says.
    pub async fn referrers(
        self: &Arc<Self>,
        repository: &str,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, FactoryError> {
        match self.served_manifest(repository, subject).await {
            Ok(_) => {}
            // What does not exist has no referrers (distribution-spec, "Listing Referrers").
            Err(FactoryError::NoSuchManifest(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
        let found =
            self.upstream.referrers(repository, subject).await.map_err(|error| self.failed(error, repository))?;
        let manifests = found.iter().map(|descriptor| descriptor.digest).collect();
        self.admit(repository, &Known { media_type: String::new(), manifests, blobs: Vec::new() });
        Ok(found)
    }

    /// A blob for a client of the source repositories.
    ///
    /// # Errors
    /// [`FactoryError::NoSuchBlob`] when it belongs to no verified image of the repository.
    pub async fn served_blob(self: &Arc<Self>, repository: &str, digest: &Digest) -> Result<(), FactoryError> {
        if !self.is_member(repository, digest) {
            self.remember(repository).await?;
        }
        if !self.is_member(repository, digest) {
            return Err(FactoryError::NoSuchBlob(*digest));
        }
        self.fetch(repository, digest, None).await
    }
}
