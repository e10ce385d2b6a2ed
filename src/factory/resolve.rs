//! From names to digests: what a schematic on a version is made of.

use std::sync::Arc;

use super::FactoryError;
use super::catalogs::Catalogs;
use super::schematics::Stored;
use super::sources::Sources;
use crate::catalog;
use crate::format::yaml::Node;
use crate::schematic::Overlay;
use crate::types::{Digest, TalosVersion};

/// Repository and digest of each extension, in the schematic's order.
pub type Extensions = Vec<(String, Digest)>;

/// An overlay whose image is known.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedOverlay {
    /// Repository path of its image.
    pub repository: String,
    /// Digest of its image.
    pub digest: Digest,
    /// Name of the board.
    pub name: String,
    /// The schematic's options: pairs of a map, in canonical order.
    pub options: Vec<(Node, Node)>,
}

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

    /// The overlay that a schematic asks for, if any.
    ///
    /// # Errors
    /// [`FactoryError::Invalid`] naming an overlay that the version does not have, or as the upstream says.
    pub async fn overlay(
        &self,
        version: &TalosVersion,
        schematic: &Stored,
    ) -> Result<Option<ResolvedOverlay>, FactoryError> {
        let Some(wanted) = schematic.schematic.overlay.as_ref().filter(|overlay| is_asked_for(overlay)) else {
            return Ok(None);
        };
        if !version.has_overlays() {
            return Err(FactoryError::Invalid(format!(
                "overlay is not supported for Talos version {version}: overlays came with v1.7.0"
            )));
        }
        let offered = self.catalogs.overlays(version).await.map_err(|error| incomplete(error, version))?;
        find_overlay(&offered, wanted, version).map(Some)
    }
}

/// The overlay among those that a version offers.
fn find_overlay(
    offered: &[catalog::Overlay],
    wanted: &Overlay,
    version: &TalosVersion,
) -> Result<ResolvedOverlay, FactoryError> {
    let found = offered.iter().find(|overlay| overlay.name == *wanted.name && overlay.image == *wanted.image);
    if let Some(found) = found {
        return Ok(ResolvedOverlay {
            repository: found.image.clone(),
            digest: found.digest,
            name: found.name.clone(),
            options: wanted.options.clone(),
        });
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

fn is_asked_for(overlay: &Overlay) -> bool {
    !overlay.image.is_empty() || !overlay.name.is_empty()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schematic::Schematic;

    /// Every board that there is, out of a catalog as a release holds it.
    #[test]
    fn all_boards_resolve() {
        let golden = include_str!("../../tests/golden/platforms/sbcs.json");
        let golden: serde_json::Value = serde_json::from_str(golden).unwrap();
        let boards = golden["sbcs"].as_array().unwrap();
        assert!(boards.len() > 15);
        let text = |board: &serde_json::Value, name: &str| board[name].as_str().unwrap().to_owned();
        let entry = |board: &serde_json::Value| {
            let (name, image) = (text(board, "overlay_name"), text(board, "overlay_image"));
            let digest = Digest::of(image.as_bytes());
            format!("- name: {name}\n  image: ghcr.io/{image}:v0.1.0\n  digest: {digest}\n")
        };
        let catalog: String = boards.iter().map(entry).collect();
        let offered = catalog::overlays(format!("overlays:\n{catalog}").as_bytes(), "registry.example").unwrap();
        let version = TalosVersion::parse("v1.13.2").unwrap();
        for board in boards {
            let (name, image) = (text(board, "overlay_name"), text(board, "overlay_image"));
            let yaml = format!("overlay: {{image: {image}, name: {name}, options: {{configTxt: \"gpu_mem=16\"}}}}");
            let wanted = Schematic::parse(yaml.as_bytes()).unwrap().overlay.unwrap();
            let found = find_overlay(&offered, &wanted, &version).unwrap();
            assert_eq!((found.repository.as_str(), found.name.as_str()), (image.as_str(), name.as_str()));
            assert_eq!((found.digest, found.options.len()), (Digest::of(image.as_bytes()), 1));
            let typo = Overlay { name: format!("{name}x").as_str().into(), ..wanted };
            let error = find_overlay(&offered, &typo, &version).unwrap_err().to_string();
            assert!(error.contains(&format!("did you mean {name:?} of image {image:?}")), "{error}");
        }
    }
}
