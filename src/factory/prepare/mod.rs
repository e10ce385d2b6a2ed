//! What is prepared once per input digest and shared by all models: files of releases, extensions, module indexes.

mod blobs;
mod contents;
mod disk;
mod extension;
mod grub;
mod iso;
mod model;
mod modules;
mod overlay;
mod spool;
mod unpack;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::sources::{PlatformImage, Sources};
use super::{FactoryError, blocking};
use crate::format::depmod::ModuleTree;
use crate::store::{BlobStore, RecordKind, SingleFlight};
use crate::telemetry::Metrics;
use crate::types::{Arch, Digest, TalosVersion};
use crate::virtual_file::VirtualFile;

pub use model::{Model, command_line};
pub use overlay::{OverlayInstall, OverlayOptions, PreparedOverlay};

use extension::PreparedExtension;

/// A blob in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

impl StoredFile {
    /// The blob as a file.
    pub fn file(&self) -> VirtualFile {
        VirtualFile::blob(self.digest, self.size)
    }
}

/// Files of an image by path.
type Files = BTreeMap<String, StoredFile>;

/// Something prepared that is written down as a record and stands for blobs in the store.
trait Prepared: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The blobs without which it is worth nothing.
    fn blobs(&self) -> Vec<StoredFile>;
}

impl Prepared for Files {
    fn blobs(&self) -> Vec<StoredFile> {
        self.values().copied().collect()
    }
}

/// How long the failure of a foreign program is remembered: it may have taken long to fail.
const FAILED_PROGRAM: Duration = Duration::from_secs(60);

/// Prepares, and finds what was prepared.
pub struct Preparer {
    store: Arc<dyn BlobStore>,
    sources: Arc<Sources>,
    metrics: Arc<Metrics>,
    /// Bound on work that takes a processor.
    jobs: Arc<Semaphore>,
    files: SingleFlight<String, Arc<Files>, FactoryError>,
    extensions: SingleFlight<String, Arc<PreparedExtension>, FactoryError>,
    modules: SingleFlight<String, modules::Facts, FactoryError>,
    grubs: SingleFlight<String, Arc<grub::Grub>, FactoryError>,
    indexes: SingleFlight<String, Arc<modules::Index>, FactoryError>,
    packs: SingleFlight<String, contents::Packed, FactoryError>,
    overlay_bundles: SingleFlight<String, Arc<overlay::Bundle>, FactoryError>,
    overlay_options: SingleFlight<String, Arc<OverlayOptions>, FactoryError>,
    overlay_installs: SingleFlight<String, Arc<OverlayInstall>, FactoryError>,
    /// Facts of modules in memory, by the digest of their blob.
    facts: moka::sync::Cache<Digest, Arc<ModuleTree>>,
    /// What was compressed, and what is better not, in memory.
    packed: moka::sync::Cache<String, contents::Packed>,
    /// CRC-32 of parts of blobs in memory.
    sums: moka::sync::Cache<contents::Part, u32>,
}

impl Preparer {
    /// Prepares what comes from `sources` into `store`, at most as many jobs at once as `jobs` has places.
    pub fn new(store: Arc<dyn BlobStore>, sources: Arc<Sources>, metrics: Arc<Metrics>, jobs: Arc<Semaphore>) -> Self {
        Self {
            store,
            sources,
            metrics,
            jobs,
            files: SingleFlight::new(None),
            extensions: SingleFlight::new(None),
            modules: SingleFlight::new(None),
            grubs: SingleFlight::new(None),
            indexes: SingleFlight::new(None),
            overlay_bundles: SingleFlight::new(None),
            overlay_options: SingleFlight::new(Some(FAILED_PROGRAM)),
            overlay_installs: SingleFlight::new(Some(FAILED_PROGRAM)),
            facts: moka::sync::Cache::new(256),
            packs: SingleFlight::new(None),
            packed: moka::sync::Cache::new(4096),
            sums: moka::sync::Cache::new(1 << 16),
        }
    }

    /// What was prepared under `key`, if all its blobs are still there.
    async fn recall<T: Prepared>(&self, key: &str) -> Result<Option<T>, FactoryError> {
        let (store, key) = (self.store.clone(), key.to_owned());
        blocking(move || {
            let Some(bytes) = store.record(RecordKind::Prepared, &key)? else { return Ok(None) };
            // A record of another layout is as good as none.
            let Ok(prepared) = serde_json::from_slice::<T>(&bytes) else { return Ok(None) };
            for blob in prepared.blobs() {
                if store.open(&blob.digest)?.is_none_or(|found| found.len() != blob.size) {
                    return Ok(None);
                }
            }
            Ok::<_, FactoryError>(Some(prepared))
        })
        .await
    }

    /// Runs a job that takes a processor, in its turn, and writes down what it made.
    async fn prepare<T: Prepared>(
        &self,
        key: &str,
        kind: &'static str,
        job: impl FnOnce(&dyn BlobStore) -> Result<T, FactoryError> + Send + 'static,
    ) -> Result<T, FactoryError> {
        let place = self.jobs.acquire().await;
        let (store, key) = (self.store.clone(), key.to_owned());
        let made = blocking(move || {
            let made = job(store.as_ref())?;
            let text = serde_json::to_vec(&made).map_err(|error| FactoryError::Internal(error.to_string()))?;
            store.put_record(RecordKind::Prepared, &key, &text)?;
            Ok::<_, FactoryError>(made)
        })
        .await;
        drop(place);
        self.metrics.count_made(kind);
        made
    }

