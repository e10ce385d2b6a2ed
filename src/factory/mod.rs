//! Use cases: from a schematic and a version to what is served.

mod announced;
mod assets;
mod catalogs;
mod error;
mod hash;
mod installer;
mod overlay;
mod prepare;
mod recipe;
mod registry;
mod repository;
mod resolve;
mod schematics;
mod sources;

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::config::BuildConfig;
use crate::sign::ImageSigner;
use crate::store::BlobStore;
use crate::telemetry::Metrics;
use crate::types::{Digest, DigestError, TalosVersion};
use crate::virtual_file::{ReadBlob, VirtualFile};

pub use announced::Document;
pub use assets::{Algorithm, Asset, AssetKind, AssetPath, Credentials, PathError, PlanLine};
pub use error::FactoryError;
pub use overlay::OverlayPlan;
pub use prepare::{OverlayInstall, OverlayOptions, PreparedOverlay};
pub use repository::{InstallerImage, Repository};
pub use resolve::ResolvedOverlay;
pub use schematics::Created;
pub use sources::Sources;

use announced::Announcements;
use assets::Assets;
use catalogs::Catalogs;
use installer::Installers;
use prepare::Preparer;
use resolve::Resolver;
use schematics::Schematics;

/// What the factory needs to know and to work with.
pub struct FactoryParts {
    /// Where everything is kept.
    pub store: Arc<dyn BlobStore>,
    /// Where source images come from.
    pub sources: Arc<Sources>,
    /// The key that signs what is made.
    pub signer: ImageSigner,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Which versions are offered, and how much is done at once.
    pub build: BuildConfig,
    /// Address by which clients reach us, ending in a slash.
    pub external_url: url::Url,
    /// Address by which iPXE reaches us.
    pub external_pxe_url: url::Url,
    /// Registry host (and port) or folder that catalog entries are shown with.
    pub registry: String,
    /// Schematics kept in memory.
    pub schematic_capacity: usize,
}

/// The factory: everything that is served, behind no particular door.
pub struct Factory {
    store: Arc<dyn BlobStore>,
    sources: Arc<Sources>,
    catalogs: Arc<Catalogs>,
    schematics: Schematics,
    installers: Arc<Installers>,
    assets: Arc<Assets>,
    preparer: Arc<Preparer>,
    resolver: Arc<Resolver>,
    signer: Arc<ImageSigner>,
    external_url: url::Url,
    external_pxe_url: url::Url,
}

impl Factory {
    /// A factory of these parts.
    pub fn new(parts: FactoryParts) -> Self {
        let FactoryParts { store, sources, signer, metrics, build, external_url, external_pxe_url, registry, .. } =
            parts;
        let hashing_places = build.max_concurrency;
        let jobs = Arc::new(Semaphore::new(build.max_concurrency));
        let preparer = Arc::new(Preparer::new(store.clone(), sources.clone(), metrics.clone(), jobs.clone()));
        let catalogs = Arc::new(Catalogs::new(store.clone(), sources.clone(), preparer.clone(), build, registry));
        let schematics = Schematics::new(store.clone(), parts.schematic_capacity);
        let resolver = Arc::new(Resolver::new(sources.clone(), catalogs.clone()));
        let signer = Arc::new(signer);
        let installers = Arc::new(Installers::new(installer::Parts {
            announcements: Announcements::new(store.clone()),
            store: store.clone(),
            sources: sources.clone(),
            resolver: resolver.clone(),
            catalogs: catalogs.clone(),
            preparer: preparer.clone(),
            signer: signer.clone(),
            metrics: metrics.clone(),
            external_url: external_url.clone(),
        }));
        let assets = Arc::new(Assets::new(assets::Parts {
            store: store.clone(),
            resolver: resolver.clone(),
            preparer: preparer.clone(),
            installers: installers.clone(),
            metrics,
            external_url: external_url.clone(),
            hashing_places,
        }));
        Self {
            store,
            sources,
            catalogs,
            schematics,
            installers,
            assets,
            preparer,
            resolver,
            signer,
            external_url,
            external_pxe_url,
        }
    }

    /// Where the bytes of everything served come from.
    pub fn blobs(&self) -> Arc<dyn ReadBlob> {
        Arc::new(self.store.clone())
    }

    /// Why the factory is not ready, or `None` if it is.
    pub fn not_ready(&self) -> Option<String> {
        self.catalogs.not_ready()
    }

    /// Reads the upstream's list of versions again, now and every `interval`, until the returned future is dropped.
    pub async fn keep_versions(&self, interval: std::time::Duration, metrics: &Metrics) {
        loop {
            if let Err(error) = self.catalogs.refresh().await {
                tracing::warn!(%error, "the list of versions could not be read; the last good one stays");
            }
            metrics.ready.set(u64::from(self.not_ready().is_none()));
            // While there is no list at all, try again soon.
            let wait =
                if self.not_ready().is_some() { interval.min(std::time::Duration::from_secs(5)) } else { interval };
            tokio::time::sleep(wait).await;
        }
    }

    /// Reads the upstream's list of versions once, or the last good one.
    ///
    /// # Errors
    /// When neither can be had.
    pub async fn list_versions(&self) -> Result<(), FactoryError> {
        self.catalogs.list().await.map(drop)
    }

    /// The public key of what is signed here, as PEM.
    pub fn signing_key_pem(&self) -> &str {
        self.signer.public_pem()
    }

    /// Offered versions, ascending.
    ///
    /// # Errors
    /// [`FactoryError::Unavailable`] while there has never been a list.
    pub async fn versions(&self) -> Result<Vec<TalosVersion>, FactoryError> {
        self.catalogs.versions()
    }

    /// Versions that are configured as broken.
    pub fn broken_versions(&self) -> Vec<TalosVersion> {
        self.catalogs.broken()
    }
}

/// A digest in a reference; `sha512` and others are nothing that we have.
fn reference_digest(text: &str) -> Result<Digest, FactoryError> {
    text.parse().map_err(|error: DigestError| match error {
        DigestError::Algorithm(_) => FactoryError::NoSuchReference(text.to_owned()),
        DigestError::Malformed(_) => FactoryError::BadDigest(error.to_string()),
    })
}

/// The digest that a signature's tag is made of: `sha256-<hex>`, or `sha256-<hex>.sig`.
fn signature_subject(tag: &str) -> Option<Digest> {
    let hex = tag.strip_prefix("sha256-")?;
    Digest::from_hex(hex.strip_suffix(".sig").unwrap_or(hex)).ok()
}

/// Whether all blobs under a file are in the store. Blocks.
fn is_whole(store: &dyn BlobStore, file: &VirtualFile) -> Result<bool, FactoryError> {
    for (digest, end) in file.blobs() {
        if store.open(&digest)?.is_none_or(|blob| blob.len() < end) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Runs what may block on a thread where that is allowed.
async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, FactoryError>
where
    T: Send + 'static,
    E: Into<FactoryError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Into::into),
        Err(error) => Err(FactoryError::Internal(format!("a task broke off: {error}"))),
    }
}
