//! The catalog images' files: `image-digests` and `descriptions.yaml` of extensions, `overlays.yaml`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::types::Digest;

/// Lines of a catalog file at most.
const MAX_ENTRIES: usize = 10_000;

/// What is wrong with a catalog file.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A line that is no image reference with a digest.
    #[error("image-digests, line {line}: {text:?} is not registry/repository:tag@sha256:<digest>")]
    Reference {
        /// Counted from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// More entries than any release has.
    #[error("the catalog has more than {MAX_ENTRIES} entries")]
    TooMany,
    /// A YAML file that cannot be understood.
    #[error("{file}: {reason}")]
    Yaml {
        /// The file's name.
        file: &'static str,
        /// What the parser says.
        reason: String,
    },
    /// A file that is no text.
    #[error("{0} is not UTF-8 text")]
    Encoding(&'static str),
}

/// An extension of a release, as `GET /version/:version/extensions/official` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Repository path, such as `siderolabs/gvisor`.
    pub name: String,
    /// Reference by tag, on the configured registry.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Digest of the image.
    pub digest: Digest,
    /// Who made it; empty if not said.
    pub author: String,
    /// What it is; empty if not said.
    pub description: String,
}

/// An overlay of a release, as `GET /version/:version/overlays/official` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// The overlay's name.
    pub name: String,
    /// Repository path of its image.
    pub image: String,
    /// Reference by tag, on the configured registry.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Digest of the image.
    pub digest: Digest,
}

/// Splits `registry/repository:tag` into repository and tag.
fn split_reference(reference: &str) -> Option<(&str, &str)> {
    let (_registry, rest) = reference.split_once('/')?;
    let (repository, tag) = rest.rsplit_once(':')?;
    (is_repository(repository) && is_tag(tag)).then_some((repository, tag))
}

/// The distribution specification's `<name>`: words of lower-case letters and digits with single separators.
fn is_repository(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && text.split('/').all(|word| {
            let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            edge(word.bytes().next())
                && edge(word.bytes().last())
                && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
        })
}

/// The distribution specification's tag.
fn is_tag(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && !text.starts_with(['.', '-'])
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn text<'a>(bytes: &'a [u8], file: &'static str) -> Result<&'a str, CatalogError> {
    std::str::from_utf8(bytes).map_err(|_| CatalogError::Encoding(file))
}

/// Author and description of an extension.
#[derive(Deserialize)]
struct Description {
    #[serde(default)]
    author: String,
    #[serde(default)]
    description: String,
}

/// Reads the extension catalog: `image-digests`, and `descriptions.yaml` if there is one, in the order of the former.
/// The registry's host in every reference becomes `registry`.
///
/// # Errors
/// [`CatalogError`] naming the line.
pub fn extensions(
    image_digests: &[u8],
    descriptions: Option<&[u8]>,
    registry: &str,
) -> Result<Vec<Extension>, CatalogError> {
    let described: BTreeMap<String, Description> = match descriptions {
        None => BTreeMap::new(),
        Some(bytes) => {
            let file = "descriptions.yaml";
            serde_yaml::from_str::<Option<_>>(text(bytes, file)?)
                .map_err(|error| CatalogError::Yaml { file, reason: error.to_string() })?
                .unwrap_or_default()
        }
    };
    let mut found = Vec::new();
    for (n, line) in text(image_digests, "image-digests")?.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let malformed = || CatalogError::Reference { line: n + 1, text: line.chars().take(200).collect() };
        let (reference, digest) = line.split_once('@').ok_or_else(malformed)?;
        let (repository, tag) = split_reference(reference).ok_or_else(malformed)?;
        let (author, description) = described
            .get(line)
            .map_or_else(Default::default, |entry| (entry.author.clone(), entry.description.clone()));
        found.push(Extension {
            name: repository.to_owned(),
            reference: format!("{registry}/{repository}:{tag}"),
            digest: digest.parse().map_err(|_| malformed())?,
            author,
            description,
        });
        if found.len() > MAX_ENTRIES {
            return Err(CatalogError::TooMany);
        }
    }
    Ok(found)
}

#[derive(Deserialize)]
struct OverlayFile {
    #[serde(default)]
    overlays: Vec<OverlayEntry>,
}

#[derive(Deserialize)]
struct OverlayEntry {
    name: String,
    image: String,
    digest: Digest,
}

/// Reads the overlay catalog, `overlays.yaml`. The registry's host in every reference becomes `registry`.
///
/// # Errors
/// [`CatalogError::Yaml`]
pub fn overlays(overlays_yaml: &[u8], registry: &str) -> Result<Vec<Overlay>, CatalogError> {
    let file = "overlays.yaml";
    let failed = |reason: String| CatalogError::Yaml { file, reason };
    let parsed: OverlayFile =
        serde_yaml::from_str(text(overlays_yaml, file)?).map_err(|error| failed(error.to_string()))?;
    if parsed.overlays.len() > MAX_ENTRIES {
        return Err(CatalogError::TooMany);
    }
    parsed
        .overlays
        .into_iter()
        .map(|entry| {
            let (repository, tag) = split_reference(&entry.image).ok_or_else(|| {
                failed(format!("overlay {}: image {:?} is not registry/repository:tag", entry.name, entry.image))
            })?;
            Ok(Overlay {
                name: entry.name,
                image: repository.to_owned(),
                reference: format!("{registry}/{repository}:{tag}"),
                digest: entry.digest,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn extensions_come_in_the_files_order_with_our_registry() {
        let line = format!("ghcr.io/siderolabs/hello:1.0.0@sha256:{HEX}");
        let digests = format!("{line}\n\nghcr.io:443/siderolabs/b/c:v2@sha256:{HEX}\n");
        let descriptions = format!("{line}:\n  author: Someone\n  description: |\n    Says hello.\n");
        let found = extensions(digests.as_bytes(), Some(descriptions.as_bytes()), "registry.example:5000").unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].name, "siderolabs/hello");
        assert_eq!(found[0].reference, "registry.example:5000/siderolabs/hello:1.0.0");
        assert_eq!((found[0].author.as_str(), found[0].description.as_str()), ("Someone", "Says hello.\n"));
        assert_eq!((found[1].name.as_str(), found[1].author.as_str()), ("siderolabs/b/c", ""));
    }

    #[test]
    fn broken_catalogs_are_refused_by_line() {
        for bad in ["x", "a/b:c@sha256:00", "ghcr.io/../etc:1@sha256:", &format!("ghcr.io/A/b:1@sha256:{HEX}")] {
            let error = extensions(format!("\n{bad}").as_bytes(), None, "r").unwrap_err().to_string();
            assert!(error.contains("line 2"), "{error}");
        }
        assert!(extensions(b"\xff", None, "r").is_err());
        assert!(overlays(b"overlays: 5", "r").is_err());
        assert!(overlays(b"overlays:\n- name: a\n  image: b\n  digest: c\n", "r").is_err());
    }

    #[test]
    fn overlays_get_our_registry_too() {
        let text = format!("overlays:\n- name: rpi\n  image: ghcr.io/siderolabs/sbc:v1\n  digest: sha256:{HEX}\n");
        let found = overlays(text.as_bytes(), "r.example").unwrap();
        assert_eq!(
            (found[0].image.as_str(), found[0].reference.as_str()),
            ("siderolabs/sbc", "r.example/siderolabs/sbc:v1")
        );
    }
}
