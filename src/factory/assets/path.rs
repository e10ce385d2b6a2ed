//! The last element of an asset's path: which file, for which platform and architecture.
//!
//! Golden data: `tests/golden/platforms/paths.jsonl`.

use std::fmt;

use crate::types::{Arch, Platform, UnknownPlatform};

/// What a path names, whether it can be made or not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AssetPath {
    /// Which asset.
    pub kind: AssetKind,
    /// The platform; bare metal where the path says none.
    pub platform: Platform,
    /// Whether an installer's path says its platform: the image has that name then.
    pub names_platform: bool,
    /// The architecture.
    pub arch: Arch,
    /// Whether the asset is one for secure boot.
    pub secure_boot: bool,
}

/// The kinds of assets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AssetKind {
    /// The kernel.
    Kernel,
    /// The initramfs with extensions.
    Initramfs,
    /// The kernel command line.
    Cmdline,
    /// A unified kernel image.
    Uki,
    /// An ISO image.
    Iso,
    /// An installer image as a docker-load archive.
    Installer,
    /// A disk image.
    Disk(DiskFormat, Compression),
}

/// Formats of disk images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DiskFormat {
    /// Sector by sector.
    Raw,
    /// QEMU's.
    Qcow2,
    /// Virtual PC's, fixed.
    Vhd,
    /// An archive with a VMDK in it.
    Ova,
}

/// How a disk image is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
    /// gzip.
    Gzip,
    /// gzip over a tar archive with the image in it.
    TarGzip,
}

/// Why a path names no asset. The texts are those that clients of the public factory know.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PathError {
    /// No asset is called like this.
    #[error("invalid profile path: {0:?}")]
    Unknown(String),
    /// There should be a platform and an architecture.
    #[error("invalid platform-arch: {0:?}")]
    PlatformArch(String),
    /// An architecture that Talos is not released for.
    #[error("invalid architecture: {0:?}")]
    Arch(String),
    /// A platform that Talos does not know.
    #[error(transparent)]
    Platform(#[from] UnknownPlatform),
}

/// The one platform whose name holds a dash.
const DASHED: &str = "digital-ocean-";

impl AssetPath {
    /// Reads the last element of an asset's path.
    ///
    /// # Errors
    /// [`PathError`] naming the part that is wrong.
    pub fn parse(path: &str) -> Result<Self, PathError> {
        if let Some(arch) = path.strip_prefix("kernel-") {
            return Ok(Self::plain(AssetKind::Kernel, parse_arch(arch)?));
        }
        if let Some(rest) = path.strip_prefix("cmdline-") {
            return Self::on_platform(AssetKind::Cmdline, rest);
        }
        if let Some(arch) = path.strip_prefix("initramfs-").and_then(|rest| rest.strip_suffix(".xz")) {
            return Ok(Self::plain(AssetKind::Initramfs, parse_arch(arch)?));
        }
        if let Some(rest) = path.strip_suffix("-uki.efi") {
            return Self::on_platform(AssetKind::Uki, rest);
        }
        if let Some(rest) = path.strip_suffix(".iso") {
            return Self::on_platform(AssetKind::Iso, rest);
        }
        if let Some(rest) = path.strip_suffix(".tar") {
            if let Some(arch) = rest.strip_prefix("installer-") {
                let (arch, secure_boot) = split_secure_boot(arch);
                return Ok(Self { secure_boot, ..Self::plain(AssetKind::Installer, parse_arch(arch)?) });
            }
            if let Some((platform, arch)) = rest.split_once("-installer-") {
                let (arch, secure_boot) = split_secure_boot(arch);
                let (arch, platform) = (parse_arch(arch)?, Platform::parse(platform)?);
                return Ok(Self { kind: AssetKind::Installer, platform, names_platform: true, arch, secure_boot });
            }
        }
        let (image, compression) = Compression::split(path);
        let (rest, format) = DiskFormat::split(image).ok_or_else(|| PathError::Unknown(image.to_owned()))?;
        Self::on_platform(AssetKind::Disk(format, compression), rest)
    }

    /// Reads `<platform>-<arch>[-secureboot]`, as PXE scripts are asked for.
    ///
    /// # Errors
    /// As [`AssetPath::parse`].
    pub fn on_platform(kind: AssetKind, text: &str) -> Result<Self, PathError> {
        let (text, secure_boot) = split_secure_boot(text);
        let (platform, arch) = match text.strip_prefix(DASHED) {
            Some(arch) => (&DASHED[..DASHED.len() - 1], arch),
            None => text.split_once('-').ok_or_else(|| PathError::PlatformArch(text.to_owned()))?,
        };
        let (arch, platform) = (parse_arch(arch)?, Platform::parse(platform)?);
        Ok(Self { kind, platform, names_platform: true, arch, secure_boot })
    }

    const fn plain(kind: AssetKind, arch: Arch) -> Self {
        Self { kind, platform: Platform::Metal, names_platform: false, arch, secure_boot: false }
    }

    /// The media type of the asset's bytes.
    pub const fn content_type(&self) -> &'static str {
        match self.kind {
            AssetKind::Kernel | AssetKind::Cmdline => "application/octet-stream",
            AssetKind::Initramfs => "application/x-xz",
            AssetKind::Uki => "application/efi",
            AssetKind::Iso => "application/x-iso9660-image",
            AssetKind::Installer => "application/x-tar",
            AssetKind::Disk(format, compression) => match (compression, format) {
                (Compression::Xz, _) => "application/x-xz",
                (Compression::Zstd, _) => "application/zstd",
                (Compression::Gzip | Compression::TarGzip, _) => "application/gzip",
                (Compression::None, DiskFormat::Qcow2) => "application/x-qemu-disk",
                (Compression::None, _) => "application/octet-stream",
            },
        }
    }
}

