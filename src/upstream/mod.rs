//! The OCI client that fetches source images: from a registry, or from an image layout in a folder.
//!
//! Everything is checked against its digest and bounded in size and time. Nothing here decides trust: the room `verify`
//! asks for manifests, referrers and small blobs, and judges signatures.

mod auth;
mod blob;
mod body;
mod challenge;
mod config;
mod credentials;
mod error;
mod layout;
mod manifest;
mod name;
mod registry;
mod retry;
mod transport;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::store::{BlobWrite, StoreError};
use crate::types::Digest;

pub use config::UpstreamConfig;
pub use error::{Place, UpstreamError};
pub use manifest::{
    Content, Descriptor, ImageIndex, ImageManifest, Manifest, ManifestError, ManifestType, Platform, config_platform,
};
pub use name::Reference;

use blob::Wanted;
use layout::Layout;
use registry::Registry;

/// Small requests under way for each download that may be.
const SMALL_PER_DOWNLOAD: usize = 4;

/// A source of images. Repositories are named without the configured namespace: `siderolabs/imager`.
pub struct Upstream {
    backend: Backend,
    config: UpstreamConfig,
    downloads: Semaphore,
    small: Semaphore,
}

enum Backend {
    Registry(Box<Registry>),
    Layout(Arc<Layout>),
}

impl Upstream {
    /// Makes the client; nothing is asked yet, so it works while the upstream is down.
    ///
    /// # Errors
    /// [`UpstreamError::Config`] for a registry that is neither a host nor `oci:<folder>`, a namespace that is no
    /// repository path, limits of zero, or a machine without root certificates.
    pub fn new(config: UpstreamConfig) -> Result<Self, UpstreamError> {
        config.check()?;
        let backend = match config.registry.strip_prefix("oci:") {
            Some("") => return Err(UpstreamError::Config("registry \"oci:\": the folder is missing".to_owned())),
            Some(folder) => Backend::Layout(Arc::new(Layout::new(Path::new(folder), config.max_manifest))),
            None => Backend::Registry(Box::new(Registry::new(&config)?)),
        };
        let downloads = Semaphore::new(config.max_parallel);
        let small = Semaphore::new(config.max_parallel * SMALL_PER_DOWNLOAD);
        Ok(Self { backend, config, downloads, small })
    }

    /// The registry as configured, for messages and for generated references.
    pub fn registry(&self) -> &str {
        &self.config.registry
    }

    /// All tags of a repository, in the order of the upstream.
    ///
    /// # Errors
    /// [`UpstreamError`]; [`UpstreamError::NotFound`] when the repository is unknown.
    pub async fn tags(&self, repository: &str) -> Result<Vec<String>, UpstreamError> {
        let place = self.place(repository, None)?;
        let _permit = permit(&self.small, &place).await?;
        match &self.backend {
            Backend::Registry(registry) => registry.tags(&place).await,
            Backend::Layout(layout) => blocking(layout, place, |layout, place| layout.tags(place)).await,
        }
    }

    /// A manifest or index. Its digest is computed from the bytes; by digest it is the one asked for.
    ///
    /// # Errors
    /// [`UpstreamError`]; [`UpstreamError::BadAnswer`] when it is none, has another digest, or is too large.
    pub async fn manifest(&self, repository: &str, reference: &Reference) -> Result<Manifest, UpstreamError> {
        let place = self.place(repository, Some(reference.clone()))?;
        let _permit = permit(&self.small, &place).await?;
        match &self.backend {
            Backend::Registry(registry) => registry.manifest(&place, reference).await,
            Backend::Layout(layout) => {
                let reference = reference.clone();
                blocking(layout, place, move |layout, place| layout.manifest(place, &reference)).await
            }
        }
    }

