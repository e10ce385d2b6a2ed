//! Versions and catalogs: read from the upstream, kept, and still there when the upstream is not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};

use super::prepare::Preparer;
use super::sources::Sources;
use super::{Factory, FactoryError, blocking};
use crate::catalog::{self, Extension, Overlay};
use crate::config::BuildConfig;
use crate::schematic::Schematic;
use crate::store::{BlobStore, RecordKind, SingleFlight};
use crate::types::{Digest, TalosVersion};
use crate::virtual_file::VirtualFile;

/// The record that holds the last good list of versions.
const VERSIONS: &str = "versions";

/// Versions whose catalogs are read ahead, newest first, so that unknown names can be told.
const READ_AHEAD: usize = 200;

/// What is offered.
pub struct Catalogs {
    store: Arc<dyn BlobStore>,
    sources: Arc<Sources>,
    preparer: Arc<Preparer>,
    build: BuildConfig,
    registry: String,
    versions: RwLock<Option<Arc<Vec<TalosVersion>>>>,
    extensions: RwLock<BTreeMap<TalosVersion, Arc<Vec<Extension>>>>,
    loading: SingleFlight<TalosVersion, Arc<Vec<Extension>>, FactoryError>,
    overlays: RwLock<BTreeMap<TalosVersion, Arc<Vec<Overlay>>>>,
    /// Whether the catalogs of all offered versions were read, or are known not to exist.
    complete: std::sync::atomic::AtomicBool,
}

impl Catalogs {
    /// Catalogs out of `sources`; entries are shown with `registry` as their host.
    pub fn new(
        store: Arc<dyn BlobStore>,
        sources: Arc<Sources>,
        preparer: Arc<Preparer>,
        build: BuildConfig,
        registry: String,
    ) -> Self {
        Self {
            store,
            sources,
            preparer,
            build,
            registry,
            versions: RwLock::default(),
            extensions: RwLock::default(),
            loading: SingleFlight::new(Some(std::time::Duration::from_secs(10))),
            overlays: RwLock::default(),
            complete: false.into(),
        }
    }

    /// Why nothing can be made yet.
    pub fn not_ready(&self) -> Option<String> {
        self.versions().err().map(|error| error.to_string())
    }

    /// Offered versions, ascending.
    pub fn versions(&self) -> Result<Vec<TalosVersion>, FactoryError> {
        let versions = self.versions.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        versions
            .as_ref()
            .map(|versions| versions.to_vec())
            .ok_or_else(|| FactoryError::Unavailable("the list of Talos versions has not been read yet".to_owned()))
    }

    /// Versions that are configured as broken.
    pub fn broken(&self) -> Vec<TalosVersion> {
        let mut broken = self.build.broken_talos_versions.clone();
        broken.sort_unstable();
        broken
    }

    /// Reads the list of versions and their catalogs.
    pub async fn refresh(&self) -> Result<(), FactoryError> {
        let offered = self.list().await?;
        self.read_ahead(&offered).await;
        Ok(())
    }

    /// Reads the list of versions; when the upstream fails, the last good one stays, that of an earlier start included.
    pub async fn list(&self) -> Result<Arc<Vec<TalosVersion>>, FactoryError> {
        let listed = self.sources.tags(&self.sources.components().imager).await;
        let tags = match listed {
            Ok(tags) => {
                let (store, text) = (self.store.clone(), serde_json::to_vec(&tags).unwrap_or_default());
                blocking(move || store.put_record(RecordKind::Catalog, VERSIONS, &text)).await?;
                tags
            }
            Err(error) => {
                let store = self.store.clone();
                let kept = blocking(move || store.record(RecordKind::Catalog, VERSIONS)).await?;
                let kept: Option<Vec<String>> = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
                let Some(tags) = kept else { return Err(error) };
                tracing::warn!(%error, "the list of versions could not be read; the last good one stays");
                tags
            }
        };
        let offered = catalog::offered(&tags, &self.build.min_talos_version, &self.build.broken_talos_versions);
        let offered = Arc::new(offered);
        *self.versions.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(offered.clone());
        Ok(offered)
    }

    async fn read_ahead(&self, versions: &[TalosVersion]) {
        let mut complete = true;
        for version in versions.iter().rev().take(READ_AHEAD) {
            let (extensions, overlays) = (self.extensions(version).await, self.overlays(version).await);
            for read in [extensions.map(drop), overlays.map(drop)] {
                match read {
                    Ok(()) | Err(FactoryError::NoSuchTag { .. } | FactoryError::NoSuchVersion(_)) => {}
                    Err(error) => {
                        complete = false;
                        tracing::debug!(%version, %error, "catalog");
                    }
                }
            }
        }
        self.complete.store(complete, std::sync::atomic::Ordering::Relaxed);
    }