    /// Prepares something from the layers of an image, which are fetched if need be: again where one was found damaged.
    async fn prepare_image<T: Prepared>(
        &self,
        key: &str,
        kind: &'static str,
        image: &PlatformImage,
        job: impl Fn(&dyn BlobStore, &PlatformImage) -> Result<T, FactoryError> + Copy + Send + 'static,
    ) -> Result<T, FactoryError> {
        let mut attempts_left = image.manifest.layers.len();
        loop {
            self.fetch_layers(image).await?;
            let source = image.clone();
            match self.prepare(key, kind, move |store| job(store, &source)).await {
                Err(FactoryError::Unavailable(reason)) if attempts_left > 0 => {
                    tracing::warn!(key, reason, "layers are fetched again");
                    attempts_left -= 1;
                }
                other => return other,
            }
        }
    }

    /// Makes sure that all of an image is in the store.
    async fn fetch_layers(&self, image: &PlatformImage) -> Result<(), FactoryError> {
        // The config too: with it, other tools can read the image in the store's folder.
        let parts = image.manifest.layers.iter().chain([&image.manifest.config]);
        let fetches = parts.map(|part| self.sources.fetch(&image.repository, &part.digest, Some(part.size)));
        futures::future::try_join_all(fetches).await?;
        Ok(())
    }

    /// The files of an image whose path `wanted` likes, each as a blob. `purpose` names the choice.
    async fn image_files(
        self: &Arc<Self>,
        image: &PlatformImage,
        purpose: &'static str,
        wanted: fn(&str) -> bool,
    ) -> Result<Arc<Files>, FactoryError> {
        let key = format!("{purpose}/{}", image.digest.hex());
        let (preparer, image) = (self.clone(), image.clone());
        self.files
            .run(key.clone(), move || async move {
                if let Some(found) = preparer.recall::<Files>(&key).await? {
                    return Ok(Arc::new(found));
                }
                let files = move |store: &dyn BlobStore, image: &PlatformImage| unpack::files(store, image, wanted);
                Ok(Arc::new(preparer.prepare_image(&key, purpose, &image, files).await?))
            })
            .await
    }

    /// Files of a version's image that is the same for every architecture, such as a catalog.
    async fn version_files(
        self: &Arc<Self>,
        repository: &str,
        version: &TalosVersion,
        purpose: &'static str,
        wanted: fn(&str) -> bool,
    ) -> Result<Arc<Files>, FactoryError> {
        let digest = self.sources.resolve(repository, &version.to_string()).await?;
        let image = self.sources.any_platform(repository, &digest).await?;
        self.image_files(&image, purpose, wanted).await
    }

    /// The files of a catalog image, read.
    ///
    /// # Errors
    /// As the source images are to be had.
    pub async fn catalog(
        self: &Arc<Self>,
        repository: &str,
        version: &TalosVersion,
    ) -> Result<BTreeMap<String, Bytes>, FactoryError> {
        match self.read_catalog(repository, version).await {
            // A file was found damaged, and dropped.
            Err(FactoryError::Unavailable(_)) => self.read_catalog(repository, version).await,
            other => other,
        }
    }

    async fn read_catalog(
        self: &Arc<Self>,
        repository: &str,
        version: &TalosVersion,
    ) -> Result<BTreeMap<String, Bytes>, FactoryError> {
        const MAX: u64 = 16 << 20;
        let wanted = |path: &str| matches!(path, "image-digests" | "descriptions.yaml" | "overlays.yaml");
        let files = self.version_files(repository, version, "catalog", wanted).await?;
        if let Some((name, file)) = files.iter().find(|(_, file)| file.size > MAX) {
            return Err(FactoryError::BadSource {
                image: format!("{repository}:{version}"),
                reason: format!("its file {name} has {} bytes; a catalog has {MAX} at most", file.size),
            });
        }
        let store = self.store.clone();
        blocking(move || {
            let read = |(name, file): (&String, &StoredFile)| (name.clone(), file.file().read_all(store.as_ref()));
            // All of them, so that all that are damaged are found.
            let read: Vec<_> = files.iter().map(read).collect();
            read.into_iter().map(|(name, bytes)| Ok((name, bytes?))).collect::<Result<_, FactoryError>>()
        })
        .await
    }

    /// The files of talosctl of a version, by name.
    ///
    /// # Errors
    /// As the source images are to be had.
    pub async fn talosctl(
        self: &Arc<Self>,
        repository: &str,
        version: &TalosVersion,
    ) -> Result<Arc<Files>, FactoryError> {
        let wanted = |path: &str| path.starts_with("talosctl-") && !path.contains('/');
        self.version_files(repository, version, "talosctl", wanted).await
    }

    /// The boot assets of both architectures in an imager image.
    async fn release(self: &Arc<Self>, imager: &Digest) -> Result<Arc<Files>, FactoryError> {
        let repository = &self.sources.components().imager;
        // The amd64 image holds the files of both.
        let image = self.sources.platform(repository, imager, Arch::Amd64).await?;
        let wanted = |path: &str| {
            path.strip_prefix("usr/install/").and_then(|rest| rest.split_once('/')).is_some_and(|(arch, name)| {
                Arch::parse(arch).is_some()
                    && matches!(name, "vmlinuz" | "initramfs.xz" | "systemd-stub.efi" | "systemd-boot.efi")
            })
        };
        self.image_files(&image, "release", wanted).await
    }
}
