//! The assets of a model: a schematic on a version for one architecture and platform.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;

use super::{Files, PreparedOverlay, Preparer, StoredFile};
use crate::assemble::cmdline::{self, CmdlineAsset, CmdlineRequest};
use crate::assemble::initramfs::{self, Extension, MTIME};
use crate::assemble::installer::{self, BootAssets};
use crate::assemble::uki::{Uki, UkiParts, uki};
use crate::assemble::{extension, splash};
use crate::factory::{FactoryError, blocking};
use crate::format::bzimage;
use crate::format::pe::{HEAD_LEN, Stub};
use crate::format::tar;
use crate::schematic::{Schematic, SchematicId};
use crate::store::BlobStore;
use crate::types::{Arch, Digest, Platform, TalosVersion};
use crate::virtual_file::VirtualFile;

/// What the length of an installer's initramfs is a multiple of, in bytes. The kernel skips zeros behind archives. Lengths
/// stand in the headers of the UKI: so the images of models that differ little begin alike, which spares hashing.
const INITRD_STEP: u64 = 1 << 20;

/// A schematic on a version for one architecture and platform, its inputs resolved.
#[derive(Clone, Copy)]
pub struct Model<'a> {
    /// The Talos version.
    pub version: &'a TalosVersion,
    /// The architecture.
    pub arch: Arch,
    /// The platform.
    pub platform: Platform,
    /// What was asked for.
    pub schematic: &'a Schematic,
    /// Its canonical YAML.
    pub canonical: &'a str,
    /// Its ID.
    pub id: &'a SchematicId,
    /// Address by which clients reach us.
    pub external_url: &'a url::Url,
    /// Digest of the imager image.
    pub imager: &'a Digest,
    /// Repository and digest of each extension, in the schematic's order.
    pub extensions: &'a [(String, Digest)],
    /// The overlay; `None` for assets that have nothing of it, too.
    pub overlay: Option<&'a PreparedOverlay>,
}

impl Model<'_> {
    /// The kernel command line of an asset.
    ///
    /// # Errors
    /// [`FactoryError::Invalid`] for what the version cannot have.
    pub fn command_line(&self, asset: CmdlineAsset) -> Result<String, FactoryError> {
        let overlay_args = self.overlay.map_or(&[][..], |overlay| &overlay.options.kernel_args);
        command_line(self.version, (self.platform, self.arch), self.schematic, overlay_args, asset, false)
    }
}

impl Preparer {
    /// The layers that an installer image has on top of its base, lowest first: boot assets, then the overlay if any.
    ///
    /// # Errors
    /// [`FactoryError::Invalid`] for what the schematic cannot have on this version, or as the sources are to be had.
    pub async fn installer_layers(self: &Arc<Self>, model: &Model<'_>) -> Result<Vec<VirtualFile>, FactoryError> {
        let mut layers = vec![self.boot_layer(model).await?];
        if let Some(overlay) = model.overlay {
            layers.push(self.overlay_layer(&overlay.source, model.arch).await?);
        }
        Ok(layers)
    }

    async fn boot_layer(self: &Arc<Self>, model: &Model<'_>) -> Result<VirtualFile, FactoryError> {
        let release = self.release(model.imager).await?;
        let assets = if installer::boots_uki(model.version, false) {
            BootAssets::Uki {
                systemd_boot: release_file(&release, model, "systemd-boot.efi")?.file(),
                uki: self.uki(model, &release, CmdlineAsset::Installer, 1).await?.file,
            }
        } else {
            BootAssets::Kernel {
                kernel: release_file(&release, model, "vmlinuz")?.file(),
                initramfs: self.initramfs(model, &release).await?,
            }
        };
        let mut layer = tar::Layout::new(MTIME);
        for (path, mode, file) in installer::installer_files(model.version, model.arch, false, assets) {
            layer.add_file(path, mode, file).map_err(internal)?;
        }
        Ok(layer.finish())
    }

    /// The kernel of the release.
    ///
    /// # Errors
    /// As the source images are to be had.
    pub async fn kernel_asset(self: &Arc<Self>, model: &Model<'_>) -> Result<VirtualFile, FactoryError> {
        let release = self.release(model.imager).await?;
        Ok(release_file(&release, model, "vmlinuz")?.file())
    }

    /// The initramfs with all extensions.
    ///
    /// # Errors
    /// As [`Preparer::installer_layers`].
    pub async fn initramfs_asset(self: &Arc<Self>, model: &Model<'_>) -> Result<VirtualFile, FactoryError> {
        let release = self.release(model.imager).await?;
        self.initramfs(model, &release).await
    }

    /// A unified kernel image that stands for itself.
    ///
    /// # Errors
    /// As [`Preparer::installer_layers`].
    pub async fn uki_asset(self: &Arc<Self>, model: &Model<'_>) -> Result<Uki, FactoryError> {
        // What the version cannot have is said before anything is fetched for it.
        model.command_line(CmdlineAsset::Uki)?;
        let release = self.release(model.imager).await?;
        self.uki(model, &release, CmdlineAsset::Uki, 1).await
    }

