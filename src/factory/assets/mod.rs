//! Boot assets: paths become virtual files, laid out once and remembered by what they are made of.

mod checksums;
mod disk;
mod lanes;
mod path;
mod plan;
mod pxe;

use std::net::IpAddr;
use std::sync::Arc;

use checksums::Checksums;

use super::installer::Installers;
use super::prepare::{Model, Preparer, command_line};
use super::recipe::Recipe;
use super::resolve::{Extensions, ResolvedOverlay, Resolver};
use super::schematics::Stored;
use super::{Factory, FactoryError, InstallerImage, catalogs};
use crate::assemble::cmdline::CmdlineAsset;
use crate::sign::cosign;
use crate::store::{BlobStore, SingleFlight};
use crate::telemetry::Metrics;
use crate::types::{Digest, TalosVersion};
use crate::virtual_file::{Outline, VirtualFile};

pub use checksums::{Algorithm, Checksum};
pub use path::{AssetKind, AssetPath, PathError};
use path::{Compression, DiskFormat};
pub use plan::PlanLine;
pub use pxe::Credentials;

/// Bytes of extent lists kept in memory.
const MEMORY: u64 = 16 << 20;

/// A boot asset, ready to be read.
#[derive(Clone, Debug)]
pub struct Asset {
    /// What was asked for.
    path: AssetPath,
    /// Its bytes.
    pub file: VirtualFile,
    /// SHA-256 of its canonical extent list: the same for the same bytes, on every replica, and known without reading them.
    pub extents: Digest,
}

/// What [`Assets`] works with.
pub struct Parts {
    /// Where everything is kept.
    pub store: Arc<dyn BlobStore>,
    /// From names to digests.
    pub resolver: Arc<Resolver>,
    /// What is prepared once.
    pub preparer: Arc<Preparer>,
    /// Installer images.
    pub installers: Arc<Installers>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Address by which clients reach us.
    pub external_url: url::Url,
    /// Checksums computed at one time.
    pub hashing_places: usize,
}

/// Lays out boot assets.
pub struct Assets {
    parts: Parts,
    making: SingleFlight<Digest, Arc<Laid>, FactoryError>,
    /// Layouts by recipe.
    laid: moka::sync::Cache<Digest, Arc<Laid>>,
    checksums: Arc<Checksums>,
}

/// A file that was laid out, with the digest of its extent list.
struct Laid {
    file: VirtualFile,
    extents: Digest,
    /// Length of the encoded extent list in bytes.
    weight: u32,
}

/// What an asset is made from.
struct Inputs {
    path: AssetPath,
    version: TalosVersion,
    schematic: Arc<Stored>,
    imager: Digest,
    extensions: Extensions,
    overlay: Option<ResolvedOverlay>,
}

/// Refuses what cannot be made yet; the one place that says which assets those are.
fn available(path: &AssetPath) -> Result<(), FactoryError> {
    // A command line is only a text.
    if path.secure_boot && path.kind != AssetKind::Cmdline {
        return Err(FactoryError::Invalid("assets for secure boot are not available here yet".to_owned()));
    }
    Ok(())
}

/// Whether extensions are part of an asset.
const fn has_extensions(kind: AssetKind) -> bool {
    !matches!(kind, AssetKind::Kernel | AssetKind::Cmdline)
}

impl Assets {
    /// Lays out assets of these parts.
    pub fn new(parts: Parts) -> Self {
        let checksums = Checksums::new(parts.store.clone(), parts.metrics.clone(), parts.hashing_places);
        let laid =
            moka::sync::Cache::builder().max_capacity(MEMORY).weigher(|_, laid: &Arc<Laid>| laid.weight + 200).build();
        Self { parts, making: SingleFlight::new(None), laid, checksums: Arc::new(checksums) }
    }

