//! Initramfs with extensions: microcode in front, the release's own initramfs byte for byte, the extensions behind.
//!
//! What is appended is a row of complete cpio archives, some plain, some compressed each on its own, so that big parts
//! are blobs that were prepared once. The kernel's documentation, "initramfs buffer format", allows such a row; it takes
//! a plain archive at a multiple of 4 only, and skips zeros between archives.

use std::collections::BTreeMap;

use crate::format::cpio::{Archive, EARLY_PADDING, WriteError};
use crate::format::tree::Node;
use crate::virtual_file::VirtualFile;

use super::extension::{Metadata, extensions_yaml};

/// Where the kernel looks for microcode (its documentation, "The Linux Microcode Loader").
const MICROCODE: &str = "kernel/x86/microcode";
/// The time of every member, in seconds since 1970.
pub const MTIME: u32 = 1_559_424_892;

/// A file or folder of firmware as an archive of its own, compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirmwareEntry {
    /// Path in the initramfs.
    pub path: String,
    /// The compressed archive.
    pub archive: VirtualFile,
}

/// An extension, prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// What it says of itself.
    pub metadata: Metadata,
    /// Its squashfs image.
    pub image: VirtualFile,
    /// Its firmware, folders and files.
    pub firmware: Vec<FirmwareEntry>,
    /// Microcode for Intel's CPUs; empty if it has none.
    pub intel_microcode: VirtualFile,
    /// Microcode for AMD's CPUs; empty if it has none.
    pub amd_microcode: VirtualFile,
}

impl Extension {
    /// An extension that is nothing but its image.
    pub fn plain(metadata: Metadata, image: VirtualFile) -> Self {
        Self {
            metadata,
            image,
            firmware: Vec::new(),
            intel_microcode: VirtualFile::empty(),
            amd_microcode: VirtualFile::empty(),
        }
    }
}

/// A member of what is appended.
enum Member {
    /// Goes into a plain archive.
    Plain(VirtualFile),
    /// Is a compressed archive.
    Packed(VirtualFile),
}

/// The initramfs of `base` with `extensions` in the order of the schematic, the virtual ones behind them, and
/// `modules_dep` if they hold kernel modules.
///
/// # Errors
/// [`WriteError`] for a file of 4 GiB or more.
pub fn initramfs(
    base: &VirtualFile,
    extensions: &[Extension],
    modules_dep: Option<&Extension>,
) -> Result<VirtualFile, WriteError> {
    // Images are numbered in the order of the schematic; their layers lie over one another in the order of the numbers as text.
    let mut layers: Vec<(String, &Extension)> =
        extensions.iter().enumerate().map(|(n, extension)| (n.to_string(), extension)).collect();
    layers.sort_by(|a, b| a.0.cmp(&b.0));
    layers.extend(modules_dep.map(|extension| ("modules.dep".to_owned(), extension)));
    let layers: Vec<(String, &Extension)> =
        layers.into_iter().map(|(name, extension)| (format!("{name}.sqsh"), extension)).collect();

    let mut members: BTreeMap<String, Member> = BTreeMap::new();
    // Of two extensions that bring one path the upper layer wins.
    for entry in layers.iter().flat_map(|(_, extension)| &extension.firmware) {
        members.insert(entry.path.clone(), Member::Packed(entry.archive.clone()));
    }
    let list = extensions_yaml(layers.iter().map(|(image, extension)| (image.as_str(), &extension.metadata)));
    members.insert("extensions.yaml".to_owned(), Member::Plain(VirtualFile::inline(list)));
    for (name, extension) in &layers {
        members.insert(name.clone(), Member::Plain(extension.image.clone()));
    }

    let mut parts = vec![microcode(&layers)?, base.clone()];
    let mut plain = Vec::new();
    for (path, member) in members {
        match member {
            Member::Plain(file) => plain.push((path, file)),
            Member::Packed(archive) => {
                append_plain(&mut parts, &mut plain)?;
                parts.push(archive);
            }
        }
    }
    append_plain(&mut parts, &mut plain)?;
    Ok(VirtualFile::concat(parts))
}

/// Ends a run of plain members: an archive of them at the next multiple of 4.
fn append_plain(parts: &mut Vec<VirtualFile>, run: &mut Vec<(String, VirtualFile)>) -> Result<(), WriteError> {
    if run.is_empty() {
        return Ok(());
    }
    let at: u64 = parts.iter().map(VirtualFile::len).sum();
    parts.push(VirtualFile::zeros(at.next_multiple_of(4) - at));
    let mut archive = Archive::new(MTIME);
    for (path, file) in run.drain(..) {
        archive.add_file(path, file)?;
    }
    parts.push(archive.finish());
    Ok(())
}

/// The archive that the kernel reads microcode from before it reads anything else; empty if there is none.
fn microcode(layers: &[(String, &Extension)]) -> Result<VirtualFile, WriteError> {
    let all = |part: fn(&Extension) -> &VirtualFile| {
        VirtualFile::concat(layers.iter().map(|(_, extension)| part(extension).clone()))
    };
    let files = [
        ("AuthenticAMD.bin", all(|extension| &extension.amd_microcode)),
        ("GenuineIntel.bin", all(|extension| &extension.intel_microcode)),
    ];
    if files.iter().all(|(_, file)| file.is_empty()) {
        return Ok(VirtualFile::empty());
    }
    let mut archive = Archive::new(MTIME);
    for folder in ["kernel", "kernel/x86", MICROCODE] {
        archive.add(folder, Node::directory(0o755))?;
    }
    for (name, file) in files.into_iter().filter(|(_, file)| !file.is_empty()) {
        archive.add_file(format!("{MICROCODE}/{name}"), file)?;
    }
    let archive = archive.finish();
    let padding = archive.len().next_multiple_of(EARLY_PADDING) - archive.len();
    Ok(VirtualFile::concat([archive, VirtualFile::zeros(padding)]))
}
