//! Image manifests and indexes of both families.
//!
//! Specifications: OCI image-spec 1.1 ("manifest", "image-index", "descriptor", "config") and Docker's "Image Manifest
//! Version 2, Schema 2". Unknown fields are tolerated; schema 1 is refused.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::types::{Arch, Digest};

use super::name::shortened;

/// The media types of manifests and indexes that we read and serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ManifestType {
    /// `application/vnd.oci.image.index.v1+json`
    OciIndex,
    /// `application/vnd.oci.image.manifest.v1+json`
    OciManifest,
    /// `application/vnd.docker.distribution.manifest.list.v2+json`
    DockerList,
    /// `application/vnd.docker.distribution.manifest.v2+json`
    DockerManifest,
}

impl ManifestType {
    /// All of them, in the order of preference.
    pub const ALL: [Self; 4] = [Self::OciIndex, Self::OciManifest, Self::DockerList, Self::DockerManifest];

    /// The media type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OciIndex => "application/vnd.oci.image.index.v1+json",
            Self::OciManifest => "application/vnd.oci.image.manifest.v1+json",
            Self::DockerList => "application/vnd.docker.distribution.manifest.list.v2+json",
            Self::DockerManifest => "application/vnd.docker.distribution.manifest.v2+json",
        }
    }

    /// Reads a media type; parameters behind a `;` are left out, case does not matter.
    pub fn parse(text: &str) -> Option<Self> {
        let bare = text.split(';').next().unwrap_or_default().trim();
        Self::ALL.into_iter().find(|media_type| media_type.as_str().eq_ignore_ascii_case(bare))
    }

    /// Whether it lists manifests, not layers.
    pub const fn is_index(self) -> bool {
        matches!(self, Self::OciIndex | Self::DockerList)
    }
}

/// Why bytes are no manifest that we can use.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ManifestError {
    /// Not JSON, or a field is missing or of the wrong kind.
    #[error("not a manifest: {0}")]
    Json(String),
    /// Docker's schema 1, which has no digests of configs.
    #[error("image manifest schema 1 is not supported: the image must be pushed again by a newer tool")]
    Schema1,
    /// A media type that is no manifest's.
    #[error("media type {0:?} is not that of an image manifest or index")]
    MediaType(String),
    /// The media type around the manifest and the one inside disagree, or the content fits neither.
    #[error("the manifest says it is {inside}, but was announced as {outside}")]
    Disagree {
        /// What the document itself says or holds.
        inside: String,
        /// What the server or descriptor says.
        outside: String,
    },
}

/// A platform as an index or a config names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture by its Go name, such as `amd64`.
    pub architecture: String,
    /// Operating system by its Go name, such as `linux`.
    pub os: String,
    /// Variant of the CPU, such as `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Whether this is Linux on `arch` (arm64 with no variant or `v8`).
    pub fn is(&self, arch: Arch) -> bool {
        let variant = self.variant.as_deref().unwrap_or_default();
        let plain = variant.is_empty() || (arch == Arch::Arm64 && variant == "v8");
        self.os == "linux" && self.architecture == arch.as_str() && plain
    }
}

/// A descriptor: what is pointed to, and how large it is. Written, it holds the fields below and no other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content.
    pub media_type: String,
    /// Digest of the content.
    pub digest: Digest,
    /// Size of the content in bytes.
    pub size: u64,
    /// The platform, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Kind of the artifact, in a list of referrers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Annotations by key.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An image index or manifest list.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIndex {
    /// What it lists.
    #[serde(deserialize_with = "null_is_empty")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one refers to.
    #[serde(default)]
    pub subject: Option<Descriptor>,
    /// Kind of the artifact.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// Annotations by key.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl ImageIndex {
    /// The first manifest for Linux on `arch`; entries without a platform never match.
    pub fn platform_manifest(&self, arch: Arch) -> Option<&Descriptor> {
        self.manifests.iter().find(|entry| entry.platform.as_ref().is_some_and(|platform| platform.is(arch)))
    }
}

/// The manifest of an image for one platform, or of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// The config.
    pub config: Descriptor,
    /// Layers from the lowest up.
    #[serde(deserialize_with = "null_is_empty")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one refers to.
    #[serde(default)]
    pub subject: Option<Descriptor>,
    /// Kind of the artifact.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// Annotations by key.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A parsed manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// An index: manifests by platform.
    Index(ImageIndex),
    /// A manifest: config and layers.
    Image(ImageManifest),
}

/// A manifest as it came, with its digest and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Digest of `bytes`, computed from them.
    pub digest: Digest,
    /// Media type to serve the bytes with.
    pub media_type: ManifestType,
    /// The bytes, unchanged.
    pub bytes: Bytes,
    /// What they say.
    pub content: Content,
}

