//! Unpacks an image of a layout into a folder, layer over layer, with the machine's own `tar`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use walkdir::WalkDir;

use super::blob_path;
use crate::run;

/// Unpacks the image behind a digest (a manifest, or an index that names `arch`) into a folder, made if absent.
pub fn image(layout: &Path, digest: &str, arch: &str, to: &Path) -> Result<()> {
    let manifest = manifest(layout, digest, arch)?;
    fs::create_dir_all(to)?;
    for layer in manifest["layers"].as_array().into_iter().flatten() {
        let digest = layer["digest"].as_str().context("layer without a digest")?;
        let media_type = layer["mediaType"].as_str().context("layer without a media type")?;
        let packing = match media_type.rsplit(['+', '.']).next() {
            Some("zstd") => "--zstd",
            Some("gzip") => "--gzip",
            Some("tar") => "--no-auto-compress",
            _ => bail!("a layer of type {media_type} cannot be unpacked"),
        };
        let blob = blob_path(layout, digest.trim_start_matches("sha256:"));
        let scratch = tempfile::tempdir()?;
        run::output(Command::new("tar").arg("-x").arg(packing).arg("-f").arg(blob).arg("-C").arg(scratch.path()))?;
        apply_whiteouts(scratch.path(), to)?;
        run::output(Command::new("cp").args(["-a", "-T"]).arg(scratch.path()).arg(to))?;
    }
    Ok(())
}

/// The manifest behind a digest.
pub fn manifest(layout: &Path, digest: &str, arch: &str) -> Result<Value> {
    let path = blob_path(layout, digest.trim_start_matches("sha256:"));
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let document: Value = serde_json::from_slice(&bytes)?;
    let Some(children) = document["manifests"].as_array() else { return Ok(document) };
    for child in children {
        if child["platform"]["architecture"] == arch {
            return manifest(layout, child["digest"].as_str().context("no digest")?, arch);
        }
    }
    bail!("{digest} has nothing for {arch}")
}

/// Does in `lower` what the marks of a layer (unpacked alone in `layer`) say, and removes the marks.
/// Image specification, "Whiteouts".
fn apply_whiteouts(layer: &Path, lower: &Path) -> Result<()> {
    for entry in WalkDir::new(layer) {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(hidden) = name.strip_prefix(".wh.") else { continue };
        let folder = lower.join(entry.path().strip_prefix(layer)?).parent().context("no parent")?.to_owned();
        let target = if hidden == ".wh..opq" { folder } else { folder.join(hidden) };
        match target.symlink_metadata() {
            Ok(found) if found.is_dir() => fs::remove_dir_all(target)?,
            Ok(_) => fs::remove_file(target)?,
            Err(_) => {}
        }
        fs::remove_file(entry.path())?;
    }
    Ok(())
}
