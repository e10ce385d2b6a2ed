//! Installer images: resolved, assembled, hashed once, signed, announced.

use std::sync::Arc;
use std::time::Duration;

use oci_spec::image::ImageManifest;

use super::announced::{Announced, Announcements, BaseLayer, Document, Installer};
use super::catalogs::Catalogs;
use super::hash::Hasher;
use super::prepare::{Model, Preparer};
use super::recipe::{Recipe, Resolved};
use super::resolve::Resolver;
use super::schematics::Stored;
use super::sources::Sources;
use super::{FactoryError, InstallerImage, blocking};
use crate::assemble::installer::{
    self as image, ArchivedLayer, Base, CONFIG_TYPE, INDEX_TYPE, InstallerError, Layer, MANIFEST_TYPE,
};
use crate::sign::{ImageSigner, cosign};
use crate::store::{BlobStore, SingleFlight};
use crate::telemetry::Metrics;
use crate::types::{Arch, Digest, TalosVersion};
use crate::virtual_file::VirtualFile;

/// How long a tag's answer is given from memory before its recipe is looked at again.
const FRESH: Duration = Duration::from_secs(5);

/// Versions that are made at most in search of a digest that another replica announced.
const SEARCHED_VERSIONS: usize = 8;

/// Name, version and schematic of an installer image.
type Key = (InstallerImage, TalosVersion, Digest);

/// What [`Installers`] works with.
pub struct Parts {
    /// What was announced before.
    pub announcements: Announcements,
    /// Where everything is kept.
    pub store: Arc<dyn BlobStore>,
    /// Source images.
    pub sources: Arc<Sources>,
    /// From names to digests.
    pub resolver: Arc<Resolver>,
    /// Versions and extensions.
    pub catalogs: Arc<Catalogs>,
    /// What is prepared once.
    pub preparer: Arc<Preparer>,
    /// The key that signs.
    pub signer: Arc<ImageSigner>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Address by which clients reach us.
    pub external_url: url::Url,
}

/// Makes and remembers installer images.
pub struct Installers {
    parts: Parts,
    making: SingleFlight<Key, Arc<Installer>, FactoryError>,
    fresh: moka::sync::Cache<Key, Arc<Installer>>,
    /// Digests that no version of a schematic has.
    unknown: moka::sync::Cache<(Digest, Digest), ()>,
    /// Files behind digests that were found whole a moment ago.
    whole: moka::sync::Cache<Digest, VirtualFile>,
    hasher: Arc<Hasher>,
}

impl Installers {
    /// Makes installers of these parts.
    pub fn new(parts: Parts) -> Self {
        let short = |ttl| moka::sync::Cache::builder().max_capacity(10_000).time_to_live(ttl).build();
        Self {
            parts,
            making: SingleFlight::new(None),
            fresh: moka::sync::Cache::builder().max_capacity(10_000).time_to_live(FRESH).build(),
            unknown: moka::sync::Cache::builder().max_capacity(10_000).time_to_live(Duration::from_secs(60)).build(),
            whole: short(FRESH),
            hasher: Arc::default(),
        }
    }

    /// The installer of a schematic for a version: announced before, or made now.
    pub(super) async fn get(
        self: &Arc<Self>,
        name: InstallerImage,
        version: &TalosVersion,
        schematic: &Arc<Stored>,
    ) -> Result<Arc<Installer>, FactoryError> {
        let key = (name, version.clone(), schematic.id.digest());
        if let Some(found) = self.fresh.get(&key) {
            self.parts.metrics.count_hit("installer");
            return Ok(found);
        }
        let (installers, schematic, version) = (self.clone(), schematic.clone(), version.clone());
        let made = self
            .making
            .run(key.clone(), move || async move { installers.make(name, &version, &schematic).await })
            .await?;
        self.fresh.insert(key, made.clone());
        Ok(made)
    }

