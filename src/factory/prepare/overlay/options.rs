//! What an overlay's program answers to `get-options`, and what its profile says.

use serde::{Deserialize, Serialize};

use crate::factory::prepare::{Prepared, StoredFile};
use crate::schematic::Bootloader;

/// Kernel arguments at most.
const MAX_ARGUMENTS: usize = 256;
/// Sectors that a partition table may be moved at most: 1 GiB of 512-byte sectors.
const MAX_OFFSET: u64 = 2 << 20;

/// What an overlay's program answers to `get-options`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayOptions {
    /// Its own name for itself.
    pub name: String,
    /// Kernel arguments.
    pub kernel_args: Vec<String>,
    /// Sectors to keep free between the header of the partition table and its entries, and so before the first partition.
    pub partition_offset: u64,
    /// Name of the boot loader that its disk images have where the schematic chooses none; from its profile.
    pub(super) bootloader: Option<String>,
}

impl OverlayOptions {
    /// The boot loader that its disk images have where the schematic chooses none; `None` for the reference's default, GRUB.
    pub fn bootloader(&self) -> Option<Bootloader> {
        let all = [Bootloader::DualBoot, Bootloader::SdBoot, Bootloader::Grub];
        all.into_iter().find(|bootloader| Some(bootloader.as_str()) == self.bootloader.as_deref())
    }
}

impl Prepared for OverlayOptions {
    fn blobs(&self) -> Vec<StoredFile> {
        Vec::new()
    }
}

/// What a program prints: the fields that we know; missing ones and nulls are empty.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Printed {
    name: String,
    kernel_args: Option<Vec<String>>,
    partition_options: Option<PrintedPartitions>,
}

#[derive(Deserialize)]
struct PrintedPartitions {
    offset: Option<u64>,
}

/// Reads what a program printed.
pub(super) fn read_options(answer: &[u8]) -> Result<OverlayOptions, String> {
    let text = std::str::from_utf8(answer).map_err(|_| "bytes that are no text".to_owned())?;
    let printed: Printed = serde_yaml::from_str(text).map_err(|error| format!("what is not understood: {error}"))?;
    let kernel_args = printed.kernel_args.unwrap_or_default();
    if kernel_args.len() > MAX_ARGUMENTS {
        return Err(format!("{} kernel arguments", kernel_args.len()));
    }
    if let Some(argument) = kernel_args.iter().find(|argument| argument.chars().any(char::is_control)) {
        return Err(format!("the kernel argument {argument:?}"));
    }
    let partition_offset = printed.partition_options.and_then(|options| options.offset).unwrap_or_default();
    if partition_offset > MAX_OFFSET {
        return Err(format!("a partition offset of {partition_offset} sectors"));
    }
    Ok(OverlayOptions { name: printed.name, kernel_args, partition_offset, bootloader: None })
}

/// What of a profile is followed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    output: Option<Output>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Output {
    image_options: Option<ImageOptions>,
}

#[derive(Deserialize)]
struct ImageOptions {
    bootloader: Option<String>,
}

/// The boot loader that a profile names.
pub(super) fn read_profile(profile: &[u8]) -> Result<Option<String>, String> {
    let profile: Option<Profile> = serde_yaml::from_slice(profile).map_err(|error| error.to_string())?;
    Ok(profile.and_then(|profile| profile.output?.image_options?.bootloader).map(|name| name.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_boards_print_them() {
        let text = "name: rpi_generic\nkernelArgs:\n  - console=tty0\n  - console=ttyAMA0,115200\npartitionOptions:\n  offset: 20480\n";
        let read = read_options(text.as_bytes()).unwrap();
        assert_eq!(read.kernel_args, ["console=tty0", "console=ttyAMA0,115200"]);
        assert_eq!((read.name.as_str(), read.partition_offset), ("rpi_generic", 20480));
        let least = read_options(b"name: x\nkernelArgs: null\npartitionOptions: {}\nlater: [1]\n").unwrap();
        assert_eq!((least.name.as_str(), least.kernel_args.len(), least.partition_offset), ("x", 0, 0));
    }

    #[test]
    fn a_profile_may_name_a_boot_loader() {
        let profile =
            "arch: arm64\noutput:\n  kind: image\n  outFormat: .xz\n  imageOptions:\n    diskSize: 1306525696\n";
        assert_eq!(read_profile(profile.as_bytes()).unwrap(), None);
        let named = format!("{profile}    bootloader: sd-boot\n");
        let bootloader = read_profile(named.as_bytes()).unwrap();
        let options = OverlayOptions { bootloader, ..read_options(b"name: x").unwrap() };
        assert_eq!(options.bootloader(), Some(Bootloader::SdBoot));
        assert_eq!(OverlayOptions { bootloader: Some("none".to_owned()), ..options }.bootloader(), None);
        for nothing in ["", "output:", "output: {imageOptions: }", "arch: arm64"] {
            assert_eq!(read_profile(nothing.as_bytes()).unwrap(), None, "{nothing}");
        }
        assert!(read_profile(b"output: 5").is_err());
    }

    #[test]
    fn answers_that_cannot_be_are_refused() {
        let many = format!("name: x\nkernelArgs: [{}]\n", "a,".repeat(300));
        for text in [
            "",
            "garbage",
            "- list",
            "kernelArgs: []",
            "name: x\nkernelArgs: 5",
            "name: x\nkernelArgs: [\"a\\nb\"]",
            "name: x\npartitionOptions:\n  offset: -1",
            "name: x\npartitionOptions:\n  offset: 99999999999",
            &many,
        ] {
            assert!(read_options(text.as_bytes()).is_err(), "{text}");
        }
        assert!(read_options(b"\xff\xfe").is_err());
    }
}
