//! Reading the base installer of a release.

use oci_spec::image::ImageManifest;
use serde_json::{Map, Value};

use crate::types::{Arch, Digest, DigestError};

use super::Layer;

/// Why an image cannot be the base of an installer. The release is at fault, not who asked.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InstallerError {
    /// The configuration is not what the image specification says.
    #[error("the base installer's configuration: {0}")]
    Config(String),
    /// The base is for another machine.
    #[error("the base installer is for {found}, not for linux/{expected}")]
    Platform {
        /// What its configuration says.
        found: String,
        /// What was wanted.
        expected: Arch,
    },
    /// A layer of a kind that cannot be served on.
    #[error("the base installer has a layer of media type {0:?}")]
    MediaType(String),
    /// A digest that cannot be served.
    #[error("the base installer: {0}")]
    Digest(#[from] DigestError),
}

/// The base installer for one architecture: what of it the generated image keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    arch: Arch,
    config: Map<String, Value>,
    layers: Vec<Layer>,
}

impl Base {
    /// Reads manifest and configuration of a platform's base image.
    ///
    /// Of a base of two layers only the first is kept: before 1.10 the second holds the release's own boot assets. Fields
    /// of the configuration that are not known here stay as they are.
    ///
    /// # Errors
    /// [`InstallerError`] when the two do not fit together, or not with `arch`.
    pub fn read(arch: Arch, manifest: &ImageManifest, config: &Value) -> Result<Self, InstallerError> {
        let wrong = |what: &str| InstallerError::Config(what.to_owned());
        let config = config.as_object().ok_or_else(|| wrong("not a JSON object"))?;
        let field = |name: &str| config.get(name).and_then(Value::as_str).unwrap_or_default();
        if (field("os"), field("architecture")) != ("linux", arch.as_str()) {
            let found = format!("{}/{}", field("os"), field("architecture"));
            return Err(InstallerError::Platform { found, expected: arch });
        }
        let diff_ids = config.get("rootfs").and_then(|rootfs| rootfs.get("diff_ids")).and_then(Value::as_array);
        let diff_ids = diff_ids.ok_or_else(|| wrong("no rootfs.diff_ids"))?;
        let found = manifest.layers();
        if diff_ids.len() != found.len() || found.is_empty() {
            return Err(wrong(&format!("{} diff IDs for {} layers", diff_ids.len(), found.len())));
        }
        let kept = if found.len() == 2 { 1 } else { found.len() };
        let mut layers = Vec::with_capacity(kept);
        for (layer, diff_id) in found.iter().zip(diff_ids).take(kept) {
            layers.push(Layer {
                media_type: oci_type(layer.media_type().as_ref())?,
                digest: layer.digest().to_string().parse()?,
                size: layer.size(),
                diff_id: diff_id.as_str().ok_or_else(|| wrong("a diff ID is not a text"))?.parse::<Digest>()?,
            });
        }
        Ok(Self { arch, config: config.clone(), layers })
    }

    /// The architecture.
    pub const fn arch(&self) -> Arch {
        self.arch
    }

    /// The image configuration, all fields.
    pub const fn config(&self) -> &Map<String, Value> {
        &self.config
    }

    /// The layers that are kept, lowest first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }
}

/// OCI's name of a layer's media type; Docker's schema 2 has names of its own for the same bytes.
fn oci_type(found: &str) -> Result<&'static str, InstallerError> {
    match found {
        "application/vnd.oci.image.layer.v1.tar" | "application/vnd.docker.image.rootfs.diff.tar" => {
            Ok("application/vnd.oci.image.layer.v1.tar")
        }
        "application/vnd.oci.image.layer.v1.tar+gzip" | "application/vnd.docker.image.rootfs.diff.tar.gzip" => {
            Ok("application/vnd.oci.image.layer.v1.tar+gzip")
        }
        "application/vnd.oci.image.layer.v1.tar+zstd" | "application/vnd.docker.image.rootfs.diff.tar.zstd" => {
            Ok("application/vnd.oci.image.layer.v1.tar+zstd")
        }
        other => Err(InstallerError::MediaType(other.to_owned())),
    }
}
