//! Names of repositories: those whose images we make, and those of the source images.

use std::fmt;

use super::FactoryError;
use crate::types::Platform;

/// A repository below `/v2/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Repository {
    /// `<image>/<schematic>`: made on request.
    Generated {
        /// What is made.
        image: InstallerImage,
        /// The schematic's ID as written; not known to exist.
        schematic: String,
    },
    /// A source image's repository path, such as `siderolabs/imager`; not known to exist.
    Source(String),
}

/// An installer image for a platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InstallerImage {
    /// The platform; `installer` alone means metal.
    pub platform: Platform,
    /// Whether the name says the platform.
    named: bool,
}

/// The organization of all source images.
const SOURCES: &str = "siderolabs/";

impl InstallerImage {
    /// The image for a platform; `named` if its name says the platform.
    pub const fn new(platform: Platform, named: bool) -> Self {
        Self { platform, named }
    }

    /// Reads `installer` or `<platform>-installer`, refusing `-secureboot` for now.
    fn parse(name: &str) -> Result<Self, FactoryError> {
        let unknown = || FactoryError::Invalid(format!("invalid image: {name}"));
        if let Some(plain) = name.strip_suffix("-secureboot") {
            Self::parse(plain).map_err(|_| unknown())?;
            return Err(FactoryError::Invalid(format!(
                "{name}: secure boot images are not available here yet; {plain} is"
            )));
        }
        if name == "installer" {
            return Ok(Self { platform: Platform::Metal, named: false });
        }
        let platform = name.strip_suffix("-installer").ok_or_else(unknown)?;
        let platform = Platform::parse(platform)
            .map_err(|error| FactoryError::Invalid(format!("invalid image: {name}: {error}")))?;
        Ok(Self { platform, named: true })
    }
}

impl fmt::Display for InstallerImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.named {
            write!(f, "{}-", self.platform.as_str())?;
        }
        f.write_str("installer")
    }
}

impl Repository {
    /// Reads a repository's name.
    ///
    /// # Errors
    /// [`FactoryError::Invalid`] for an image that cannot be made, [`FactoryError::NoSuchImage`] for other names.
    pub fn parse(name: &str) -> Result<Self, FactoryError> {
        if let Some(source) = name.strip_prefix(SOURCES) {
            return if source.is_empty() {
                Err(FactoryError::NoSuchImage(name.to_owned()))
            } else {
                Ok(Self::Source(name.to_owned()))
            };
        }
        match name.split_once('/') {
            Some((image, schematic)) if !schematic.contains('/') => {
                Ok(Self::Generated { image: InstallerImage::parse(image)?, schematic: schematic.to_owned() })
            }
            _ => Err(FactoryError::NoSuchImage(name.to_owned())),
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Generated { image, schematic } => write!(f, "{image}/{schematic}"),
            Self::Source(path) => f.write_str(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_contract() {
        for name in ["installer/abc", "metal-installer/abc", "digital-ocean-installer/abc", "siderolabs/imager"] {
            assert_eq!(Repository::parse(name).unwrap().to_string(), name);
        }
        for (name, words) in [
            ("foo/abc", "invalid image: foo"),
            ("installer-foo/abc", "invalid image: installer-foo"),
            ("foo-installer/abc", "foo"),
            ("-installer/abc", "invalid image: -installer"),
            ("Installer/abc", "invalid image: Installer"),
            ("installer-secureboot-secureboot/abc", "invalid image"),
            ("installer-secureboot/abc", "not available here yet"),
            ("aws-installer-secureboot/abc", "not available here yet"),
            ("installer", "unknown image"),
            ("x/installer/abc", "unknown image"),
            ("siderolabs/", "unknown image"),
        ] {
            let error = Repository::parse(name).unwrap_err().to_string();
            assert!(error.contains(words), "{name}: {error}");
        }
    }
}