    /// The asset at `path` of a schematic on an offered version.
    async fn get(
        self: &Arc<Self>,
        path: AssetPath,
        version: TalosVersion,
        schematic: Arc<Stored>,
    ) -> Result<Asset, FactoryError> {
        let inputs = self.inputs(path.clone(), version, schematic).await?;
        let recipe = inputs.recipe(&self.parts.external_url)?;
        if let Some(laid) = self.laid.get(&recipe)
            && self.is_whole(&laid.file).await?
        {
            self.parts.metrics.count_hit("layout");
            return Ok(laid.asset(path));
        }
        let assets = self.clone();
        let laid = self
            .making
            .run(recipe, move || async move {
                let laid = Arc::new(Laid::new(assets.lay_out(&inputs).await?.0));
                assets.laid.insert(recipe, laid.clone());
                assets.parts.metrics.count_made("layout");
                Ok(laid)
            })
            .await?;
        Ok(laid.asset(path))
    }

    /// Turns names into digests, and refuses what cannot be made.
    async fn inputs(
        &self,
        path: AssetPath,
        version: TalosVersion,
        schematic: Arc<Stored>,
    ) -> Result<Inputs, FactoryError> {
        available(&path)?;
        let resolver = &self.parts.resolver;
        let overlay = if has_extensions(path.kind) { resolver.overlay(&version, &schematic).await? } else { None };
        // An initramfs is refused for an unknown overlay, and has nothing of a known one.
        let overlay = overlay.filter(|_| path.kind != AssetKind::Initramfs);
        let extensions = async {
            if has_extensions(path.kind) { resolver.extensions(&version, &schematic).await } else { Ok(Vec::new()) }
        };
        let (imager, extensions) = tokio::try_join!(resolver.imager(&version), extensions)?;
        Ok(Inputs { path, version, schematic, imager, extensions, overlay })
    }

    /// The file, and what its parts are.
    async fn lay_out(&self, inputs: &Inputs) -> Result<(VirtualFile, Outline), FactoryError> {
        let Inputs { path, version, schematic, imager, extensions, overlay } = inputs;
        let preparer = &self.parts.preparer;
        let overlay = match overlay {
            Some(overlay) => Some(preparer.overlay(overlay).await?),
            None => None,
        };
        let model = Model {
            version,
            arch: path.arch,
            platform: path.platform,
            schematic: &schematic.schematic,
            canonical: &schematic.canonical,
            id: &schematic.id,
            external_url: &self.parts.external_url,
            imager,
            extensions,
            overlay: overlay.as_deref(),
        };
        let plain = |file: VirtualFile| (file, Outline::default());
        match path.kind {
            AssetKind::Kernel => preparer.kernel_asset(&model).await.map(plain),
            AssetKind::Initramfs => preparer.initramfs_asset(&model).await.map(plain),
            AssetKind::Cmdline => {
                let target = (path.platform, path.arch);
                command_line(version, target, &schematic.schematic, &[], CmdlineAsset::Cmdline, path.secure_boot)
                    .map(|line| plain(VirtualFile::inline(line)))
            }
            AssetKind::Uki => preparer.uki_asset(&model).await.map(|uki| (uki.file.clone(), uki.outline())),
            AssetKind::Installer => {
                let image = InstallerImage::new(path.platform, path.names_platform);
                self.parts.installers.archive(image, version, schematic, path.arch).await.map(plain)
            }
            AssetKind::Iso => preparer.iso(&model).await,
            AssetKind::Disk(format, compression) => disk::disk(preparer, &model, format, compression).await,
        }
    }

    /// Whether all blobs under a file are in the store.
    async fn is_whole(&self, file: &VirtualFile) -> Result<bool, FactoryError> {
        let (store, file) = (self.parts.store.clone(), file.clone());
        super::blocking(move || super::is_whole(store.as_ref(), &file)).await
    }
}

impl Asset {
    /// The media type of its bytes.
    pub const fn content_type(&self) -> &'static str {
        self.path.content_type()
    }

    /// The last element of its path.
    pub fn name(&self) -> String {
        self.path.to_string()
    }

    /// Whether a machine boots from a disk that these bytes are written to.
    pub const fn is_bootable_as_it_is(&self) -> bool {
        matches!(self.path.kind, AssetKind::Iso | AssetKind::Disk(DiskFormat::Raw, Compression::None))
    }
}

