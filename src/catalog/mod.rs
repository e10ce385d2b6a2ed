//! What a release offers: versions, extensions, overlays, and the names that were changed on the way.

mod lists;
mod names;

pub use lists::{CatalogError, Extension, Overlay, extensions, overlays};
pub use names::{alias, nearest};

use crate::types::TalosVersion;

/// The versions that the tags of the imager's repository offer, ascending.
///
/// A tag counts when it is `v` and a semantic version without build metadata, not older than `min`, and not in
/// `broken`; prereleases only as `alpha.N`, `beta.N` and `rc.N` of the newest minor version there is.
pub fn offered(tags: &[String], min: &TalosVersion, broken: &[TalosVersion]) -> Vec<TalosVersion> {
    let mut versions: Vec<TalosVersion> = tags
        .iter()
        .filter(|tag| tag.starts_with('v'))
        .filter_map(|tag| TalosVersion::parse(tag).ok())
        .filter(|version| version.semver().build.is_empty() && is_released(version))
        .filter(|version| version >= min && !broken.contains(version))
        .collect();
    versions.sort_unstable();
    versions.dedup();
    let minor = |version: &TalosVersion| (version.semver().major, version.semver().minor);
    if let Some(newest) = versions.iter().map(minor).max() {
        versions.retain(|version| !version.is_prerelease() || minor(version) == newest);
    }
    versions
}

/// Whether a version is a release or a prerelease that was announced, such as `v1.14.0-beta.1`.
fn is_released(version: &TalosVersion) -> bool {
    if !version.is_prerelease() {
        return true;
    }
    match version.semver().pre.as_str().split_once('.') {
        Some(("alpha" | "beta" | "rc", number)) => !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_released_is_offered() {
        let tags: Vec<String> = [
            "v1.1.0",
            "v1.2.0",
            "v1.9.5",
            "v1.10.7",
            "v1.11.2",
            "v1.12.1",
            "1.12.5",
            "v1.12.9",
            "v1.13.0",
            "v1.13.0-beta.1",
            "v1.13.2",
            "v1.14.0-alpha.0",
            "v1.14.0-beta.0",
            "v1.14.0-dev.1",
            "v1.14.0-alpha.0-12-gabcdef0",
            "latest",
            "edge",
            "sha256-ed722201b6cc20494251e8a89099bb0f2c62d7cfb392436ef09aaee6c16a5291.sig",
            "v1.13.2",
        ]
        .map(str::to_owned)
        .to_vec();
        let version = |text: &str| TalosVersion::parse(text).unwrap();
        let found: Vec<String> =
            offered(&tags, &version("1.2.0"), &[version("1.12.9")]).iter().map(ToString::to_string).collect();
        let want = [
            "v1.2.0",
            "v1.9.5",
            "v1.10.7",
            "v1.11.2",
            "v1.12.1",
            "v1.13.0",
            "v1.13.2",
            "v1.14.0-alpha.0",
            "v1.14.0-beta.0",
        ];
        assert_eq!(found, want);
    }
}