/// The path as it is written without iPXE's names of architectures.
impl fmt::Display for AssetPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (platform, arch) = (self.platform, self.arch);
        let boot = if self.secure_boot { "-secureboot" } else { "" };
        match self.kind {
            AssetKind::Kernel => write!(f, "kernel-{arch}"),
            AssetKind::Initramfs => write!(f, "initramfs-{arch}.xz"),
            AssetKind::Cmdline => write!(f, "cmdline-{platform}-{arch}{boot}"),
            AssetKind::Uki => write!(f, "{platform}-{arch}{boot}-uki.efi"),
            AssetKind::Iso => write!(f, "{platform}-{arch}{boot}.iso"),
            AssetKind::Installer if !self.names_platform => write!(f, "installer-{arch}{boot}.tar"),
            AssetKind::Installer => write!(f, "{platform}-installer-{arch}{boot}.tar"),
            AssetKind::Disk(format, compression) => {
                write!(f, "{platform}-{arch}{boot}{}{}", format.suffix(), compression.suffix())
            }
        }
    }
}

impl Compression {
    const ALL: [Self; 5] = [Self::TarGzip, Self::Gzip, Self::Xz, Self::Zstd, Self::None];

    const fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Xz => ".xz",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
            Self::TarGzip => ".tar.gz",
        }
    }

    fn split(path: &str) -> (&str, Self) {
        let found = Self::ALL.into_iter().find_map(|which| Some((path.strip_suffix(which.suffix())?, which)));
        found.unwrap_or((path, Self::None))
    }
}

impl DiskFormat {
    const ALL: [Self; 4] = [Self::Raw, Self::Qcow2, Self::Vhd, Self::Ova];

    pub(super) const fn suffix(self) -> &'static str {
        match self {
            Self::Raw => ".raw",
            Self::Qcow2 => ".qcow2",
            Self::Vhd => ".vhd",
            Self::Ova => ".ova",
        }
    }

    fn split(path: &str) -> Option<(&str, Self)> {
        Self::ALL.into_iter().find_map(|which| Some((path.strip_suffix(which.suffix())?, which)))
    }
}

fn split_secure_boot(text: &str) -> (&str, bool) {
    match text.strip_suffix("-secureboot") {
        Some(rest) => (rest, true),
        None => (text, false),
    }
}

/// An architecture by its name, or by one that iPXE has for amd64.
fn parse_arch(text: &str) -> Result<Arch, PathError> {
    match text {
        "x86_64" | "i386" => Ok(Arch::Amd64),
        other => Arch::parse(other).ok_or_else(|| PathError::Arch(other.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Content types that the golden file has from a table of fewer types than a running reference has.
    const BETTER_TYPES: [(&str, &str); 2] = [(".tar", "application/x-tar"), (".zst", "application/zstd")];

    /// Whether a golden path parses there and fails later, or crashes the reference: a platform that does not exist.
    fn is_unknown_platform(golden: &Value) -> bool {
        let platform = golden["result"]["platform"].as_str();
        let panics = golden["error"].as_str().is_some_and(|error| error.starts_with("PANIC"));
        panics || platform.is_some_and(|platform| Platform::parse(platform).is_err())
    }

    #[test]
    fn golden_paths() {
        let golden = include_str!("../../../tests/golden/platforms/paths.jsonl");
        let mut seen = 0;
        for line in golden.lines() {
            let golden: Value = serde_json::from_str(line).unwrap();
            let path = golden["path"].as_str().unwrap();
            seen += 1;
            let parsed = match AssetPath::parse(path) {
                Err(PathError::Platform(_)) => {
                    assert!(is_unknown_platform(&golden), "{line}");
                    continue;
                }
                Err(error) => {
                    assert_eq!(Some(error.to_string().as_str()), golden["error"].as_str(), "{path}");
                    continue;
                }
                Ok(parsed) => parsed,
            };
            let result = &golden["result"];
            let (kind, format, compression) = match parsed.kind {
                AssetKind::Kernel => ("kernel", None, "raw"),
                AssetKind::Initramfs => ("initramfs", None, "raw"),
                AssetKind::Cmdline => ("cmdline", None, "raw"),
                AssetKind::Uki => ("uki", None, "raw"),
                AssetKind::Iso => ("iso", None, "raw"),
                AssetKind::Installer => ("installer", None, "raw"),
                AssetKind::Disk(format, Compression::None) => ("image", Some(&format.suffix()[1..]), "raw"),
                AssetKind::Disk(format, compression) => ("image", Some(&format.suffix()[1..]), compression.suffix()),
            };
            assert_eq!(result["kind"], kind, "{path}");
            assert_eq!(result["arch"], parsed.arch.as_str(), "{path}");
            assert_eq!(result["platform"], parsed.platform.as_str(), "{path}");
            assert_eq!(result["secureboot"], parsed.secure_boot, "{path}");
            assert_eq!(result["out_format"], compression, "{path}");
            assert_eq!(result["disk_format"].as_str(), format, "{path}");
            assert_eq!(path.replace("x86_64", "amd64").replace("i386", "amd64"), parsed.to_string());
            let better = BETTER_TYPES.iter().find(|(suffix, _)| path.ends_with(suffix)).map(|(_, better)| *better);
            assert_eq!(
                golden["content_type"].as_str().map(|golden| better.unwrap_or(golden)),
                Some(parsed.content_type())
            );
        }
        assert_eq!(seen, 1311);
    }
}
