//! A boot asset explained: every run of bytes, where it comes from, and what it is.

use std::collections::HashMap;

use serde_json::Value;

use super::Asset;
use crate::factory::{Factory, FactoryError, blocking};
use crate::store::{BlobStore, RecordKind};
use crate::types::Digest;
use crate::virtual_file::{Extent, VirtualFile};

/// A run of bytes of an asset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanLine {
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
    /// Where the bytes come from.
    pub source: String,
    /// What they are; empty where nothing is known.
    pub what: String,
}

impl Factory {
    /// The extents of a boot asset in order, cut where its parts begin and end.
    ///
    /// # Errors
    /// As [`Factory::asset`].
    pub async fn plan(&self, schematic: &str, version: &str, path: &str) -> Result<Vec<PlanLine>, FactoryError> {
        let (Asset { file, .. }, outline) = self.outlined(schematic, version, path).await?;
        let store = self.store.clone();
        let names = blocking(move || names(store.as_ref())).await?;
        let (mut lines, mut offset) = (Vec::new(), 0);
        for extent in file.extents() {
            let end = offset + extent.len();
            let mut cuts = outline.cuts(&(offset..end));
            cuts.push(end);
            let mut from = offset;
            for to in cuts {
                let (source, known) = describe(extent, from - offset, &names);
                let part = outline.name_at(from).unwrap_or_default();
                let what = [part, known.as_str()].into_iter().filter(|text| !text.is_empty());
                let what = what.collect::<Vec<_>>().join("; ");
                lines.push(PlanLine { offset: from, len: to - from, source, what });
                from = to;
            }
            offset = end;
        }
        Ok(lines)
    }
}

/// Where an extent's bytes come from, `skipped` bytes into it, and what is known of the source.
fn describe(extent: &Extent, skipped: u64, names: &HashMap<Digest, String>) -> (String, String) {
    match extent {
        Extent::Inline(bytes) => {
            let shown = bytes.iter().skip(skipped as usize).take(12);
            (format!("inline {}", shown.map(|byte| format!("{byte:02x}")).collect::<String>()), String::new())
        }
        Extent::Blob { digest, offset, .. } => {
            let name = names.get(digest).cloned().unwrap_or_default();
            (format!("blob {digest} from {}", offset + skipped), name)
        }
        Extent::Repeat { unit, .. } if unit.iter().all(|byte| *byte == 0) => ("zeros".to_owned(), String::new()),
        Extent::Count { first, step, width, times, .. } => {
            (format!("{times} numbers of {} bytes from {first} by {step}", width.bytes()), String::new())
        }
        Extent::Repeat { unit, times } => {
            let shown = hex::encode(&unit[..unit.len().min(12)]);
            (format!("{times} times {} bytes, {shown}", unit.len()), String::new())
        }
        Extent::Framed { header, block, source } => {
            let blocks = source.len() / block;
            (format!("{blocks} blocks of {block} bytes, each behind {}", hex::encode(header)), under(source, names))
        }
        Extent::Coded { coder, source, .. } => (format!("{coder:?} of {} bytes", source.len()), under(source, names)),
    }
}

/// What is known of the blobs under a file.
fn under(file: &VirtualFile, names: &HashMap<Digest, String>) -> String {
    let mut known: Vec<&str> =
        file.blobs().iter().filter_map(|(digest, _)| names.get(digest)).map(String::as_str).collect();
    known.dedup();
    known.join(", ")
}

/// What blobs are, as the records of what was prepared tell.
fn names(store: &dyn BlobStore) -> Result<HashMap<Digest, String>, FactoryError> {
    let mut names = HashMap::new();
    for key in store.record_keys(RecordKind::Prepared)? {
        let Some(bytes) = store.record(RecordKind::Prepared, &key)? else { continue };
        let Ok(prepared) = serde_json::from_slice::<Value>(&bytes) else { continue };
        let kind = key.split('/').next().unwrap_or_default();
        let of = prepared.pointer("/metadata/name").and_then(Value::as_str).map(|name| format!(" {name}"));
        gather(&prepared, &format!("{kind}{}", of.unwrap_or_default()), &mut names);
    }
    Ok(names)
}

/// Names every `{digest, size}` below a value by the way that leads to it.
fn gather(value: &Value, name: &str, names: &mut HashMap<Digest, String>) {
    let Value::Object(fields) = value else { return };
    if let (Some(digest), Some(_)) = (fields.get("digest").and_then(Value::as_str), fields.get("size")) {
        if let Ok(digest) = digest.parse() {
            names.insert(digest, name.to_owned());
        }
        return;
    }
    for (field, value) in fields {
        gather(value, &format!("{name} {field}"), names);
    }
}
