//! System extensions: their manifests, and whether they go with a Talos version.

mod constraint;
mod list;
mod virtuals;

use serde::{Deserialize, Serialize};

use crate::types::TalosVersion;

pub use constraint::{Constraint, ConstraintError};
pub use list::extensions_yaml;
pub use virtuals::{VirtualExtension, embedded_config, modules_dep, schematic};

/// What is wrong with an extension.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ExtensionError {
    /// `manifest.yaml` is missing or cannot be understood.
    #[error("extension manifest: {0}")]
    Manifest(String),
    /// A manifest of another version.
    #[error("extension manifest: unsupported manifest version: {0:?}")]
    ManifestVersion(String),
    /// No `rootfs` folder.
    #[error("extension rootfs is missing")]
    NoRootfs,
    /// A constraint that cannot be read.
    #[error("extension {name:?}: {source}")]
    Constraint {
        /// The extension.
        name: String,
        /// What is wrong.
        source: ConstraintError,
    },
    /// The extension does not go with this Talos version.
    #[error("extension {name:?}: version constraint {constraint} can't be satisfied with Talos version {version}")]
    Incompatible {
        /// The extension.
        name: String,
        /// What it asks for.
        constraint: String,
        /// What was asked for.
        version: String,
    },
}

/// What an extension says of itself: the `metadata` of its `manifest.yaml`, with fields in the order of `extensions.yaml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// Its name, such as `gvisor`.
    #[serde(deserialize_with = "text")]
    pub name: String,
    /// Its version.
    #[serde(deserialize_with = "text")]
    pub version: String,
    /// Who made it.
    #[serde(deserialize_with = "text")]
    pub author: String,
    /// What it is.
    #[serde(deserialize_with = "text")]
    pub description: String,
    /// What it goes with.
    pub compatibility: Compatibility,
    /// More about it; empty for most.
    #[serde(rename = "extraInfo", deserialize_with = "text")]
    pub extra_info: String,
}

/// What an extension goes with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Compatibility {
    /// Versions of Talos.
    pub talos: TalosCompatibility,
}

/// Versions of Talos that an extension goes with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TalosCompatibility {
    /// A range of semantic versions such as `>= v1.5.0`; empty for any.
    #[serde(deserialize_with = "text")]
    pub version: String,
}

/// Any scalar as text: people write `version: 1.0` without quotes.
fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    use serde::de::Error as _;
    match serde_yaml::Value::deserialize(deserializer)? {
        serde_yaml::Value::Null => Ok(String::new()),
        serde_yaml::Value::String(text) => Ok(text),
        serde_yaml::Value::Bool(flag) => Ok(flag.to_string()),
        serde_yaml::Value::Number(number) => Ok(number.to_string()),
        _ => Err(D::Error::custom("a plain value is expected")),
    }
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default, deserialize_with = "text")]
    version: String,
    #[serde(default)]
    metadata: Metadata,
}

impl Metadata {
    /// Reads a `manifest.yaml`.
    ///
    /// # Errors
    /// [`ExtensionError::Manifest`] or [`ExtensionError::ManifestVersion`].
    pub fn parse(manifest_yaml: &[u8]) -> Result<Self, ExtensionError> {
        let failed = |error: &dyn std::fmt::Display| ExtensionError::Manifest(error.to_string());
        let text = std::str::from_utf8(manifest_yaml).map_err(|error| failed(&error))?;
        let manifest: Manifest = serde_yaml::from_str(text).map_err(|error| failed(&error))?;
        if manifest.version != "v1alpha1" {
            return Err(ExtensionError::ManifestVersion(manifest.version));
        }
        Ok(manifest.metadata)
    }

    /// Refuses an extension that does not go with a Talos version; prereleases count as their release.
    ///
    /// # Errors
    /// [`ExtensionError::Incompatible`] naming both, [`ExtensionError::Constraint`].
    pub fn check(&self, version: &TalosVersion) -> Result<(), ExtensionError> {
        let text = self.compatibility.talos.version.trim();
        if text.is_empty() {
            return Ok(());
        }
        let constraint =
            Constraint::parse(text).map_err(|source| ExtensionError::Constraint { name: self.name.clone(), source })?;
        let v = version.semver();
        if constraint.allows(v.major, v.minor, v.patch) {
            return Ok(());
        }
        Err(ExtensionError::Incompatible {
            name: self.name.clone(),
            constraint: text.to_owned(),
            version: format!("{}.{}.{}", v.major, v.minor, v.patch),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_read_and_checked() {
        let manifest = "version: v1alpha1\nmetadata:\n  name: gvisor\n  version: 1.0\n  author: Someone\n  description: |\n    Multi\n    line.\n  compatibility:\n    talos:\n      version: '>= v1.5.0'\n";
        let metadata = Metadata::parse(manifest.as_bytes()).unwrap();
        assert_eq!((metadata.name.as_str(), metadata.description.as_str()), ("gvisor", "Multi\nline.\n"));
        let version = |text| TalosVersion::parse(text).unwrap();
        assert!(metadata.check(&version("v1.5.0-alpha.1")).is_ok());
        let error = metadata.check(&version("v1.4.9")).unwrap_err().to_string();
        assert!(error.contains("gvisor") && error.contains(">= v1.5.0") && error.contains("1.4.9"), "{error}");
    }

    #[test]
    fn other_manifests_are_refused() {
        assert_eq!(Metadata::parse(b"version: v2"), Err(ExtensionError::ManifestVersion("v2".to_owned())));
        for bad in [&b"\xff"[..], b"- a", b"version: v1alpha1\nmetadata: 5"] {
            assert!(matches!(Metadata::parse(bad), Err(ExtensionError::Manifest(_))), "{bad:?}");
        }
    }
}