    async fn make(
        self: &Arc<Self>,
        name: InstallerImage,
        version: &TalosVersion,
        schematic: &Stored,
    ) -> Result<Arc<Installer>, FactoryError> {
        let resolved = self.resolve(version, schematic).await?;
        let parts = &self.parts;
        let recipe = Recipe::asset(
            (name.to_string(), name.platform),
            version,
            schematic.id.to_string(),
            &parts.external_url,
            resolved.imager,
            &resolved.extensions,
        );
        let recipe = recipe.overlay(resolved.overlay.as_ref());
        let recipe = recipe.installer(resolved.base, parts.signer.public_pem()).digest();
        let recipe = recipe.map_err(|error| FactoryError::Internal(error.to_string()))?;
        let announced = parts.announcements.of(&schematic.id).await?;
        let image = name.to_string();
        let known = announced.installers.iter().find(|known| known.image == image && known.recipe == recipe);
        if let Some(known) = known {
            return Ok(Arc::new(known.clone()));
        }
        let (amd64, arm64) = tokio::try_join!(
            self.half(name, version, schematic, &resolved, Arch::Amd64),
            self.half(name, version, schematic, &resolved, Arch::Arm64),
        )?;
        let halves = [amd64, arm64];
        let made = self.announce(&image, version, schematic, recipe, &halves);
        for half in &halves {
            self.announce_layers(half).await?;
        }
        parts.announcements.add(&schematic.id, made.clone()).await?;
        parts.metrics.count_made("installer");
        Ok(Arc::new(made))
    }

    /// Turns names into digests, and refuses what cannot be made.
    async fn resolve(&self, version: &TalosVersion, schematic: &Stored) -> Result<Resolved, FactoryError> {
        let parts = &self.parts;
        let (imager, base, extensions, overlay) = tokio::try_join!(
            parts.resolver.imager(version),
            parts.resolver.image(base_repository(parts.sources.components(), version), version),
            parts.resolver.extensions(version, schematic),
            parts.resolver.overlay(version, schematic),
        )?;
        Ok(Resolved { imager, base, extensions, overlay })
    }

    /// The image for one architecture.
    async fn half(
        self: &Arc<Self>,
        name: InstallerImage,
        version: &TalosVersion,
        schematic: &Stored,
        resolved: &Resolved,
        arch: Arch,
    ) -> Result<Half, FactoryError> {
        let parts = &self.parts;
        let overlay = match &resolved.overlay {
            Some(overlay) => Some(parts.preparer.overlay(overlay).await?),
            None => None,
        };
        let model = Model {
            version,
            arch,
            platform: name.platform,
            schematic: &schematic.schematic,
            canonical: &schematic.canonical,
            id: &schematic.id,
            external_url: &parts.external_url,
            imager: &resolved.imager,
            extensions: &resolved.extensions,
            overlay: overlay.as_deref(),
        };
        let repository = base_repository(parts.sources.components(), version);
        let (files, base) =
            tokio::try_join!(parts.preparer.installer_layers(&model), self.base(repository, &resolved.base, arch))?;
        let mut layers = Vec::with_capacity(files.len());
        for file in files {
            layers.push((self.hash(&file).await?, file));
        }
        let added: Vec<Layer> = layers.iter().map(|(digest, file)| Layer::tar(*digest, file.len())).collect();
        let image = image::image(&base, &added);
        Ok(Half {
            arch,
            layers,
            repository: repository.to_owned(),
            base,
            config: Document::new(CONFIG_TYPE, image.config),
            manifest: Document::new(MANIFEST_TYPE, image.manifest),
        })
    }

    /// The image for one architecture as `docker load` reads it.
    pub(super) async fn archive(
        self: &Arc<Self>,
        name: InstallerImage,
        version: &TalosVersion,
        schematic: &Stored,
        arch: Arch,
    ) -> Result<VirtualFile, FactoryError> {
        let resolved = self.resolve(version, schematic).await?;
        let half = self.half(name, version, schematic, &resolved, arch).await?;
        let repository = base_repository(self.parts.sources.components(), version);
        let mut layers = Vec::with_capacity(half.base.layers().len() + half.layers.len());
        for Layer { media_type, digest, size, .. } in half.base.layers() {
            self.parts.sources.fetch(repository, digest, Some(*size)).await?;
            layers.push(ArchivedLayer { media_type, digest: *digest, file: VirtualFile::blob(*digest, *size) });
        }
        for (digest, file) in half.layers {
            let Layer { media_type, .. } = Layer::tar(digest, file.len());
            layers.push(ArchivedLayer { media_type, digest, file });
        }
        image::archive(&format!("{repository}:{version}"), &half.config.bytes, &layers)
            .map_err(|error| FactoryError::Internal(error.to_string()))
    }