    /// The unified kernel image of an asset, its sections at multiples of `alignment` bytes.
    pub(super) async fn uki(
        self: &Arc<Self>,
        model: &Model<'_>,
        release: &Files,
        asset: CmdlineAsset,
        alignment: u32,
    ) -> Result<Uki, FactoryError> {
        let line = model.command_line(asset)?;
        let profile = cmdline::extra_profile(model.version, asset, &line);
        let mut initrd = self.initramfs(model, release).await?;
        if asset == CmdlineAsset::Installer {
            let padding = initrd.len().next_multiple_of(INITRD_STEP) - initrd.len();
            initrd = VirtualFile::concat([initrd, VirtualFile::zeros(padding)]);
        }
        let linux = release_file(release, model, "vmlinuz")?;
        let stub = release_file(release, model, "systemd-stub.efi")?;
        let bad = |name: &str, reason: String| FactoryError::BadSource {
            image: format!("{}:{}", self.sources.components().imager, model.version),
            reason: format!("its {name} for {}: {reason}", model.arch),
        };
        let store = self.store.clone();
        let (head, kernel, splash) = blocking(move || {
            let head = stub.file().slice(0..HEAD_LEN).read_all(store.as_ref())?;
            let kernel = linux.file().slice(0..bzimage::HEAD_LEN).read_all(store.as_ref())?;
            Ok::<_, FactoryError>((head, kernel, splash(store.as_ref())?))
        })
        .await?;
        let stub = Stub::parse(&head, stub.file()).map_err(|error| bad("systemd-stub.efi", error.to_string()))?;
        let uname = bzimage::release(&kernel).ok().filter(|release| !release.is_empty());
        uki(&UkiParts {
            version: model.version,
            arch: model.arch,
            stub: &stub,
            cmdline: &line,
            uname: uname.as_deref(),
            splash: splash.file(),
            linux: linux.file(),
            initrd,
            profile: profile.as_ref(),
            timestamp: MTIME,
            alignment,
        })
        .map_err(|error| bad("systemd-stub.efi", error.to_string()))
    }

    /// The initramfs with all extensions.
    pub(super) async fn initramfs(
        self: &Arc<Self>,
        model: &Model<'_>,
        release: &Files,
    ) -> Result<VirtualFile, FactoryError> {
        let version = model.version;
        let prepare =
            model.extensions.iter().map(|(repository, digest)| self.extension(repository, digest, model.arch, version));
        let prepared = futures::future::try_join_all(prepare).await?;
        for extension in &prepared {
            extension.metadata.check(version).map_err(|error| FactoryError::Invalid(error.to_string()))?;
        }
        let base = release_file(release, model, "initramfs.xz")?;
        let schematic =
            extension::schematic(model.id, model.canonical, model.external_url.as_str(), version).map_err(internal)?;
        let config = &model.schematic.customization.embedded_machine_configuration;
        let config = (!config.is_empty()).then(|| extension::embedded_config(config)).transpose().map_err(internal)?;
        let thought_up = [Some(schematic), config].into_iter().flatten();
        let thought_up = futures::future::try_join_all(thought_up.map(|parts| self.virtual_extension(parts, version)));
        let (modules_dep, thought_up) = tokio::try_join!(self.modules_dep(model, base, &prepared), thought_up)?;
        let extensions: Vec<Extension> =
            prepared.iter().map(|extension| extension.assembled()).chain(thought_up).collect();
        initramfs::initramfs(&base.file(), &extensions, modules_dep.as_ref()).map_err(internal)
    }

    /// Makes the image of an extension that we thought up: small, so it stays inline.
    async fn virtual_extension(
        self: &Arc<Self>,
        parts: extension::VirtualExtension,
        version: &TalosVersion,
    ) -> Result<Extension, FactoryError> {
        let rules = super::extension::Rules::of(version);
        let extension::VirtualExtension { metadata, rootfs } = parts;
        let image = blocking(move || super::extension::squash_inline(&rootfs, rules)).await?;
        Ok(Extension::plain(metadata, image))
    }
}

/// The kernel command line of an asset.
///
/// # Errors
/// [`FactoryError::Invalid`] for what the version cannot have.
pub fn command_line(
    version: &TalosVersion,
    (platform, arch): (Platform, Arch),
    schematic: &Schematic,
    overlay_args: &[String],
    asset: CmdlineAsset,
    secure_boot: bool,
) -> Result<String, FactoryError> {
    let customization = &schematic.customization;
    let meta: Vec<(u8, String)> = customization.meta.iter().map(|entry| (entry.key, entry.value.to_string())).collect();
    let extra_args: Vec<String> = customization.extra_kernel_args.iter().map(ToString::to_string).collect();
    cmdline::cmdline(&CmdlineRequest {
        version,
        platform,
        arch,
        secure_boot,
        asset,
        overlay_args,
        extra_args: &extra_args,
        meta: &meta,
    })
    .map_err(|error| FactoryError::Invalid(error.to_string()))
}

/// The picture that is shown while a UKI boots, as a blob.
fn splash(store: &dyn BlobStore) -> Result<StoredFile, FactoryError> {
    static DRAWN: LazyLock<(Bytes, Digest)> = LazyLock::new(|| {
        let bmp = splash::bmp();
        let digest = Digest::of(&bmp);
        (bmp, digest)
    });
    let (bmp, digest) = &*DRAWN;
    match store.open(digest)? {
        Some(_) => Ok(StoredFile { digest: *digest, size: bmp.len() as u64 }),
        None => super::blobs::put(store, bmp),
    }
}

/// An error that our own inputs rule out.
pub(super) fn internal(error: impl std::fmt::Display) -> FactoryError {
    FactoryError::Internal(error.to_string())
}

/// A file of the release for the model's architecture.
pub(super) fn release_file(release: &Files, model: &Model<'_>, name: &str) -> Result<StoredFile, FactoryError> {
    release.get(&format!("usr/install/{}/{name}", model.arch)).copied().ok_or_else(|| FactoryError::BadSource {
        image: format!("imager:{}", model.version),
        reason: format!("it has no {name} for {}", model.arch),
    })
}
