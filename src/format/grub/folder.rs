//! A platform folder of a GRUB build, and what its texts say.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::{GrubError, MAX_IMAGE, bound, damaged};

/// Bytes of a folder at most.
const MAX_FOLDER: usize = 128 << 20;

/// What an image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GrubPlatform {
    /// BIOS.
    I386Pc,
    /// UEFI, x86-64.
    X86_64Efi,
    /// UEFI, AArch64.
    Arm64Efi,
}

impl GrubPlatform {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::I386Pc, Self::X86_64Efi, Self::Arm64Efi];

    /// Name of the folder.
    pub const fn folder(self) -> &'static str {
        match self {
            Self::I386Pc => "i386-pc",
            Self::X86_64Efi => "x86_64-efi",
            Self::Arm64Efi => "arm64-efi",
        }
    }

    /// Length of a machine word in bytes.
    pub(super) const fn word(self) -> usize {
        match self {
            Self::I386Pc => 4,
            Self::X86_64Efi | Self::Arm64Efi => 8,
        }
    }
}

/// A version of GRUB: major and minor number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrubVersion(pub u32, pub u32);

/// The files of a platform folder by name. Cheap to clone but for the map.
#[derive(Clone, Debug)]
pub struct GrubFolder {
    platform: GrubPlatform,
    files: BTreeMap<String, Bytes>,
}

impl GrubFolder {
    /// Whether an image that is linked from the folder may need a file of that name.
    pub fn wants(name: &str) -> bool {
        let named = ["kernel.img", "moddep.lst", "modinfo.sh", "boot.img", "boot_hybrid.img", "diskboot.img"];
        named.contains(&name) || ["cdboot.img", "lzma_decompress.img"].contains(&name) || name.ends_with(".mod")
    }

    /// A folder of these files; those that no image needs are left out.
    ///
    /// # Errors
    /// [`GrubError::TooLarge`] when one of them or all together are larger than any GRUB.
    pub fn new(platform: GrubPlatform, files: impl IntoIterator<Item = (String, Bytes)>) -> Result<Self, GrubError> {
        let files: BTreeMap<String, Bytes> = files.into_iter().filter(|(name, _)| Self::wants(name)).collect();
        for (name, bytes) in &files {
            bound(name, bytes.len() as u64, MAX_IMAGE as u64)?;
        }
        let sum: u64 = files.values().map(|bytes| bytes.len() as u64).sum();
        bound(platform.folder(), sum, MAX_FOLDER as u64)?;
        Ok(Self { platform, files })
    }

    /// What the folder's images are for.
    pub const fn platform(&self) -> GrubPlatform {
        self.platform
    }

    /// A file.
    pub(super) fn file(&self, name: &str) -> Result<&Bytes, GrubError> {
        let missing = || GrubError::Missing { folder: self.platform.folder(), file: name.to_owned() };
        self.files.get(name).ok_or_else(missing)
    }

    /// An image of code whose length never varies.
    pub(super) fn code<const N: usize>(&self, name: &str) -> Result<&[u8; N], GrubError> {
        let bytes = self.file(name)?;
        bytes[..].try_into().map_err(|_| damaged(name, format!("it has {} bytes, not {N}", bytes.len())))
    }

    /// An error if the folder is of another platform.
    pub(super) fn must_be(&self, wanted: GrubPlatform) -> Result<(), GrubError> {
        let (wanted, found) = (wanted.folder(), self.platform.folder());
        if wanted == found { Ok(()) } else { Err(GrubError::Platform { wanted, found }) }
    }

    fn text(&self, name: &str) -> Result<&str, GrubError> {
        std::str::from_utf8(self.file(name)?).map_err(|error| damaged(name, error))
    }

    /// The version that `modinfo.sh` tells.
    ///
    /// # Errors
    /// [`GrubError`] when there is no such file, or it says nothing like `grub_version="2.12"`.
    pub fn version(&self) -> Result<GrubVersion, GrubError> {
        let name = "modinfo.sh";
        let line = self.text(name)?.lines().find_map(|line| line.trim().strip_prefix("grub_version="));
        let value = line.ok_or_else(|| damaged(name, "it tells no grub_version"))?.trim_matches(['"', '\'']);
        let number = |text: &str| text[..text.bytes().take_while(u8::is_ascii_digit).count()].parse().ok();
        let version =
            value.split_once('.').and_then(|(major, minor)| Some(GrubVersion(number(major)?, number(minor)?)));
        version.ok_or_else(|| damaged(name, format!("{value:?} is no version")))
    }

    /// The wanted modules and all that they depend on, each before its users, in the order of `grub-mkimage`.
    ///
    /// # Errors
    /// [`GrubError`] when `moddep.lst` cannot be read, modules depend on one another in a ring, or one is missing.
    pub fn closure(&self, wanted: &[&str]) -> Result<Vec<String>, GrubError> {
        let list = "moddep.lst";
        let mut lines: HashMap<&str, Vec<&str>> = HashMap::new();
        for line in self.text(list)?.lines().filter(|line| !line.trim().is_empty()) {
            let (name, needs) = line.split_once(':').ok_or_else(|| damaged(list, format!("no colon in {line:?}")))?;
            lines.entry(name.trim()).or_insert_with(|| needs.split_whitespace().collect());
        }
        // No recursion on foreign text: `open` holds modules and, once they are begun, how many needs are still to come.
        let (mut open, mut order): (Vec<(&str, Option<usize>)>, _) = (Vec::new(), Vec::new());
        let mut done: HashMap<&str, bool> = HashMap::new();
        for name in wanted {
            open.push((name, None));
            while let Some((name, left)) = open.pop() {
                let needs = lines.get(name).map(Vec::as_slice).unwrap_or_default();
                let left = match (left, done.get(name)) {
                    (Some(left), _) => left,
                    (None, Some(true)) => continue,
                    (None, Some(false)) => return Err(damaged(list, format!("module {name} depends on itself"))),
                    (None, None) => {
                        done.insert(name, false);
                        needs.len()
                    }
                };
                if let Some(need) = left.checked_sub(1).and_then(|last| needs.get(last)) {
                    open.push((name, Some(left - 1)));
                    open.push((need, None));
                } else {
                    self.file(&format!("{name}.mod"))?;
                    done.insert(name, true);
                    order.push(name.to_owned());
                }
            }
        }
        Ok(order)
    }
}
