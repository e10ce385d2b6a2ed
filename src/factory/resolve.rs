//! From names to digests: what a schematic on a version is made of.

use std::sync::Arc;

use super::FactoryError;
use super::catalogs::Catalogs;
use super::schematics::Stored;
use super::sources::Sources;
use crate::catalog;
use crate::schematic::Overlay;
use crate::types::{Digest, TalosVersion};

/// Repository and digest of each extension, in the schematic's order.
pub type Extensions = Vec<(String, Digest)>;

/// Turns names into digests, and refuses what cannot be made.
pub struct Resolver {
    sources: Arc<Sources>,
    catalogs: Arc<Catalogs>,
}

impl Resolver {
    /// Resolves through these sources and catalogs.
    pub const fn new(sources: Arc<Sources>, catalogs: Arc<Catalogs>) -> Self {
        Self { sources, catalogs }
    }

    /// The digest of a version's image in a repository of the release.
    ///
    /// # Errors
    /// [`FactoryError::NoSuchVersion`] when the release lacks it, or as the upstream says.
    pub async fn image(&self, repository: &str, version: &TalosVersion) -> Result<Digest, FactoryError> {
        let resolved = self.sources.resolve(repository, &version.to_string()).await;
        resolved.map_err(|error| incomplete(error, version))
    }

    /// The imager of a version, from which its boot assets come.
    ///
    /// # Errors
    /// As [`Resolver::image`].
    pub async fn imager(&self, version: &TalosVersion) -> Result<Digest, FactoryError> {
        self.image(&self.sources.components().imager, version).await
    }

    /// The extensions that a schematic asks for.
    ///
    /// # Errors
    /// [`FactoryError::Invalid`] for what the schematic cannot have on this version.
    pub async fn extensions(&self, version: &TalosVersion, schematic: &Stored) -> Result<Extensions, FactoryError> {
        let wanted = &schematic.schematic.customization;
        if !wanted.embedded_machine_configuration.is_empty() && !version.has_embedded_config() {
            return Err(FactoryError::Invalid(format!(
                "embedding configuration is not supported for Talos version {version}: it came with v1.12.0"
            )));
        }
        let names: Vec<String> = wanted.official_extensions.iter().map(ToString::to_string).collect();
        let chosen = self.catalogs.chosen(version, &names).await.map_err(|error| incomplete(error, version))?;
        Ok(chosen.into_iter().map(|extension| (extension.name, extension.digest)).collect())
    }

    /// Refuses an overlay that a version does not have.
    ///
    /// # Errors
    /// [`FactoryError::Invalid`] naming the overlay, or as the upstream says.
    pub async fn known_overlay(&self, version: &TalosVersion, schematic: &Stored) -> Result<(), FactoryError> {
        let Some(wanted) = schematic.schematic.overlay.as_ref().filter(|overlay| is_asked_for(overlay)) else {
            return Ok(());
        };
        if !version.has_overlays() {
            return Err(FactoryError::Invalid(format!(
                "overlay is not supported for Talos version {version}: overlays came with v1.7.0"
            )));
        }
        let offered = self.catalogs.overlays(version).await.map_err(|error| incomplete(error, version))?;
        if offered.iter().any(|overlay| overlay.name == *wanted.name && overlay.image == *wanted.image) {
            return Ok(());
        }
        let near = catalog::nearest(&wanted.name, offered.iter().map(|overlay| overlay.name.as_str()));
        let near = near.and_then(|near| offered.iter().find(|overlay| overlay.name == near));
        let hint = near.map(|near| format!("; did you mean {:?} of image {:?}?", near.name, near.image));
        Err(FactoryError::Invalid(format!(
            "official overlay {:?} of image {:?} is not available for Talos version {version}{}",
            &*wanted.name,
            &*wanted.image,
            hint.unwrap_or_default()
        )))
    }
}

fn is_asked_for(overlay: &Overlay) -> bool {
    !overlay.image.is_empty() || !overlay.name.is_empty()
}

/// Refuses a schematic with an overlay, for assets that it would be part of.
///
/// # Errors
/// [`FactoryError::Invalid`]
pub fn without_overlay(schematic: &Stored) -> Result<(), FactoryError> {
    if schematic.schematic.overlay.as_ref().is_some_and(is_asked_for) {
        return Err(FactoryError::Invalid("schematics with an overlay are not available here yet".to_owned()));
    }
    Ok(())
}

/// A version that is listed but lacks images upstream.
fn incomplete(error: FactoryError, version: &TalosVersion) -> FactoryError {
    match error {
        FactoryError::NoSuchTag { repository, tag } => {
            FactoryError::NoSuchVersion(format!("{} (the upstream has no {repository}:{tag})", version.semver()))
        }
        other => other,
    }
}
