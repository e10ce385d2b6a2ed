//! Installer images: the base installer of a release with one layer of boot assets on top.
//!
//! Pure functions over parsed JSON. What is written is OCI (image-spec v1.1: "image configuration", "image manifest",
//! "image index"), the same bytes for the same inputs. Base layers keep their bytes and digests; their Docker media types
//! get the OCI names.

mod archive;
mod base;

use serde_json::{Value, json};

use crate::types::{Arch, Digest, TalosVersion};
use crate::virtual_file::VirtualFile;

pub use archive::{ArchivedLayer, archive};
pub use base::{Base, InstallerError};

/// Media type of an image index.
pub const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of an image manifest.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an image configuration.
pub const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of a layer that is not compressed.
const TAR_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
/// When every image was made, and every layer: a function of the inputs, so no clock.
const CREATED: &str = "1970-01-01T00:00:00Z";
/// The time of an entry of the history, as the reference writes it: none.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// What the installer puts on the disk.
#[derive(Clone, Debug)]
pub enum BootAssets {
    /// A boot loader for UEFI and a unified kernel image.
    Uki {
        /// systemd-boot.
        systemd_boot: VirtualFile,
        /// The unified kernel image.
        uki: VirtualFile,
    },
    /// Kernel and initramfs for GRUB, which the installer brings.
    Kernel {
        /// The kernel.
        kernel: VirtualFile,
        /// The initramfs, extensions included.
        initramfs: VirtualFile,
    },
}

/// Whether the installer of a version carries [`BootAssets::Uki`].
pub fn boots_uki(version: &TalosVersion, secure_boot: bool) -> bool {
    secure_boot || version.has_unified_installer()
}

/// The files of our layer, sorted: path without a leading slash, mode, content. There are no entries for folders.
pub fn installer_files(
    version: &TalosVersion,
    arch: Arch,
    secure_boot: bool,
    assets: BootAssets,
) -> Vec<(String, u16, VirtualFile)> {
    let files = match assets {
        BootAssets::Uki { systemd_boot, uki } => {
            let signed_name = secure_boot && !version.has_unified_installer();
            let uki_name = if signed_name { "vmlinuz.efi.signed" } else { "vmlinuz.efi" };
            [("systemd-boot.efi", systemd_boot), (uki_name, uki)]
        }
        BootAssets::Kernel { kernel, initramfs } => [("initramfs.xz", initramfs), ("vmlinuz", kernel)],
    };
    files.into_iter().map(|(name, file)| (format!("usr/install/{arch}/{name}"), 0o644, file)).collect()
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its media type, one of OCI's.
    pub media_type: &'static str,
    /// The digest of its bytes as they are stored.
    pub digest: Digest,
    /// Their length in bytes.
    pub size: u64,
    /// The digest of the tar archive inside.
    pub diff_id: Digest,
}

impl Layer {
    /// A tar archive of `size` bytes, not compressed: its digest is its diff ID.
    pub const fn tar(digest: Digest, size: u64) -> Self {
        Self { media_type: TAR_TYPE, digest, size, diff_id: digest }
    }
}

/// An image's JSON documents, as they are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallerImage {
    /// The image configuration.
    pub config: Vec<u8>,
    /// The image manifest, which names the configuration by digest.
    pub manifest: Vec<u8>,
}

/// Configuration and manifest of the base image with `added` layers on top.
pub fn image(base: &Base, added: &[Layer]) -> InstallerImage {
    let layers: Vec<&Layer> = base.layers().iter().chain(added).collect();
    let mut config = base.config().clone();
    config.insert("architecture".to_owned(), base.arch().as_str().into());
    config.insert("created".to_owned(), CREATED.into());
    config.insert("history".to_owned(), layers.iter().map(|_| json!({ "created": NO_TIME })).collect());
    config.insert("os".to_owned(), "linux".into());
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id).collect();
    config.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": texts(&diff_ids) }));
    let config = Value::Object(config).to_string().into_bytes();

    let descriptors: Vec<Value> =
        layers.iter().map(|layer| descriptor(layer.media_type, &layer.digest, layer.size)).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor(CONFIG_TYPE, &Digest::of(&config), config.len() as u64),
        "layers": descriptors,
    });
    InstallerImage { config, manifest: manifest.to_string().into_bytes() }
}

/// The index of one image an architecture, in the order given: architecture, digest and length of its manifest.
pub fn index(manifests: &[(Arch, Digest, u64)]) -> Vec<u8> {
    let entries: Vec<Value> = manifests
        .iter()
        .map(|(arch, digest, size)| {
            let mut entry = descriptor(MANIFEST_TYPE, digest, *size);
            entry["platform"] = json!({ "architecture": arch.as_str(), "os": "linux" });
            entry
        })
        .collect();
    json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries }).to_string().into_bytes()
}

fn descriptor(media_type: &str, digest: &Digest, size: u64) -> Value {
    json!({ "mediaType": media_type, "size": size, "digest": digest.to_string() })
}

fn texts(digests: &[Digest]) -> Vec<String> {
    digests.iter().map(Digest::to_string).collect()
}

#[cfg(test)]
mod tests;