    /// The manifests that refer to `digest` by their `subject`; empty when there are none or the upstream knows none.
    ///
    /// # Errors
    /// [`UpstreamError`]
    pub async fn referrers(&self, repository: &str, digest: &Digest) -> Result<Vec<Descriptor>, UpstreamError> {
        let place = self.place(repository, Some((*digest).into()))?;
        let _permit = permit(&self.small, &place).await?;
        match &self.backend {
            Backend::Registry(registry) => registry.referrers(&place, digest).await,
            Backend::Layout(layout) => {
                let digest = *digest;
                blocking(layout, place, move |layout, place| layout.referrers(place, &digest)).await
            }
        }
    }

    /// A blob of at most `max` bytes, in memory: configs, signature payloads, bundles. Its digest is checked.
    ///
    /// # Errors
    /// [`UpstreamError`]
    pub async fn small_blob(&self, repository: &str, digest: &Digest, max: u64) -> Result<Bytes, UpstreamError> {
        let place = self.place(repository, Some((*digest).into()))?;
        let _permit = permit(&self.small, &place).await?;
        match &self.backend {
            Backend::Registry(registry) => registry.small_blob(&place, digest, max).await,
            Backend::Layout(layout) => {
                let digest = *digest;
                blocking(layout, place, move |layout, place| layout.small_blob(place, &digest, max)).await
            }
        }
    }

    /// Fetches a blob into the store and commits it there. `size` is what the manifest promised, in bytes; `writer`
    /// gives a fresh writer, and is called again when the upstream makes us start over. Waits for a free place among the
    /// downloads. A future that is dropped leaves the whole blob behind, or nothing.
    ///
    /// # Errors
    /// [`UpstreamError`]; [`UpstreamError::Store`] when the store fails.
    pub async fn blob(
        &self,
        repository: &str,
        digest: &Digest,
        size: Option<u64>,
        writer: impl Fn() -> Result<Box<dyn BlobWrite>, StoreError> + Send + Sync,
    ) -> Result<(Digest, u64), UpstreamError> {
        let place = self.place(repository, Some((*digest).into()))?;
        let max = self.config.max_blob;
        if let Some(size) = size.filter(|size| *size > max) {
            return Err(place.bad(format!("the manifest says {size} bytes; at most {max} are accepted")));
        }
        let _permit = permit(&self.downloads, &place).await?;
        let digest = *digest;
        match &self.backend {
            Backend::Registry(registry) => {
                let wanted = Wanted { place: &place, digest, size, max };
                let limit = self.config.blob_timeout;
                match tokio::time::timeout(limit, registry.blob(&wanted, writer)).await {
                    Ok(result) => result,
                    Err(_) => Err(place.unavailable(format!("not whole within {} s", limit.as_secs_f32()))),
                }
            }
            Backend::Layout(layout) => {
                let writer = writer()?;
                blocking(layout, place, move |layout, place| layout.blob(place, &digest, size, max, writer)).await
            }
        }
    }

    fn place(&self, repository: &str, reference: Option<Reference>) -> Result<Place, UpstreamError> {
        let repository = match self.config.namespace.as_str() {
            "" => repository.to_owned(),
            namespace => format!("{namespace}/{repository}"),
        };
        name::check_repository(&repository)?;
        if let Some(Reference::Tag(tag)) = &reference {
            name::check_tag(tag)?;
        }
        Ok(Place { registry: self.config.registry.clone(), repository, reference })
    }
}

async fn permit<'a>(semaphore: &'a Semaphore, place: &Place) -> Result<SemaphorePermit<'a>, UpstreamError> {
    semaphore.acquire().await.map_err(|_| place.unavailable("shutting down"))
}

/// Runs work on a folder where blocking is allowed.
async fn blocking<T: Send + 'static>(
    layout: &Arc<Layout>,
    place: Place,
    work: impl FnOnce(&Layout, &Place) -> Result<T, UpstreamError> + Send + 'static,
) -> Result<T, UpstreamError> {
    let layout = Arc::clone(layout);
    let at = place.clone();
    let joined = tokio::task::spawn_blocking(move || work(&layout, &place)).await;
    joined.unwrap_or_else(|error| Err(at.unavailable(format!("reading the folder: {error}"))))
}
