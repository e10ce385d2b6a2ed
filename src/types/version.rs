//! Talos versions. What changed with which is in `version_rules.rs`.

use std::fmt;

use semver::Version;

/// A Talos version, with or without a leading `v` when read, always with it when written.
///
/// Ordering is that of semantic versioning 2.0.0. What depends on the version depends on major.minor.patch only:
/// `1.10.0-alpha.1` counts as `1.10.0` (see [`TalosVersion::at_least`]).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TalosVersion(Version);

/// A text that is no semantic version.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not a version like v1.13.2: {reason}")]
pub struct VersionError {
    text: String,
    reason: String,
}

impl TalosVersion {
    /// Reads `v1.2.3` or `1.2.3`, with an optional prerelease and build.
    ///
    /// # Errors
    /// [`VersionError`] when the text is no semantic version.
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        let bare = text.strip_prefix('v').unwrap_or(text);
        match Version::parse(bare) {
            Ok(version) => Ok(Self(version)),
            Err(error) => Err(VersionError { text: text.to_owned(), reason: error.to_string() }),
        }
    }

    /// The version itself.
    pub const fn semver(&self) -> &Version {
        &self.0
    }

    /// Whether major.minor.patch is at least the one given; prerelease and build do not count.
    pub const fn at_least(&self, major: u64, minor: u64, patch: u64) -> bool {
        let v = &self.0;
        if v.major != major {
            return v.major > major;
        }
        if v.minor != minor {
            return v.minor > minor;
        }
        v.patch >= patch
    }

    /// Whether this is a prerelease such as `v1.14.0-beta.0`.
    pub fn is_prerelease(&self) -> bool {
        !self.0.pre.is_empty()
    }
}

impl fmt::Display for TalosVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prereleases_order_by_semver_but_count_as_their_release() {
        let beta = TalosVersion::parse("1.10.0-beta.0").unwrap();
        let release = TalosVersion::parse("v1.10.0").unwrap();
        assert!(beta < release);
        assert!(beta.at_least(1, 10, 0) && !beta.at_least(1, 10, 1));
        assert_eq!(release.to_string(), "v1.10.0");
        assert!(TalosVersion::parse("v1.10").unwrap_err().to_string().contains("v1.10"));
    }
}
