//! What an installer image is made from: pure data with a digest of its own.

use serde::Serialize;

use super::InstallerImage;
use crate::types::{Digest, TalosVersion};

/// Changes whenever our layout of the same inputs changes; what was announced before stays served.
const LAYOUT_REVISION: u32 = 1;

/// Everything that the bytes of an installer image depend on.
#[derive(Clone, Debug, Serialize)]
pub struct Recipe {
    layout: u32,
    /// `installer` or `<platform>-installer`: stands in the signatures.
    image: String,
    platform: &'static str,
    version: String,
    schematic: String,
    /// Stands in the `schematic` extension and in the signatures.
    external_url: String,
    signing_key: String,
    imager: Digest,
    base: Digest,
    /// Repository and digest of each extension, in the schematic's order.
    extensions: Vec<(String, Digest)>,
}

/// The inputs of a recipe that were resolved to digests.
pub struct Resolved {
    /// The imager.
    pub imager: Digest,
    /// The base image.
    pub base: Digest,
    /// Repository and digest of each extension, in the schematic's order.
    pub extensions: Vec<(String, Digest)>,
}

impl Recipe {
    /// The recipe of `image` for a version and the schematic of ID `schematic`.
    pub fn new(
        image: &InstallerImage,
        version: &TalosVersion,
        schematic: String,
        external_url: &url::Url,
        signing_key: &str,
        resolved: &Resolved,
    ) -> Self {
        Self {
            layout: LAYOUT_REVISION,
            image: image.to_string(),
            platform: image.platform.as_str(),
            version: version.to_string(),
            schematic,
            external_url: external_url.to_string(),
            signing_key: signing_key.to_owned(),
            imager: resolved.imager,
            base: resolved.base,
            extensions: resolved.extensions.clone(),
        }
    }

    /// Digest of the recipe.
    ///
    /// # Errors
    /// When it cannot be written as JSON, which its types rule out.
    pub fn digest(&self) -> Result<Digest, serde_json::Error> {
        serde_json::to_vec(self).map(|bytes| Digest::of(&bytes))
    }
}