impl Inputs {
    fn recipe(&self, external_url: &url::Url) -> Result<Digest, FactoryError> {
        // The kernel is the same for every schematic.
        let id = if self.path.kind == AssetKind::Kernel { String::new() } else { self.schematic.id.to_string() };
        let name = (self.path.to_string(), self.path.platform);
        let recipe = Recipe::asset(name, &self.version, id, external_url, self.imager, &self.extensions);
        recipe.overlay(self.overlay.as_ref()).digest().map_err(|error| FactoryError::Internal(error.to_string()))
    }
}

impl Laid {
    fn new(file: VirtualFile) -> Self {
        let encoded = file.encode();
        let weight = u32::try_from(encoded.len()).unwrap_or(u32::MAX - 200);
        Self { extents: Digest::of(&encoded), file, weight }
    }

    fn asset(&self, path: AssetPath) -> Asset {
        Asset { path, file: self.file.clone(), extents: self.extents }
    }
}

/// An error about a path, in the words that clients of the public factory know.
fn unparsed(error: PathError) -> FactoryError {
    FactoryError::Invalid(format!("error parsing profile from path: {error}"))
}

impl Factory {
    /// The boot asset at `path` of a schematic on a version.
    ///
    /// # Errors
    /// [`FactoryError::Invalid`] for what cannot be made, [`FactoryError::NoSuchSchematic`], [`FactoryError::NoSuchVersion`],
    /// or as the source images are to be had.
    pub async fn asset(&self, schematic: &str, version: &str, path: &str) -> Result<Asset, FactoryError> {
        let (path, version, schematic) = self.named_asset(schematic, version, path).await?;
        self.assets.get(path, version, schematic).await
    }

    /// A boot asset laid out afresh, and what its parts are.
    async fn outlined(&self, schematic: &str, version: &str, path: &str) -> Result<(Asset, Outline), FactoryError> {
        let (path, version, schematic) = self.named_asset(schematic, version, path).await?;
        let inputs = self.assets.inputs(path.clone(), version, schematic).await?;
        let (file, outline) = self.assets.lay_out(&inputs).await?;
        Ok((Laid::new(file).asset(path), outline))
    }

    async fn named_asset(
        &self,
        schematic: &str,
        version: &str,
        path: &str,
    ) -> Result<(AssetPath, TalosVersion, Arc<Stored>), FactoryError> {
        let schematic = self.schematic(schematic).await?;
        catalogs::parse(version)?;
        let path = AssetPath::parse(path).map_err(unparsed)?;
        Ok((path, self.catalogs.offered(version)?, schematic))
    }

    /// A checksum of a boot asset, on behalf of a client.
    ///
    /// # Errors
    /// [`FactoryError::Busy`] when too many wait for checksums already; when a blob under the asset cannot be read.
    pub async fn checksum(
        &self,
        asset: &Asset,
        algorithm: Algorithm,
        client: IpAddr,
    ) -> Result<Checksum, FactoryError> {
        self.assets.checksums.of(&asset.file, &asset.extents, algorithm, client).await
    }

    /// A Sigstore bundle over a boot asset, which needs its checksum.
    ///
    /// # Errors
    /// As [`Factory::checksum`].
    pub async fn bundle(&self, asset: &Asset, client: IpAddr) -> Result<String, FactoryError> {
        let checksum = self.checksum(asset, Algorithm::Sha256, client).await?;
        let failed = |error: &dyn std::fmt::Display| FactoryError::Internal(error.to_string());
        let raw: [u8; 32] = checksum.as_ref().try_into().map_err(|error| failed(&error))?;
        cosign::file_bundle(&self.signer, &Digest::from_raw(raw)).map_err(|error| failed(&error))
    }

    /// A checksum of a boot asset that was computed before and is still in memory.
    pub fn known_checksum(&self, asset: &Asset, algorithm: Algorithm) -> Option<Checksum> {
        self.assets.checksums.known(&asset.extents, algorithm)
    }
}
