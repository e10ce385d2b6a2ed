//! Overlays: support for a board, whose own program says what it needs and puts boot code and firmware where they go.
//!
//! The program runs once for each overlay image and options, confined, with fixed relative paths; what it said and wrote
//! is kept and shared by all models.

mod bundle;
mod install;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Prepared, Preparer, StoredFile};
use crate::assemble::initramfs::MTIME;
use crate::factory::FactoryError;
use crate::factory::resolve::ResolvedOverlay;
use crate::format::tar;
use crate::format::yaml::{Node, Width, emit};
use crate::sandbox::{Folder, Job, SandboxError};
use crate::store::BlobStore;
use crate::types::{Arch, Digest};
use crate::virtual_file::VirtualFile;

pub use bundle::Bundle;

/// Changes with what programs are given and with what is kept of what they do.
const REVISION: u32 = 1;
/// How long a program may take to say what it needs.
const OPTIONS_TIME: Duration = Duration::from_secs(15);
/// How long it may take to install.
const INSTALL_TIME: Duration = Duration::from_secs(60);
/// Kernel arguments at most.
const MAX_ARGUMENTS: usize = 256;
/// Sectors that a partition table may be moved at most: 1 GiB of 512-byte sectors.
const MAX_OFFSET: u64 = 2 << 20;

/// An overlay that said what it needs.
#[derive(Clone, Debug)]
pub struct PreparedOverlay {
    /// Where it comes from, and what was asked of it.
    pub source: ResolvedOverlay,
    /// What it needs.
    pub options: OverlayOptions,
}

/// What an overlay's program answers to `get-options`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayOptions {
    /// Its own name for itself.
    pub name: String,
    /// Kernel arguments.
    pub kernel_args: Vec<String>,
    /// Sectors to keep free between the header of the partition table and its entries, and so before the first partition.
    pub partition_offset: u64,
}

impl Prepared for OverlayOptions {
    fn blobs(&self) -> Vec<StoredFile> {
        Vec::new()
    }
}

/// What an overlay's program puts on a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayInstall {
    /// Contents of all files, one behind the other, then all boot code.
    contents: StoredFile,
    /// Path below the EFI file system of each file, and where its contents are: first byte and length.
    files: BTreeMap<String, (u64, u64)>,
    /// Where on the disk boot code goes, in bytes, and where it is: first byte and length.
    writes: Vec<(u64, (u64, u64))>,
}

impl Prepared for OverlayInstall {
    fn blobs(&self) -> Vec<StoredFile> {
        vec![self.contents]
    }
}

impl OverlayInstall {
    /// Files for the EFI file system by path, `/` between names.
    pub fn efi_files(&self) -> impl Iterator<Item = (&str, VirtualFile)> {
        self.files.iter().map(|(path, range)| (path.as_str(), self.part(*range)))
    }

    /// What is written to the disk outside of partitions: offset in bytes, a multiple of 512, ascending, without overlaps;
    /// and contents, whole sectors of 512 bytes.
    pub fn disk_writes(&self) -> impl Iterator<Item = (u64, VirtualFile)> {
        self.writes.iter().map(|(offset, range)| (*offset, self.part(*range)))
    }

    fn part(&self, (start, len): (u64, u64)) -> VirtualFile {
        self.contents.file().slice(start..start + len)
    }
}

impl Preparer {
    /// An overlay, with what its program says that it needs.
    ///
    /// # Errors
    /// [`FactoryError::Invalid`] when it refuses the schematic's options, [`FactoryError::BadSource`] when it is broken,
    /// [`FactoryError::NoSandbox`] where no foreign program can be run; or as the source image is to be had.
    pub async fn overlay(self: &Arc<Self>, overlay: &ResolvedOverlay) -> Result<Arc<PreparedOverlay>, FactoryError> {
        let key = format!("overlay-options/{REVISION}/{}", identity(overlay));
        let (preparer, source) = (self.clone(), overlay.clone());
        let options = self
            .overlay_options
            .run(key.clone(), move || async move {
                if let Some(found) = preparer.recall::<OverlayOptions>(&key).await? {
                    return Ok(Arc::new(found));
                }
                let bundle = preparer.overlay_bundle(&source, NATIVE).await?;
                let made = preparer.prepare(&key, "overlay options", move |store| ask(store, &source, &bundle)).await?;
                Ok(Arc::new(made))
            })
            .await?;
        Ok(Arc::new(PreparedOverlay { source: overlay.clone(), options: (*options).clone() }))
    }