    /// Reads a version as a client writes it, and refuses those that are not offered.
    pub fn offered(&self, text: &str) -> Result<TalosVersion, FactoryError> {
        let version = parse(text)?;
        if self.versions()?.binary_search(&version).is_ok() {
            Ok(version)
        } else {
            Err(FactoryError::NoSuchVersion(version.semver().to_string()))
        }
    }

    /// The newest version that is no prerelease.
    pub fn latest(&self) -> Result<TalosVersion, FactoryError> {
        let versions = self.versions()?;
        let newest = versions.into_iter().rev().find(|version| !version.is_prerelease());
        newest.ok_or_else(|| FactoryError::NoSuchVersion("latest".to_owned()))
    }

    /// The extensions of an offered version.
    pub async fn extensions(&self, version: &TalosVersion) -> Result<Arc<Vec<Extension>>, FactoryError> {
        if let Some(found) = self.extensions.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(version) {
            return Ok(found.clone());
        }
        let (sources, preparer) = (self.sources.clone(), self.preparer.clone());
        let (registry, wanted) = (self.registry.clone(), version.clone());
        let found = self
            .loading
            .run(version.clone(), move || async move {
                let repository = &sources.components().extensions;
                let files = preparer.catalog(repository, &wanted).await?;
                let bad = |reason: String| FactoryError::BadSource { image: format!("{repository}:{wanted}"), reason };
                let digests =
                    files.get("image-digests").ok_or_else(|| bad("it has no file image-digests".to_owned()))?;
                let descriptions = files.get("descriptions.yaml").map(AsRef::as_ref);
                let list = catalog::extensions(digests, descriptions, &registry).map_err(|e| bad(e.to_string()))?;
                Ok(Arc::new(list))
            })
            .await?;
        let mut extensions = self.extensions.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        extensions.insert(version.clone(), found.clone());
        Ok(found)
    }

    /// The overlays of an offered version; none before 1.7.
    pub async fn overlays(&self, version: &TalosVersion) -> Result<Arc<Vec<Overlay>>, FactoryError> {
        if !version.has_overlays() {
            return Ok(Arc::default());
        }
        if let Some(found) = self.overlays.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(version) {
            return Ok(found.clone());
        }
        let repository = &self.sources.components().overlays;
        let files = self.preparer.catalog(repository, version).await?;
        let bad = |reason: String| FactoryError::BadSource { image: format!("{repository}:{version}"), reason };
        let file = files.get("overlays.yaml").ok_or_else(|| bad("it has no file overlays.yaml".to_owned()))?;
        let found = Arc::new(catalog::overlays(file, &self.registry).map_err(|error| bad(error.to_string()))?);
        let mut overlays = self.overlays.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        overlays.insert(version.clone(), found.clone());
        Ok(found)
    }

    /// Names in a schematic that no offered version has; none while not all catalogs could be read.
    pub fn unknown_names(&self, schematic: &Schematic) -> Vec<String> {
        if !self.complete.load(std::sync::atomic::Ordering::Relaxed) {
            return Vec::new();
        }
        let extensions = self.extensions.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let extensions = extensions.values().flat_map(|list| list.iter().map(|entry| entry.name.as_str())).collect();
        let overlays = self.overlays.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let overlays = overlays.values().flat_map(|list| list.iter().map(|entry| entry.name.as_str())).collect();
        unknown(schematic, &extensions, &overlays)
    }

    /// The extensions that a schematic asks for, in its order, for a version.
    pub async fn chosen(&self, version: &TalosVersion, names: &[String]) -> Result<Vec<Extension>, FactoryError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let list = self.extensions(version).await?;
        let find = |name: &str| list.iter().find(|entry| entry.name == name).cloned();
        names
            .iter()
            .map(|name| {
                find(name).or_else(|| catalog::alias(name).and_then(|alias| find(&alias))).ok_or_else(|| {
                    let near = catalog::nearest(name, list.iter().map(|entry| entry.name.as_str()));
                    let hint = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
                    FactoryError::Invalid(format!(
                        "official extension {name:?} is not available for Talos version {version}{hint}"
                    ))
                })
            })
            .collect()
    }
}

/// A warning for each name in a schematic that is not among those that there are.
fn unknown(schematic: &Schematic, extensions: &BTreeSet<&str>, overlays: &BTreeSet<&str>) -> Vec<String> {
    let warning = |kind: &str, name: &str, names: &BTreeSet<&str>| {
        let near = catalog::nearest(name, names.iter().copied());
        let hint = near.map(|near| format!("; the nearest is {near:?}")).unwrap_or_default();
        format!("no listed version has an {kind} {name:?}{hint}")
    };
    let missing = |name: &str| {
        !extensions.contains(name) && !catalog::alias(name).is_some_and(|alias| extensions.contains(&*alias))
    };
    let asked = schematic.customization.official_extensions.iter().map(|name| &**name);
    let mut warnings: Vec<_> =
        asked.filter(|name| missing(name)).map(|name| warning("extension", name, extensions)).collect();
    if let Some(overlay) = &schematic.overlay {
        let name: &str = &overlay.name;
        if !name.is_empty() && !overlays.contains(name) {
            warnings.push(warning("overlay", name, overlays));
        }
    }
    warnings
}

