//! What repositories answer: manifests, blobs, tags, referrers, of generated and of source images.

use std::sync::Arc;

use super::announced::Document;
use super::schematics::Stored;
use super::{Factory, FactoryError, InstallerImage, Repository, catalogs};
use crate::assemble::installer::{INDEX_TYPE, MANIFEST_TYPE};
use crate::types::{Digest, TalosVersion};
use crate::upstream::Descriptor;
use crate::virtual_file::VirtualFile;

/// A descriptor of a referrer as the referrers API lists it.
fn describe(descriptor: &Descriptor) -> serde_json::Value {
    let mut entry = serde_json::json!({
        "mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size,
    });
    if let Some(kind) = &descriptor.artifact_type {
        entry["artifactType"] = kind.as_str().into();
    }
    if !descriptor.annotations.is_empty() {
        entry["annotations"] = serde_json::json!(descriptor.annotations);
    }
    entry
}

impl Factory {
    /// A manifest or index by tag or digest.
    ///
    /// # Errors
    /// [`FactoryError`], with the status that its kind says.
    pub async fn manifest(&self, repository: &Repository, reference: &str) -> Result<Document, FactoryError> {
        match repository {
            Repository::Source(path) => self.source_manifest(path, reference).await,
            Repository::Generated { image, schematic } => {
                let schematic = self.schematic(schematic).await?;
                if reference.contains(':') {
                    let digest = super::reference_digest(reference)?;
                    let announced = self.installers.holding(*image, &schematic, &digest).await?;
                    let found = announced.and_then(|announced| {
                        announced.installers.iter().find_map(|installer| installer.document(&digest).cloned())
                    });
                    let manifest =
                        found.filter(|document| matches!(document.media_type.as_str(), INDEX_TYPE | MANIFEST_TYPE));
                    return manifest.ok_or(FactoryError::NoSuchManifest(digest));
                }
                if reference.starts_with("sha256-") {
                    return self.signature_document(repository, *image, &schematic, reference).await;
                }
                let version = self.tagged_version(repository, reference)?;
                let installer = self.installers.get(*image, &version, &schematic).await?;
                let index = installer.document(&installer.index).cloned();
                index.ok_or_else(|| FactoryError::Internal(format!("{repository}:{reference} has no index")))
            }
        }
    }

    /// The version that a tag of a generated repository stands for.
    fn tagged_version(&self, repository: &Repository, tag: &str) -> Result<TalosVersion, FactoryError> {
        if tag == "latest" {
            return self.catalogs.latest();
        }
        if !tag.starts_with(|c: char| c == 'v' || c.is_ascii_digit()) {
            return Err(FactoryError::NoSuchTag { repository: repository.to_string(), tag: tag.to_owned() });
        }
        catalogs::parse(tag)?;
        self.catalogs.offered(tag)
    }

    /// What stands under a tag made of a manifest's digest.
    async fn signature_document(
        &self,
        repository: &Repository,
        image: InstallerImage,
        schematic: &Arc<Stored>,
        tag: &str,
    ) -> Result<Document, FactoryError> {
        let missing = || FactoryError::NoSuchTag { repository: repository.to_string(), tag: tag.to_owned() };
        let subject = tag.trim_start_matches("sha256-").trim_end_matches(".sig");
        let subject = Digest::from_hex(subject).map_err(|_| missing())?;
        let announced = self.installers.holding(image, schematic, &subject).await?.ok_or_else(missing)?;
        let name = image.to_string();
        let found = announced.installers.iter().filter(|installer| installer.image == name).find_map(|installer| {
            let (_, digest) = installer.tags.iter().find(|(known, _)| known == tag)?;
            installer.document(digest).cloned()
        });
        found.ok_or_else(missing)
    }

    /// The file behind a blob's digest.
    ///
    /// # Errors
    /// [`FactoryError::NoSuchBlob`] when the repository does not have it.
    pub async fn blob(&self, repository: &Repository, digest: &Digest) -> Result<VirtualFile, FactoryError> {
        match repository {
            Repository::Source(path) => {
                self.sources.served_blob(path, digest).await?;
                let found = self.installers.open(digest).await?;
                found.ok_or(FactoryError::NoSuchBlob(*digest))
            }
            Repository::Generated { image, schematic } => {
                let schematic = self.schematic(schematic).await?;
                let announced = self.installers.holding(*image, &schematic, digest).await?;
                let announced = announced.ok_or(FactoryError::NoSuchBlob(*digest))?;
                self.installers.whole(*image, &schematic, &announced, digest).await
            }
        }
    }

    /// The tags of a repository: the versions, for a generated one.
    ///
    /// # Errors
    /// As the upstream says; [`FactoryError::NoSuchSchematic`].
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<String>, FactoryError> {
        match repository {
            Repository::Source(path) => self.sources.tags(path).await,
            Repository::Generated { schematic, .. } => {
                self.schematic(schematic).await?;
                Ok(self.catalogs.versions()?.iter().map(ToString::to_string).collect())
            }
        }
    }

    /// Descriptors of what refers to a manifest.
    ///
    /// # Errors
    /// As [`Factory::manifest`], but what is unknown has no referrers.
    pub async fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Vec<serde_json::Value>, FactoryError> {
        match repository {
            Repository::Source(path) => {
                let found = self.sources.referrers(path, digest).await?;
                Ok(found.iter().map(describe).collect())
            }
            Repository::Generated { image, schematic } => {
                let schematic = self.schematic(schematic).await?;
                let announced = self.installers.holding(*image, &schematic, digest).await?.unwrap_or_default();
                let name = image.to_string();
                let of_image = announced.installers.iter().filter(|installer| installer.image == name);
                let mut found: Vec<serde_json::Value> = of_image
                    .flat_map(|installer| &installer.referrers)
                    .filter(|(subject, _)| subject == digest)
                    .map(|(_, descriptor)| descriptor.clone())
                    .collect();
                found.dedup();
                Ok(found)
            }
        }
    }

    async fn source_manifest(&self, path: &str, reference: &str) -> Result<Document, FactoryError> {
        let manifest = if reference.contains(':') {
            self.sources.served_manifest(path, &super::reference_digest(reference)?).await?
        } else if let Some(subject) = super::signature_subject(reference) {
            self.sources.signature_tag(path, &subject, reference).await?
        } else {
            let digest = self.sources.resolve(path, reference).await?;
            self.sources.image(path, &digest).await?
        };
        Ok(Document {
            digest: manifest.digest,
            media_type: manifest.media_type.as_str().to_owned(),
            bytes: manifest.bytes.clone(),
        })
    }
}