    async fn base(&self, repository: &str, digest: &Digest, arch: Arch) -> Result<Base, FactoryError> {
        let bad = |reason: String| FactoryError::BadSource { image: format!("{repository}@{digest}"), reason };
        let platform = self.parts.sources.platform(repository, digest, arch).await?;
        let config = self.parts.sources.small(repository, &platform.manifest.config).await?;
        let config = serde_json::from_slice(&config).map_err(|error| bad(format!("its config: {error}")))?;
        let manifest: ImageManifest =
            serde_json::from_slice(&platform.bytes).map_err(|error| bad(format!("its manifest: {error}")))?;
        Base::read(arch, &manifest, &config).map_err(|error: InstallerError| bad(error.to_string()))
    }

    /// The digest of a file.
    async fn hash(&self, file: &VirtualFile) -> Result<Digest, FactoryError> {
        let (store, file, metrics) = (self.parts.store.clone(), file.clone(), self.parts.metrics.clone());
        let hasher = self.hasher.clone();
        blocking(move || hasher.sha256(&file, &store, &metrics)).await
    }

    /// Remembers what the digests of a half's own layers stand for.
    async fn announce_layers(&self, half: &Half) -> Result<(), FactoryError> {
        let announce = |(digest, file): &(Digest, VirtualFile)| {
            let (store, digest, file) = (self.parts.store.clone(), *digest, file.clone());
            blocking(move || store.announce(&digest, &file))
        };
        futures::future::try_join_all(half.layers.iter().map(announce)).await?;
        Ok(())
    }

    /// Everything that is served for an image of two halves.
    fn announce(
        &self,
        image: &str,
        version: &TalosVersion,
        schematic: &Stored,
        recipe: Digest,
        halves: &[Half],
    ) -> Installer {
        let manifests: Vec<_> =
            halves.iter().map(|half| (half.arch, half.manifest.digest, half.manifest.bytes.len() as u64)).collect();
        let index = Document::new(INDEX_TYPE, image::index(&manifests));
        let mut made = Installer {
            image: image.to_owned(),
            version: version.to_string(),
            recipe,
            index: index.digest,
            documents: Vec::new(),
            layers: halves.iter().flat_map(|half| half.layers.iter().map(|(digest, _)| *digest)).collect(),
            base_layers: halves.iter().flat_map(Half::base_layers).collect(),
            tags: Vec::new(),
            referrers: Vec::new(),
        };
        let url = &self.parts.external_url;
        let host = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let reference = format!("{host}/{image}/{}", schematic.id);
        for signed in halves.iter().map(|half| &half.manifest).chain([&index]) {
            self.sign(&reference, signed, &mut made);
        }
        made.documents.push(index);
        made.documents.extend(halves.iter().flat_map(|half| [half.manifest.clone(), half.config.clone()]));
        made.documents.sort_by_key(|document| document.digest);
        made.documents.dedup_by_key(|document| document.digest);
        made
    }

