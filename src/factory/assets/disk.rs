//! Disk images in their formats and compressions.

use std::sync::Arc;

use super::path::{Compression, DiskFormat};
use crate::assemble::initramfs::MTIME;
use crate::encode::{Codec, encode};
use crate::factory::FactoryError;
use crate::factory::prepare::{Model, Preparer};
use crate::format::{ova, qcow2, tar, vhd};
use crate::virtual_file::{Outline, VirtualFile};

/// The disk image of a model, and what its parts are.
///
/// # Errors
/// As [`Preparer::disk`]; [`FactoryError::Invalid`] for a disk that the format cannot hold.
pub async fn disk(
    preparer: &Arc<Preparer>,
    model: &Model<'_>,
    format: DiskFormat,
    compression: Compression,
) -> Result<(VirtualFile, Outline), FactoryError> {
    let (raw, outline) = preparer.disk(model).await?;
    let cannot = |error: &dyn std::fmt::Display| FactoryError::Invalid(format!("no disk image can be made: {error}"));
    let (image, outline) = match format {
        DiskFormat::Raw => (raw, outline),
        DiskFormat::Qcow2 => qcow2::lay_out(&raw, &outline).map_err(|error| cannot(&error))?,
        DiskFormat::Vhd => {
            let image = vhd::lay_out(&raw, MTIME).map_err(|error| cannot(&error))?;
            let mut outline = outline;
            outline.add(raw.len()..image.len(), "footer");
            (image, outline)
        }
        DiskFormat::Ova => ova::lay_out(&raw, &outline, MTIME).map_err(|error| cannot(&error))?,
    };
    let codec = match compression {
        Compression::None => return Ok((image, outline)),
        Compression::Xz => Codec::Xz,
        Compression::Zstd => Codec::Zst,
        Compression::Gzip | Compression::TarGzip => Codec::Gz,
    };
    let (image, outline) = if compression == Compression::TarGzip {
        let (name, mut archive) = (format!("disk{}", format.suffix()), tar::Layout::new(MTIME));
        archive.add_outlined_file(&name, 0o644, image, &outline).map_err(|error| cannot(&error))?;
        archive.finish_outlined()
    } else {
        (image, outline)
    };
    let known = preparer.contents(codec, &image).await?;
    Ok(encode(codec, &image, &outline, &known))
}
