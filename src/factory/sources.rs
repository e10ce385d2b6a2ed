//! Source images: fetched once, verified before anything of them is read, kept in the store, and served from there.

mod served;

use std::collections::HashSet;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{FactoryError, blocking};
use crate::config::Components;
use crate::store::{BlobStore, RecordKind, SingleFlight};
use crate::telemetry::Metrics;
use crate::types::{Arch, Digest, TalosVersion};
use crate::upstream::{Content, Descriptor, ImageManifest, Manifest, Reference, Upstream, UpstreamError};
use crate::verify::{Verifier, VerifyError};

/// How long the answer that something does not exist upstream is remembered.
const NEGATIVE: Duration = Duration::from_secs(10);

/// What was learnt of a manifest when it was fetched, so that it is served without the upstream.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    media_type: String,
    /// Manifests that it lists.
    manifests: Vec<Digest>,
    /// Config and layers that it names.
    blobs: Vec<(Digest, u64)>,
}

/// A manifest for one platform of a verified image.
#[derive(Clone, Debug)]
pub struct PlatformImage {
    /// Repository path.
    pub repository: String,
    /// Digest of the manifest.
    pub digest: Digest,
    /// The manifest.
    pub manifest: ImageManifest,
    /// The manifest as it came.
    pub bytes: Bytes,
}

impl PlatformImage {
    /// What is wrong with the image, for the caller.
    pub fn bad(&self, reason: impl Into<String>) -> FactoryError {
        FactoryError::BadSource { image: format!("{}@{}", self.repository, self.digest), reason: reason.into() }
    }
}

/// The source images.
pub struct Sources {
    upstream: Arc<Upstream>,
    verifier: Arc<Verifier>,
    policy: String,
    store: Arc<dyn BlobStore>,
    metrics: Arc<Metrics>,
    components: Components,
    /// Digests that belong to verified images, by repository.
    members: RwLock<HashSet<(String, Digest)>>,
    tags: SingleFlight<(String, String), Digest, FactoryError>,
    images: SingleFlight<(String, Digest), Arc<Manifest>, FactoryError>,
    blobs: SingleFlight<Digest, (), FactoryError>,
    /// The tag by which a digest was last found, for tools that read the store's folder.
    names: moka::sync::Cache<(String, Digest), String>,
    /// Verified manifests in memory.
    memory: moka::sync::Cache<(String, Digest), Arc<Manifest>>,
    /// Their parts for an architecture.
    platforms: moka::sync::Cache<(String, Digest, Arch), PlatformImage>,
}

impl Sources {
    /// Sources that come from `upstream` under the policy of `verifier` and are kept in `store`.
    pub fn new(
        upstream: Arc<Upstream>,
        verifier: Arc<Verifier>,
        store: Arc<dyn BlobStore>,
        metrics: Arc<Metrics>,
        components: Components,
    ) -> Self {
        Self {
            upstream,
            policy: verifier.id(),
            verifier,
            store,
            metrics,
            components,
            members: RwLock::default(),
            tags: SingleFlight::new(Some(NEGATIVE)),
            images: SingleFlight::new(Some(NEGATIVE)),
            blobs: SingleFlight::new(None),
            names: moka::sync::Cache::new(2000),
            memory: moka::sync::Cache::new(2000),
            platforms: moka::sync::Cache::new(2000),
        }
    }

    /// Repository paths of a release's images.
    pub const fn components(&self) -> &Components {
        &self.components
    }

    /// The tags of a repository.
    ///
    /// # Errors
    /// As the upstream says.
    pub async fn tags(&self, repository: &str) -> Result<Vec<String>, FactoryError> {
        self.upstream.tags(repository).await.map_err(|error| self.failed(error, repository))
    }

    /// The digest that a tag stands for. A version's tag is pinned by its first resolution; other tags are asked for
    /// anew, and the last answer serves while the upstream is down.
    ///
    /// # Errors
    /// [`FactoryError::NoSuchTag`], or as the upstream says.
    pub async fn resolve(self: &Arc<Self>, repository: &str, tag: &str) -> Result<Digest, FactoryError> {
        let key = format!("{repository}:{tag}");
        let pinned = self.record(RecordKind::Tag, &key).await?.and_then(|bytes| digest_of(&bytes));
        if let (Some(digest), true) = (pinned, TalosVersion::parse(tag).is_ok()) {
            self.names.insert((repository.to_owned(), digest), tag.to_owned());
            return Ok(digest);
        }
        let (sources, repository, tag) = (self.clone(), repository.to_owned(), tag.to_owned());
        let fetched = self
            .tags
            .run((repository.clone(), tag.clone()), move || async move {
                let reference = Reference::Tag(tag.clone());
                let manifest =
                    sources.upstream.manifest(&repository, &reference).await.map_err(|error| match error {
                        UpstreamError::NotFound { .. } => {
                            FactoryError::NoSuchTag { repository: repository.clone(), tag: tag.clone() }
                        }
                        other => sources.failed(other, &repository),
                    })?;
                let digest = manifest.digest;
                sources.names.insert((repository.clone(), digest), tag.clone());
                sources.put_record(RecordKind::Tag, &format!("{repository}:{tag}"), digest.to_string()).await?;
                Ok(digest)
            })
            .await;
        match (fetched, pinned) {
            (Ok(digest), _) | (Err(FactoryError::Unavailable(_)), Some(digest)) => Ok(digest),
            (Err(error), _) => Err(error),
        }
    }