    fn sign(&self, reference: &str, signed: &Document, made: &mut Installer) {
        let (subject, size) = (&signed.digest, signed.bytes.len());
        let signature = cosign::sign(&self.parts.signer, reference, subject, &signed.media_type, size);
        let descriptor = serde_json::json!({
            "mediaType": signature.referrer.media_type,
            "digest": signature.referrer.digest,
            "size": signature.referrer.text.len(),
            "artifactType": cosign::BUNDLE,
            "annotations": signature.annotations,
        });
        // Clients that do not know the referrers API look for an index under a tag made of the subject's digest.
        let fallback = serde_json::json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [descriptor] });
        let fallback = Document::new(INDEX_TYPE, fallback.to_string());
        made.tags.push((format!("sha256-{}", subject.hex()), fallback.digest));
        made.tags.push((format!("sha256-{}.sig", subject.hex()), signature.tag_manifest.digest));
        made.referrers.push((*subject, descriptor));
        made.documents.push(fallback);
        for object in [signature.tag_manifest, signature.referrer].into_iter().chain(signature.blobs) {
            made.documents.push(Document::new(object.media_type, object.text));
        }
    }

    /// What has been announced for a schematic that holds `digest`; other replicas may have announced it, so listed
    /// versions are made in search of it.
    pub(super) async fn holding(
        self: &Arc<Self>,
        name: InstallerImage,
        schematic: &Arc<Stored>,
        digest: &Digest,
    ) -> Result<Option<Arc<Announced>>, FactoryError> {
        let announced = self.parts.announcements.of(&schematic.id).await?;
        if holds(&announced, digest) {
            return Ok(Some(announced));
        }
        let announced = self.parts.announcements.reread(&schematic.id).await?;
        if holds(&announced, digest) {
            return Ok(Some(announced));
        }
        let key = (schematic.id.digest(), *digest);
        if self.unknown.contains_key(&key) {
            return Ok(None);
        }
        for version in self.parts.catalogs.versions().unwrap_or_default().iter().rev().take(SEARCHED_VERSIONS) {
            // Versions that nobody asked this replica for are not fetched for a guess.
            let imager = &self.parts.sources.components().imager;
            if self.parts.sources.is_pinned(imager, &version.to_string()).await?
                && self.get(name, version, schematic).await.is_ok()
            {
                let announced = self.parts.announcements.of(&schematic.id).await?;
                if holds(&announced, digest) {
                    return Ok(Some(announced));
                }
            }
        }
        self.unknown.insert(key, ());
        Ok(None)
    }

    /// The file behind a digest, all of whose blobs are in the store; made again where some were dropped.
    pub(super) async fn whole(
        self: &Arc<Self>,
        name: InstallerImage,
        schematic: &Arc<Stored>,
        announced: &Announced,
        digest: &Digest,
    ) -> Result<VirtualFile, FactoryError> {
        if let Some(file) = self.whole.get(digest) {
            return Ok(file);
        }
        if let Some(document) = announced.installers.iter().find_map(|installer| installer.document(digest)) {
            return Ok(VirtualFile::inline(document.bytes.clone()));
        }
        let base = announced.installers.iter().flat_map(|installer| &installer.base_layers);
        if let Some(layer) = base.into_iter().find(|layer| layer.digest == *digest) {
            self.parts.sources.fetch(&layer.repository, digest, Some(layer.size)).await?;
        }
        let file = self.open(digest).await?;
        if let Some(file) = file {
            self.whole.insert(*digest, file.clone());
            return Ok(file);
        }
        // A prepared blob was dropped: preparing it again gives the same bytes, unless its source moved.
        let version = announced.installers.iter().find(|installer| installer.layers.contains(digest));
        let version = version.and_then(|installer| TalosVersion::parse(&installer.version).ok());
        let version = version.ok_or(FactoryError::NoSuchBlob(*digest))?;
        let resolved = self.resolve(&version, schematic).await?;
        for arch in Arch::ALL {
            let half = self.half(name, &version, schematic, &resolved, arch).await?;
            self.announce_layers(&half).await?;
        }
        self.open(digest).await?.ok_or(FactoryError::NoSuchBlob(*digest))
    }

    /// The file behind a digest if the store has all of it.
    pub(super) async fn open(&self, digest: &Digest) -> Result<Option<VirtualFile>, FactoryError> {
        let (store, digest) = (self.parts.store.clone(), *digest);
        blocking(move || {
            let Some(file) = store.open(&digest)? else { return Ok(None) };
            Ok::<_, FactoryError>(super::is_whole(store.as_ref(), &file)?.then_some(file))
        })
        .await
    }
}

/// One architecture's part of an image.
struct Half {
    arch: Arch,
    /// The layers on top of the base image, lowest first.
    layers: Vec<(Digest, VirtualFile)>,
    /// Repository path of the base image.
    repository: String,
    base: Base,
    config: Document,
    manifest: Document,
}

impl Half {
    /// The layers of the base image, as they are announced.
    fn base_layers(&self) -> impl Iterator<Item = BaseLayer> {
        let of =
            |layer: &Layer| BaseLayer { repository: self.repository.clone(), digest: layer.digest, size: layer.size };
        self.base.layers().iter().map(of)
    }
}

/// Repository path of the base image of a version's installer.
fn base_repository<'a>(components: &'a crate::config::Components, version: &TalosVersion) -> &'a str {
    if version.has_unified_installer() { &components.installer_base } else { &components.installer }
}

fn holds(announced: &Announced, digest: &Digest) -> bool {
    announced.installers.iter().any(|installer| {
        installer.document(digest).is_some()
            || installer.layers.contains(digest)
            || installer.base_layers.iter().any(|layer| layer.digest == *digest)
    })
}