/// A version in a path: semantic, without build metadata, with or without `v`.
pub fn parse(text: &str) -> Result<TalosVersion, FactoryError> {
    let version = TalosVersion::parse(text)?;
    if !version.semver().build.is_empty() {
        return Err(FactoryError::Invalid(format!("version {text:?}: build metadata is not part of a Talos version")));
    }
    Ok(version)
}

impl Factory {
    /// Extensions of a version, in the catalog's order.
    ///
    /// # Errors
    /// [`FactoryError::Invalid`] for a malformed version, [`FactoryError::NoSuchVersion`] for one that is not offered.
    pub async fn extensions(&self, version: &str) -> Result<Arc<Vec<Extension>>, FactoryError> {
        let version = self.catalogs.offered(version)?;
        no_catalog(self.catalogs.extensions(&version).await, &version)
    }

    /// Overlays of a version, in the catalog's order; none before 1.7.
    ///
    /// # Errors
    /// As [`Factory::extensions`].
    pub async fn overlays(&self, version: &str) -> Result<Arc<Vec<Overlay>>, FactoryError> {
        if !parse(version)?.has_overlays() {
            return Ok(Arc::default());
        }
        let version = self.catalogs.offered(version)?;
        no_catalog(self.catalogs.overlays(&version).await, &version)
    }

    /// Links to the files of talosctl for a version; none before it was published as an image.
    ///
    /// # Errors
    /// As [`Factory::extensions`].
    pub async fn talosctl_urls(&self, version: &str) -> Result<Vec<String>, FactoryError> {
        let version = self.catalogs.offered(version)?;
        if !version.has_talosctl() {
            return Ok(Vec::new());
        }
        let files = no_catalog(self.preparer.talosctl(&self.sources.components().talosctl, &version).await, &version)?;
        Ok(files.keys().map(|name| format!("{}talosctl/{version}/{name}", self.external_url)).collect())
    }

    /// A file of talosctl, with its digest.
    ///
    /// # Errors
    /// [`FactoryError::NoSuchFile`], or as [`Factory::extensions`].
    pub async fn talosctl(&self, version: &str, name: &str) -> Result<(Digest, VirtualFile), FactoryError> {
        let version = self.catalogs.offered(version)?;
        if !version.has_talosctl() {
            return Err(FactoryError::NoSuchVersion(version.semver().to_string()));
        }
        let files = no_catalog(self.preparer.talosctl(&self.sources.components().talosctl, &version).await, &version)?;
        let found = files.get(name).ok_or_else(|| FactoryError::NoSuchFile {
            name: name.to_owned(),
            version: version.to_string(),
            hint: catalog::nearest(name, files.keys().map(String::as_str))
                .map(|near| format!("; did you mean {near:?}?"))
                .unwrap_or_default(),
        })?;
        Ok((found.digest, found.file()))
    }
}

/// A version without a catalog has what we were asked for as little as one that does not exist.
fn no_catalog<T>(found: Result<T, FactoryError>, version: &TalosVersion) -> Result<T, FactoryError> {
    found.map_err(|error| match error {
        FactoryError::NoSuchTag { repository, .. } => {
            FactoryError::NoSuchVersion(format!("{} (the upstream has no {repository}:{version})", version.semver()))
        }
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(schematic: &str) -> Vec<String> {
        let extensions = BTreeSet::from(["siderolabs/hello", "siderolabs/qemu-guest-agent"]);
        let overlays = BTreeSet::from(["rpi_generic", "rock5b"]);
        unknown(&Schematic::parse(schematic.as_bytes()).unwrap(), &extensions, &overlays)
    }

    #[test]
    fn known_names_give_no_warning() {
        assert!(warnings("customization: {systemExtensions: {officialExtensions: [siderolabs/hello]}}").is_empty());
        assert!(warnings("overlay: {image: siderolabs/sbc-raspberrypi, name: rpi_generic}").is_empty());
        assert!(warnings("overlay: {options: {a: 1}}").is_empty(), "no name, no warning");
    }

    #[test]
    fn unknown_names_come_back_with_the_nearest() {
        let both = "overlay: {image: siderolabs/sbc-raspberrypi, name: rpi_generics}\n\
                    customization: {systemExtensions: {officialExtensions: [siderolabs/helo]}}";
        let found = warnings(both);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("extension \"siderolabs/helo\"") && found[0].contains("\"siderolabs/hello\""));
        assert!(found[1].contains("overlay \"rpi_generics\"") && found[1].contains("\"rpi_generic\""));
    }
}