    /// Forgets what the version's tags stand for, so that they are resolved anew.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn forget(&self, version: &TalosVersion) -> Result<usize, FactoryError> {
        let (store, suffix) = (self.store.clone(), format!(":{version}"));
        blocking(move || {
            let keys = store.record_keys(RecordKind::Tag)?;
            let keys: Vec<_> = keys.into_iter().filter(|key| key.ends_with(&suffix)).collect();
            for key in &keys {
                store.remove_record(RecordKind::Tag, key)?;
            }
            Ok::<_, FactoryError>(keys.len())
        })
        .await
    }

    /// The manifest or index of a verified image, by its digest.
    ///
    /// # Errors
    /// [`FactoryError::Untrusted`] when no signature satisfies the policy, otherwise as the upstream says.
    pub async fn image(self: &Arc<Self>, repository: &str, digest: &Digest) -> Result<Arc<Manifest>, FactoryError> {
        let key = (repository.to_owned(), *digest);
        if let Some(found) = self.memory.get(&key) {
            return Ok(found);
        }
        let (sources, repository, digest) = (self.clone(), repository.to_owned(), *digest);
        self.images
            .run(key, move || async move {
                sources.verified(&repository, &digest).await?;
                let manifest = sources.manifest(&repository, &digest, None).await?;
                sources.name(&repository, &digest, &manifest, "").await?;
                sources.memory.insert((repository, digest), manifest.clone());
                Ok(manifest)
            })
            .await
    }

    /// Lets other tools that read the store's folder find a verified image, or the part of it for an architecture: by the
    /// tag of the whole and `suffix`. Some tools read no indexes.
    async fn name(
        &self,
        repository: &str,
        image: &Digest,
        manifest: &Manifest,
        suffix: &str,
    ) -> Result<(), FactoryError> {
        let Some(tag) = self.names.get(&(repository.to_owned(), *image)) else { return Ok(()) };
        let (store, name) = (self.store.clone(), format!("{repository}:{tag}{suffix}"));
        let (media_type, digest, size) = (manifest.media_type.as_str(), manifest.digest, manifest.bytes.len() as u64);
        blocking(move || store.index_image(&name, media_type, &digest, size)).await
    }

    /// The part of a verified image for Linux on `arch`. A plain manifest has its platform in its config.
    ///
    /// # Errors
    /// [`FactoryError::BadSource`] when the image has no such part.
    pub async fn platform(
        self: &Arc<Self>,
        repository: &str,
        digest: &Digest,
        arch: Arch,
    ) -> Result<PlatformImage, FactoryError> {
        let key = (repository.to_owned(), *digest, arch);
        if let Some(found) = self.platforms.get(&key) {
            return Ok(found);
        }
        let found = self.find_platform(repository, digest, arch).await?;
        self.platforms.insert(key, found.clone());
        Ok(found)
    }

    async fn find_platform(
        self: &Arc<Self>,
        repository: &str,
        digest: &Digest,
        arch: Arch,
    ) -> Result<PlatformImage, FactoryError> {
        let image = self.image(repository, digest).await?;
        let missing = || FactoryError::BadSource {
            image: format!("{repository}@{digest}"),
            reason: format!("it has no image for linux/{arch}"),
        };
        match &image.content {
            Content::Index(index) => {
                let descriptor = index.platform_manifest(arch).ok_or_else(missing)?;
                let manifest = self.manifest(repository, &descriptor.digest, Some(descriptor)).await?;
                self.name(repository, digest, &manifest, &format!("-{arch}")).await?;
                match &manifest.content {
                    Content::Image(found) => Ok(PlatformImage {
                        repository: repository.to_owned(),
                        digest: manifest.digest,
                        manifest: found.clone(),
                        bytes: manifest.bytes.clone(),
                    }),
                    Content::Index(_) => Err(missing()),
                }
            }
            Content::Image(found) => {
                let config = self.small(repository, &found.config).await?;
                let platform: crate::upstream::Platform =
                    serde_json::from_slice(&config).map_err(|error| FactoryError::BadSource {
                        image: format!("{repository}@{digest}"),
                        reason: format!("its config: {error}"),
                    })?;
                if !platform.is(arch) {
                    return Err(missing());
                }
                Ok(plain(repository, &image, found))
            }
        }
    }

    /// The part of a verified image that holds what is the same for every architecture: its only part, or that of amd64.
    ///
    /// # Errors
    /// [`FactoryError::BadSource`] when the image has no such part.
    pub async fn any_platform(
        self: &Arc<Self>,
        repository: &str,
        digest: &Digest,
    ) -> Result<PlatformImage, FactoryError> {
        let image = self.image(repository, digest).await?;
        match &image.content {
            Content::Image(found) => Ok(plain(repository, &image, found)),
            Content::Index(_) => self.platform(repository, digest, Arch::Amd64).await,
        }
    }

    /// Whether a version's tag has been resolved before.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn is_pinned(&self, repository: &str, tag: &str) -> Result<bool, FactoryError> {
        Ok(self.record(RecordKind::Tag, &format!("{repository}:{tag}")).await?.is_some())
    }

    /// Refuses an image that no signature vouches for. The verdict is remembered by digest and policy.
    async fn verified(&self, repository: &str, digest: &Digest) -> Result<(), FactoryError> {
        let key = format!("{}-{}", digest.hex(), self.policy);
        if self.record(RecordKind::Verdict, &key).await?.is_some() {
            return Ok(());
        }
        let image = || format!("{repository}@{digest}");
        let verdict = match self.verifier.verify_image(self.upstream.as_ref(), repository, digest).await {
            Ok(verdict) => verdict,
            Err(error @ VerifyError::Source { .. }) => return Err(self.unread(error, repository)),
            Err(error) => {
                // What does not exist is not signed either.
                let reference = Reference::Digest(*digest);
                if let Err(UpstreamError::NotFound { .. }) = self.upstream.manifest(repository, &reference).await {
                    return Err(FactoryError::NoSuchManifest(*digest));
                }
                self.metrics.refused_signatures.inc();
                tracing::warn!(image = %image(), reason = %error, "source image refused");
                return Err(FactoryError::Untrusted { reason: error.to_string() });
            }
        };
        tracing::info!(image = %image(), identity = ?verdict, "source image verified");
        let text = serde_json::to_string(&verdict).map_err(|error| FactoryError::Internal(error.to_string()))?;
        self.put_record(RecordKind::Verdict, &key, text).await
    }

    /// A manifest that is known to belong to a verified image, from the store or the upstream.
    async fn manifest(
        &self,
        repository: &str,
        digest: &Digest,
        descriptor: Option<&Descriptor>,
    ) -> Result<Arc<Manifest>, FactoryError> {
        let bad = |reason: String| FactoryError::BadSource { image: format!("{repository}@{digest}"), reason };
        let key = format!("{repository}@{}", digest.hex());
        let known: Option<Known> =
            self.record(RecordKind::Origin, &key).await?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let (store, wanted) = (self.store.clone(), *digest);
        let stored = blocking(move || match store.open(&wanted)? {
            Some(file) => Ok::<_, FactoryError>(file.read_all(store.as_ref()).ok()),
            None => Ok(None),
        })
        .await?;
        let manifest = match (stored, &known) {
            (Some(bytes), Some(known)) => {
                Manifest::parse(bytes, Some(&known.media_type)).map_err(|error| bad(error.to_string()))?
            }
            _ => {
                let reference = Reference::Digest(*digest);
                let manifest = self.upstream.manifest(repository, &reference).await.map_err(|error| match error {
                    UpstreamError::NotFound { .. } => FactoryError::NoSuchManifest(*digest),
                    other => self.failed(other, repository),
                })?;
                let (store, bytes) = (self.store.clone(), manifest.bytes.clone());
                blocking(move || store.put(&bytes, Some(&wanted))).await?;
                manifest
            }
        };
        if descriptor.is_some_and(|descriptor| descriptor.size != manifest.bytes.len() as u64) {
            return Err(bad("its size is not what the index says".to_owned()));
        }
        let learnt = learn(&manifest);
        if known.is_none() {
            let text = serde_json::to_string(&learnt).map_err(|error| FactoryError::Internal(error.to_string()))?;
            self.put_record(RecordKind::Origin, &key, text).await?;
        }
        self.admit(repository, &learnt);
        Ok(Arc::new(manifest))
    }

    /// Makes sure that a blob of a verified image is in the store.
    ///
    /// # Errors
    /// As the upstream says, and when the store has no room.
    pub async fn fetch(
        self: &Arc<Self>,
        repository: &str,
        digest: &Digest,
        size: Option<u64>,
    ) -> Result<(), FactoryError> {
        let (store, wanted) = (self.store.clone(), *digest);
        if blocking(move || store.open(&wanted)).await?.is_some() {
            return Ok(());
        }
        let (sources, repository) = (self.clone(), repository.to_owned());
        self.blobs
            .run(*digest, move || async move {
                let store = sources.store.clone();
                sources.upstream.blob(&repository, &wanted, size, move || store.writer()).await.map_err(|error| {
                    match error {
                        UpstreamError::NotFound { .. } => FactoryError::NoSuchBlob(wanted),
                        other => sources.failed(other, &repository),
                    }
                })?;
                sources.metrics.count_made("source-blob");
                Ok(())
            })
            .await
    }

    /// A small blob of a verified image: a config.
    ///
    /// # Errors
    /// As [`Sources::fetch`].
    pub async fn small(self: &Arc<Self>, repository: &str, descriptor: &Descriptor) -> Result<Bytes, FactoryError> {
        const MAX: u64 = 4 << 20;
        if descriptor.size > MAX {
            return Err(FactoryError::BadSource {
                image: repository.to_owned(),
                reason: format!("its config {} has {} bytes", descriptor.digest, descriptor.size),
            });
        }
        self.fetch(repository, &descriptor.digest, Some(descriptor.size)).await?;
        let (store, digest) = (self.store.clone(), descriptor.digest);
        blocking(move || {
            let file = store.open(&digest)?;
            Ok::<_, FactoryError>(file.map(|file| file.read_all(store.as_ref())).transpose()?)
        })
        .await?
        .ok_or_else(|| FactoryError::Internal(format!("blob {digest} was dropped while it was being read")))
    }

    async fn record(&self, kind: RecordKind, key: &str) -> Result<Option<Bytes>, FactoryError> {
        let (store, key) = (self.store.clone(), key.to_owned());
        blocking(move || store.record(kind, &key)).await
    }

    async fn put_record(&self, kind: RecordKind, key: &str, value: String) -> Result<(), FactoryError> {
        let (store, key) = (self.store.clone(), key.to_owned());
        blocking(move || store.put_record(kind, &key, value.as_bytes())).await
    }

    /// What it means that signatures could not be read: the upstream's failure where it was one.
    fn unread(&self, error: VerifyError, repository: &str) -> FactoryError {
        self.metrics.upstream_failures.inc();
        let text = error.to_string();
        match &error {
            VerifyError::Source { error, .. } => match error.0.downcast_ref::<UpstreamError>() {
                Some(UpstreamError::BadAnswer { .. } | UpstreamError::NotFound { .. }) => {
                    FactoryError::BadSource { image: repository.to_owned(), reason: text }
                }
                _ => FactoryError::Unavailable(text),
            },
            _ => FactoryError::Unavailable(text),
        }
    }

    /// What a failure of the upstream means for the caller.
    fn failed(&self, error: UpstreamError, repository: &str) -> FactoryError {
        self.metrics.upstream_failures.inc();
        match error {
            UpstreamError::Store(error) => error.into(),
            UpstreamError::NotFound { .. } => FactoryError::NoSuchImage(repository.to_owned()),
            UpstreamError::Name { .. } => FactoryError::NoSuchImage(repository.to_owned()),
            UpstreamError::Unavailable { .. } => FactoryError::Unavailable(error.to_string()),
            UpstreamError::BadAnswer { .. } | UpstreamError::Unauthorized { .. } => {
                FactoryError::BadSource { image: repository.to_owned(), reason: error.to_string() }
            }
            UpstreamError::Config(reason) => FactoryError::Internal(reason),
        }
    }
}

/// An image without an index.
fn plain(repository: &str, image: &Manifest, manifest: &ImageManifest) -> PlatformImage {
    PlatformImage {
        repository: repository.to_owned(),
        digest: image.digest,
        manifest: manifest.clone(),
        bytes: image.bytes.clone(),
    }
}

fn digest_of(bytes: &[u8]) -> Option<Digest> {
    std::str::from_utf8(bytes).ok()?.trim().parse().ok()
}

fn learn(manifest: &Manifest) -> Known {
    let (manifests, blobs) = match &manifest.content {
        Content::Index(index) => (index.manifests.iter().map(|entry| entry.digest).collect(), Vec::new()),
        Content::Image(image) => {
            let blobs = image.layers.iter().chain([&image.config]).map(|entry| (entry.digest, entry.size)).collect();
            (Vec::new(), blobs)
        }
    };
    Known { media_type: manifest.media_type.as_str().to_owned(), manifests, blobs }
}
