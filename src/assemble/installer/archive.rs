//! An image for one architecture as `docker load` reads it.
//!
//! Specification: moby, "Docker Image Specification v1.2", section "Combined Image JSON + Filesystem Changeset Format":
//! an image configuration, layers, and `manifest.json` that names them.

use std::collections::BTreeSet;

use serde_json::json;

use crate::format::tar;
use crate::types::Digest;
use crate::virtual_file::VirtualFile;

/// The time of every entry, in seconds since 1970.
const MTIME: u32 = 0;

/// A layer with its bytes.
#[derive(Clone, Debug)]
pub struct ArchivedLayer {
    /// Its media type, one of OCI's.
    pub media_type: &'static str,
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its bytes.
    pub file: VirtualFile,
}

/// The archive of an image that is called `tag` once it is loaded: its configuration and its layers, lowest first.
///
/// # Errors
/// When an entry cannot be written, which names and sizes rule out.
pub fn archive(tag: &str, config: &[u8], layers: &[ArchivedLayer]) -> Result<VirtualFile, tar::WriteError> {
    let mut out = tar::Layout::new(MTIME);
    let config_name = Digest::of(config).to_string();
    out.add_file(&config_name, 0o644, VirtualFile::inline(config.to_vec()))?;
    let mut written = BTreeSet::new();
    let mut names = Vec::with_capacity(layers.len());
    for layer in layers {
        let suffix = match layer.media_type.rsplit_once('+') {
            Some((_, "gzip")) => "tar.gz",
            Some((_, "zstd")) => "tar.zst",
            _ => "tar",
        };
        let name = format!("{}.{suffix}", layer.digest.hex());
        if written.insert(layer.digest) {
            out.add_file(&name, 0o644, layer.file.clone())?;
        }
        names.push(name);
    }
    let manifest = json!([{ "Config": config_name, "RepoTags": [tag], "Layers": names }]);
    out.add_file("manifest.json", 0o644, VirtualFile::inline(manifest.to_string()))?;
    Ok(out.finish())
}
