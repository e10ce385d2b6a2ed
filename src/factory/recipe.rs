//! What something is made from: pure data with a digest of its own.

use serde::Serialize;

use super::resolve::{Extensions, ResolvedOverlay};
use crate::types::{Digest, Platform, TalosVersion};

/// Changes whenever our layout of the same inputs changes; what was announced before stays served.
const LAYOUT_REVISION: u32 = 3;

/// Everything that the bytes of an installer image or of a boot asset depend on.
#[derive(Clone, Debug, Serialize)]
pub struct Recipe {
    layout: u32,
    /// `installer` or `<platform>-installer`, which stands in the signatures; or the name of the asset.
    image: String,
    platform: &'static str,
    version: String,
    schematic: String,
    /// Stands in the `schematic` extension and in the signatures.
    external_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    signing_key: Option<String>,
    imager: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<Digest>,
    /// Repository and digest of each extension, in the schematic's order.
    extensions: Extensions,
    /// Digest of the overlay's image, of which the schematic says the rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    overlay: Option<Digest>,
}

/// The inputs of a recipe that were resolved to digests.
pub struct Resolved {
    /// The imager.
    pub imager: Digest,
    /// The base image.
    pub base: Digest,
    /// Its extensions.
    pub extensions: Extensions,
    /// Its overlay.
    pub overlay: Option<ResolvedOverlay>,
}

impl Recipe {
    /// The recipe of the boot asset that is called `name` for a version and the schematic of ID `schematic`.
    pub fn asset(
        (name, platform): (String, Platform),
        version: &TalosVersion,
        schematic: String,
        external_url: &url::Url,
        imager: Digest,
        extensions: &Extensions,
    ) -> Self {
        Self {
            layout: LAYOUT_REVISION,
            image: name,
            platform: platform.as_str(),
            version: version.to_string(),
            schematic,
            external_url: external_url.to_string(),
            signing_key: None,
            imager,
            base: None,
            extensions: extensions.clone(),
            overlay: None,
        }
    }

    /// The same with an overlay, if there is one.
    #[must_use]
    pub fn overlay(self, overlay: Option<&ResolvedOverlay>) -> Self {
        Self { overlay: overlay.map(|overlay| overlay.digest), ..self }
    }

    /// The same for an installer image on a base image, signed by a key.
    #[must_use]
    pub fn installer(self, base: Digest, signing_key: &str) -> Self {
        Self { base: Some(base), signing_key: Some(signing_key.to_owned()), ..self }
    }

    /// Digest of the recipe.
    ///
    /// # Errors
    /// When it cannot be written as JSON, which its types rule out.
    pub fn digest(&self) -> Result<Digest, serde_json::Error> {
        serde_json::to_vec(self).map(|bytes| Digest::of(&bytes))
    }
}
