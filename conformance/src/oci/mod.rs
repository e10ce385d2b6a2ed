//! Writes images into an OCI image layout, byte for byte the same each time.
//!
//! Image specification: <https://github.com/opencontainers/image-spec>. Both media type families are
//! written (a layout may name Docker's), since upstream registries hold both.

pub mod tree;
pub mod unpack;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cache;

/// Which media types an image's manifests use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// OCI image specification.
    Oci,
    /// Docker schema 2.
    Docker,
}

/// How a layer's tar is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// gzip.
    Gzip,
    /// zstd (OCI only).
    Zstd,
}

/// What a manifest, an index or a tag points to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content.
    pub media_type: String,
    /// `sha256:` and hex.
    pub digest: String,
    /// Length in bytes.
    pub size: u64,
}

/// A layer in the layout.
#[derive(Clone, Debug)]
pub struct Layer {
    blob: Descriptor,
    diff_id: String,
    packing: Packing,
}

/// What an image's config says beside its layers.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// `Entrypoint`, `Env` and `Labels`, or nothing.
    pub config: Option<Value>,
}

/// A tag of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// Repository, e.g. `siderolabs/imager`.
    pub repository: String,
    /// Tag.
    pub tag: String,
    /// The manifest or index.
    pub descriptor: Descriptor,
}

/// Date in every config, so that the bytes are the same each time.
const CREATED: &str = "2023-11-14T22:13:20Z";

/// An OCI image layout being written.
pub struct Layout {
    root: PathBuf,
    tags: Vec<Tag>,
}

impl Layout {
    /// Starts a layout in an absent or empty folder.
    pub fn create(root: &Path) -> Result<Self> {
        fs::create_dir_all(root.join("blobs/sha256")).with_context(|| format!("cannot make {}", root.display()))?;
        fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(Self { root: root.to_owned(), tags: Vec::new() })
    }

    /// Stores bytes under their digest.
    pub fn put(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let hex = cache::sha256(bytes);
        let path = blob_path(&self.root, &hex);
        if !path.exists() {
            fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(Descriptor { media_type: media_type.to_owned(), digest: format!("sha256:{hex}"), size: bytes.len() as u64 })
    }

    /// Packs a tar as a layer.
    pub fn layer(&self, tar: &[u8], packing: Packing) -> Result<Layer> {
        let packed = match packing {
            Packing::Gzip => {
                let mut gz = GzBuilder::new().write(Vec::new(), Compression::fast());
                gz.write_all(tar)?;
                gz.finish()?
            }
            Packing::Zstd => zstd::encode_all(tar, 1)?,
        };
        Ok(Layer { blob: self.put("", &packed)?, diff_id: format!("sha256:{}", cache::sha256(tar)), packing })
    }

    /// Writes config and manifest of one platform (`linux`, `arch`).
    pub fn image(&self, family: Family, arch: &str, layers: &[Layer], config: &Config) -> Result<Descriptor> {
        let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let history: Vec<Value> =
            (0..layers.len()).map(|n| json!({"created": CREATED, "created_by": format!("layer {n}")})).collect();
        let mut document = json!({"created": CREATED, "architecture": arch, "os": "linux"});
        if let Some(config) = &config.config {
            document["config"] = config.clone();
        }
        document["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
        document["history"] = Value::Array(history);
        let (manifest_type, config_type) = match family {
            Family::Oci => ("application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json"),
            Family::Docker => (
                "application/vnd.docker.distribution.manifest.v2+json",
                "application/vnd.docker.container.image.v1+json",
            ),
        };
        let config = self.put(config_type, &serde_json::to_vec(&document)?)?;
        let layers: Vec<Descriptor> = layers
            .iter()
            .map(|layer| Descriptor { media_type: layer_type(family, layer.packing).to_owned(), ..layer.blob.clone() })
            .collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": layers});
        self.put(manifest_type, &serde_json::to_vec(&manifest)?)
    }

    /// Writes an index over manifests by architecture.
    pub fn index(&self, family: Family, manifests: &[(&str, Descriptor)]) -> Result<Descriptor> {
        let kind = match family {
            Family::Oci => "application/vnd.oci.image.index.v1+json",
            Family::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
        };
        let manifests = manifests
            .iter()
            .map(|(arch, descriptor)| {
                let mut entry = serde_json::to_value(descriptor)?;
                entry["platform"] = json!({"architecture": arch, "os": "linux"});
                Ok(entry)
            })
            .collect::<Result<Vec<Value>>>()?;
        let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": manifests});
        self.put(kind, &serde_json::to_vec(&index)?)
    }

    /// Names a manifest or index.
    pub fn tag(&mut self, repository: &str, tag: &str, descriptor: &Descriptor) {
        self.tags.push(Tag { repository: repository.to_owned(), tag: tag.to_owned(), descriptor: descriptor.clone() });
    }

    /// Writes `index.json`, where each tag is named `repository:tag`, and gives the tags in order.
    pub fn finish(self) -> Result<Vec<Tag>> {
        write_index(&self.root, &self.tags)?;
        Ok(self.tags)
    }
}

/// Writes the `index.json` of a layout.
pub fn write_index(root: &Path, tags: &[Tag]) -> Result<()> {
    let manifests = tags
        .iter()
        .map(|tag| {
            let mut entry = serde_json::to_value(&tag.descriptor)?;
            let name = format!("{}:{}", tag.repository, tag.tag);
            entry["annotations"] = json!(BTreeMap::from([("org.opencontainers.image.ref.name", name)]));
            Ok(entry)
        })
        .collect::<Result<Vec<Value>>>()?;
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    });
    fs::write(root.join("index.json"), serde_json::to_vec_pretty(&index)?)?;
    Ok(())
}

/// Where a layout keeps the blob of a SHA-256 in hex.
pub fn blob_path(root: &Path, hex: &str) -> PathBuf {
    root.join("blobs/sha256").join(hex)
}

fn layer_type(family: Family, packing: Packing) -> &'static str {
    match (family, packing) {
        (Family::Oci, Packing::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
        (Family::Oci, Packing::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
        (Family::Docker, Packing::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        (Family::Docker, Packing::Zstd) => "application/vnd.docker.image.rootfs.diff.tar.zstd",
    }
}