impl Manifest {
    /// Reads a manifest; `announced` is the media type from around it: a server's header or a descriptor.
    ///
    /// # Errors
    /// [`ManifestError`] when it is none, or contradicts `announced` or itself.
    pub fn parse(bytes: Bytes, announced: Option<&str>) -> Result<Self, ManifestError> {
        let outside = announced.map(str::trim).filter(|text| !text.is_empty());
        if outside.is_some_and(|text| text.starts_with("application/vnd.docker.distribution.manifest.v1+")) {
            return Err(ManifestError::Schema1);
        }
        let probe: Probe = serde_json::from_slice(&bytes).map_err(|error| json(&error, outside))?;
        if probe.schema_version == 1 {
            return Err(ManifestError::Schema1);
        }
        if probe.schema_version != 2 {
            return Err(ManifestError::Json(format!("schemaVersion is {}, not 2", probe.schema_version)));
        }
        let inside = match &probe.media_type {
            Some(text) if !text.is_empty() => {
                Some(ManifestType::parse(text).ok_or_else(|| ManifestError::MediaType(shortened(text)))?)
            }
            _ => None,
        };
        // A server that does not know the type says so by a general one; then the document speaks for itself.
        let known = outside.and_then(ManifestType::parse);
        if let (Some(inside), Some(outside)) = (inside, known)
            && inside != outside
        {
            return Err(disagree(inside.as_str(), outside));
        }
        let lists = probe.manifests.is_some();
        let layered = probe.config.is_some() || probe.layers.is_some();
        let media_type = match inside.or(known) {
            Some(media_type) => media_type,
            None if lists => ManifestType::OciIndex,
            None => ManifestType::OciManifest,
        };
        let content = match (media_type.is_index(), lists, layered) {
            (_, true, true) => return Err(ManifestError::Json("it has both manifests and layers".to_owned())),
            (true, _, true) => return Err(disagree("an image manifest by its content", media_type)),
            (false, true, _) => return Err(disagree("an index by its content", media_type)),
            (true, ..) => Content::Index(serde_json::from_slice(&bytes).map_err(|error| json(&error, outside))?),
            (false, ..) => Content::Image(serde_json::from_slice(&bytes).map_err(|error| json(&error, outside))?),
        };
        Ok(Self { digest: Digest::of(&bytes), media_type, bytes, content })
    }

    /// The manifest that this one refers to.
    pub fn subject(&self) -> Option<&Descriptor> {
        match &self.content {
            Content::Index(index) => index.subject.as_ref(),
            Content::Image(image) => image.subject.as_ref(),
        }
    }

    /// Kind of the artifact: `artifactType`, or the media type of the config where that is missing.
    pub fn artifact_type(&self) -> Option<&str> {
        match &self.content {
            Content::Index(index) => index.artifact_type.as_deref(),
            Content::Image(image) => Some(image.artifact_type.as_deref().unwrap_or(&image.config.media_type)),
        }
    }

    /// A descriptor of this manifest, as a list of referrers holds it.
    pub fn descriptor(&self) -> Descriptor {
        let annotations = match &self.content {
            Content::Index(index) => &index.annotations,
            Content::Image(image) => &image.annotations,
        };
        Descriptor {
            media_type: self.media_type.as_str().to_owned(),
            digest: self.digest,
            size: self.bytes.len() as u64,
            platform: None,
            artifact_type: self.artifact_type().map(str::to_owned),
            annotations: annotations.clone(),
        }
    }
}

/// The platform that an image's config names: what counts for a manifest that no index lists.
///
/// # Errors
/// [`ManifestError::Json`] when it is no config or names no platform.
pub fn config_platform(config: &[u8]) -> Result<Platform, ManifestError> {
    serde_json::from_slice(config).map_err(|error| ManifestError::Json(format!("image config: {error}")))
}

/// What decides how a document is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    schema_version: u64,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    config: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    layers: Option<serde::de::IgnoredAny>,
}

fn json(error: &serde_json::Error, announced: Option<&str>) -> ManifestError {
    let hint = match announced {
        Some(text) if ManifestType::parse(text).is_none() => format!(" (announced as {:?})", shortened(text)),
        _ => String::new(),
    };
    ManifestError::Json(format!("{error}{hint}"))
}

fn disagree(inside: &str, outside: ManifestType) -> ManifestError {
    ManifestError::Disagree { inside: inside.to_owned(), outside: outside.as_str().to_owned() }
}

/// Some writers put `null` where an empty list or map is meant.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
