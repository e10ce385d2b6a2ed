//! The folder as an OCI image layout (image-spec v1.1, "OCI Image Layout").

use std::fs::File;
use std::path::Path;

use serde_json::{Value, json};

use super::durable::Scratch;
use super::{failed, read_if_there};
use crate::store::StoreError;
use crate::types::Digest;

const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Makes the layout's files if they are not there.
pub fn prepare(root: &Path, scratch: &Scratch) -> Result<(), StoreError> {
    let marker = root.join("oci-layout");
    if !marker.exists() {
        scratch.write(&marker, json!({ "imageLayoutVersion": "1.0.0" }).to_string().as_bytes(), 0o644)?;
    }
    let index = root.join("index.json");
    if !index.exists() {
        scratch.write(&index, empty().to_string().as_bytes(), 0o644)?;
    }
    Ok(())
}

fn empty() -> Value {
    json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [] })
}

/// Names an image in the index, in place of what had the name.
pub fn index(
    root: &Path,
    scratch: &Scratch,
    name: &str,
    media_type: &str,
    digest: &Digest,
    size: u64,
) -> Result<(), StoreError> {
    change(root, scratch, |manifests| {
        let entry = json!({
            "mediaType": media_type, "digest": digest, "size": size, "annotations": { REF_NAME: name },
        });
        if manifests.contains(&entry) {
            return false;
        }
        manifests.retain(|old| old["annotations"][REF_NAME] != name);
        manifests.push(entry);
        true
    })
}

/// Changes the list of images, one process and thread at a time; `change` says whether it did.
pub fn change(root: &Path, scratch: &Scratch, change: impl FnOnce(&mut Vec<Value>) -> bool) -> Result<(), StoreError> {
    let path = root.join("index.json");
    let lock = root.join("index.lock");
    let lock = File::create(&lock).and_then(|file| file.lock().map(|()| file)).map_err(failed("locking the index"))?;
    let stored = read_if_there(&path)?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let mut index: Value = stored.unwrap_or_else(empty);
    if !index["manifests"].is_array() {
        index = empty();
    }
    let changed = index["manifests"].as_array_mut().is_some_and(change);
    if changed {
        scratch.write(&path, index.to_string().as_bytes(), 0o644)?;
    }
    drop(lock);
    Ok(())
}
