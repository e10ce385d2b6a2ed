//! An overlay explained: what its program needs and puts on a disk.

use std::sync::Arc;

use super::prepare::{OverlayInstall, PreparedOverlay};
use super::{Factory, FactoryError, catalogs};
use crate::types::Arch;

/// What an overlay does to the assets of a schematic.
pub struct OverlayPlan {
    /// The overlay, and what it needs.
    pub overlay: Arc<PreparedOverlay>,
    /// What it puts on a disk.
    pub install: Arc<OverlayInstall>,
}

impl Factory {
    /// What a schematic's overlay does on a version, for a board of `arch`; `None` without an overlay.
    ///
    /// # Errors
    /// [`FactoryError::Invalid`] for an overlay that there is not, or options that it does not take,
    /// [`FactoryError::NoSandbox`] where no foreign program can be run; or as the source images are to be had.
    pub async fn overlay_plan(
        &self,
        schematic: &str,
        version: &str,
        arch: Arch,
    ) -> Result<Option<OverlayPlan>, FactoryError> {
        let schematic = self.schematic(schematic).await?;
        catalogs::parse(version)?;
        let version = self.catalogs.offered(version)?;
        let Some(overlay) = self.resolver.overlay(&version, &schematic).await? else { return Ok(None) };
        let install = self.preparer.overlay_install(&overlay, arch).await?;
        Ok(Some(OverlayPlan { overlay: self.preparer.overlay(&overlay).await?, install }))
    }
}