    /// What an overlay's program puts on a disk of `arch`.
    ///
    /// # Errors
    /// As [`Preparer::overlay`].
    pub async fn overlay_install(
        self: &Arc<Self>,
        overlay: &ResolvedOverlay,
        arch: Arch,
    ) -> Result<Arc<OverlayInstall>, FactoryError> {
        let key = format!("overlay-install/{REVISION}/{arch}/{}", identity(overlay));
        let (preparer, source) = (self.clone(), overlay.clone());
        self.overlay_installs
            .run(key.clone(), move || async move {
                if let Some(found) = preparer.recall::<OverlayInstall>(&key).await? {
                    return Ok(Arc::new(found));
                }
                // What is installed is for the board; only the program is for the machine that we run on.
                let (program, files) =
                    tokio::try_join!(preparer.overlay_bundle(&source, NATIVE), preparer.overlay_bundle(&source, arch))?;
                let job = move |store: &dyn BlobStore| install::install(store, &source, &program, &files);
                Ok(Arc::new(preparer.prepare(&key, "overlay install", job).await?))
            })
            .await
    }

    /// The layer that an installer image for `arch` has for its overlay.
    ///
    /// # Errors
    /// [`FactoryError::BadSource`] when the overlay has no such installer, or as the source image is to be had.
    pub async fn overlay_layer(
        self: &Arc<Self>,
        overlay: &ResolvedOverlay,
        arch: Arch,
    ) -> Result<VirtualFile, FactoryError> {
        let bundle = self.overlay_bundle(overlay, arch).await?;
        let program = bundle.program(&overlay.name).ok_or_else(|| lacks_program(overlay, arch))?;
        let mut layer = tar::Layout::new(MTIME);
        layer.add_tree("overlay/artifacts/", &bundle.artifacts()?).map_err(super::model::internal)?;
        let options = VirtualFile::inline(options_text(overlay));
        layer.add_file("overlay/extra-options", 0o644, options).map_err(super::model::internal)?;
        layer.add_file("overlay/installers/default", 0o755, program).map_err(super::model::internal)?;
        Ok(layer.finish())
    }
}

/// The architecture of the machine that we run on.
const NATIVE: Arch = if cfg!(target_arch = "aarch64") { Arch::Arm64 } else { Arch::Amd64 };

/// The part of keys that says which overlay is meant, and what is asked of it.
fn identity(overlay: &ResolvedOverlay) -> String {
    let asked = format!("{}\0{}", overlay.name, options_text(overlay));
    format!("{}/{}", overlay.digest.hex(), Digest::of(asked.as_bytes()).hex())
}

/// The schematic's options as YAML; an empty mapping where there are none.
fn options_text(overlay: &ResolvedOverlay) -> String {
    emit(&Node::Map(overlay.options.clone()), Width::Unlimited)
}

fn lacks_program(overlay: &ResolvedOverlay, arch: Arch) -> FactoryError {
    bad(overlay, format!("it has no installers/{} for {arch}", overlay.name))
}

fn bad(overlay: &ResolvedOverlay, reason: String) -> FactoryError {
    FactoryError::BadSource { image: format!("{}@{}", overlay.repository, overlay.digest), reason }
}

/// A folder in which an overlay's program can be run.
fn folder(store: &dyn BlobStore, overlay: &ResolvedOverlay, program: &Bundle) -> Result<Folder, FactoryError> {
    let folder = Folder::new().map_err(no_folder)?;
    let program = program.program(&overlay.name).ok_or_else(|| lacks_program(overlay, NATIVE))?;
    bundle::write_out(store, &program, &folder.program(), 0o500)?;
    Ok(folder)
}

fn no_folder(error: std::io::Error) -> FactoryError {
    crate::store::StoreError::Io { doing: "making the folder of an overlay's program".to_owned(), source: error }.into()
}

/// Runs an overlay's program, and says whose fault it is that there is no answer.
fn run(overlay: &ResolvedOverlay, job: &Job<'_>) -> Result<Vec<u8>, FactoryError> {
    job.run().map_err(|error| match error {
        SandboxError::Unavailable(_) => FactoryError::NoSandbox(error.to_string()),
        SandboxError::Io { .. } => FactoryError::Internal(error.to_string()),
        SandboxError::Failed { .. } if !overlay.options.is_empty() => FactoryError::Invalid(format!(
            "overlay {:?} of image {:?} does not take the schematic's options: {} {error}",
            overlay.name, overlay.repository, job.argument
        )),
        SandboxError::Failed { .. } | SandboxError::Exceeded { .. } => {
            bad(overlay, format!("its program installers/{}, asked for {}: {error}", overlay.name, job.argument))
        }
    })
}

/// Asks an overlay's program what it needs.
fn ask(store: &dyn BlobStore, overlay: &ResolvedOverlay, bundle: &Bundle) -> Result<OverlayOptions, FactoryError> {
    let folder = folder(store, overlay, bundle)?;
    let input = options_text(overlay);
    let job = Job { folder: &folder, argument: "get-options", input: input.as_bytes(), time: OPTIONS_TIME };
    let answer = run(overlay, &job)?;
    read_options(&answer).map_err(|reason| {
        bad(overlay, format!("its program installers/{} answers get-options with {reason}", overlay.name))
    })
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

fn read_options(answer: &[u8]) -> Result<OverlayOptions, String> {
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
    Ok(OverlayOptions { name: printed.name, kernel_args, partition_offset })
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
        assert_eq!(least, OverlayOptions { name: "x".to_owned(), kernel_args: vec![], partition_offset: 0 });
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
