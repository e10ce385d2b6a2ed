//! Extensions that no image holds: what the factory adds to say what a system was made from.

use crate::format::tree::{FileTree, Node, TreeError};
use crate::schematic::SchematicId;
use crate::types::{Digest, TalosVersion};
use crate::virtual_file::VirtualFile;

use super::{Compatibility, Metadata, TalosCompatibility};

/// An extension with its files, to be made into an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualExtension {
    /// What it says of itself.
    pub metadata: Metadata,
    /// Its files.
    pub rootfs: FileTree,
}

fn any_version() -> Compatibility {
    Compatibility { talos: TalosCompatibility { version: ">= 1.0.0".to_owned() } }
}

/// The `schematic` extension: shows a running node which schematic it was made from.
///
/// # Errors
/// [`TreeError`], which the fixed paths rule out.
pub fn schematic(
    id: &SchematicId,
    canonical: &str,
    external_url: &str,
    version: &TalosVersion,
) -> Result<VirtualExtension, TreeError> {
    let mut rootfs = FileTree::new();
    rootfs.insert(format!("usr/local/share/schematic/{id}"), Node::file(0o644, VirtualFile::empty()))?;
    let metadata = Metadata {
        name: "schematic".to_owned(),
        version: id.to_string(),
        author: format!("Image Factory ({external_url})"),
        description: "Virtual extension which specifies the schematic of the image built with schematic.".to_owned(),
        compatibility: any_version(),
        extra_info: if version.tells_schematic() { canonical.to_owned() } else { String::new() },
    };
    Ok(VirtualExtension { metadata, rootfs })
}

/// The `embedded-config` extension: a machine configuration inside the image.
///
/// # Errors
/// [`TreeError`], which the fixed paths rule out.
pub fn embedded_config(config: &str) -> Result<VirtualExtension, TreeError> {
    let mut rootfs = FileTree::new();
    let file = Node::file(0o400, VirtualFile::inline(config.to_owned()))
        .with_selinux(&b"system_u:object_r:system_state_t:s0"[..]);
    rootfs.insert("usr/local/etc/talos/config.yaml", file)?;
    let metadata = Metadata {
        name: "embedded-config".to_owned(),
        version: Digest::of(config.as_bytes()).hex(),
        author: "Imager".to_owned(),
        description: "Virtual extension which embeds the machine configuration.".to_owned(),
        compatibility: any_version(),
        extra_info: String::new(),
    };
    Ok(VirtualExtension { metadata, rootfs })
}

/// What the index of all kernel modules says of itself; `kernel` is the kernel's release.
pub fn modules_dep(kernel: &str) -> Metadata {
    Metadata {
        name: "modules.dep".to_owned(),
        version: kernel.to_owned(),
        author: "Talos Machinery".to_owned(),
        description: "Combined modules.dep for all extensions".to_owned(),
        ..Metadata::default()
    }
}
