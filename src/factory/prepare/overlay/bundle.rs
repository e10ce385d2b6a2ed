//! The files of an overlay image: artifacts, installers and profiles, as the store holds them.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{REVISION, ResolvedOverlay};
use crate::factory::FactoryError;
use crate::factory::prepare::{Prepared, Preparer, StoredFile, blobs, unpack};
use crate::factory::sources::PlatformImage;
use crate::format::tree::{FileTree, Kind, Node};
use crate::store::{BlobStore, StoreError};
use crate::types::Arch;
use crate::virtual_file::{ReadBlob, VirtualFile};

/// Artifacts, installers and profiles of an overlay image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bundle {
    /// Contents of all files, one behind the other.
    contents: StoredFile,
    /// In the order of a tree.
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    path: String,
    mode: u16,
    kind: EntryKind,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum EntryKind {
    Folder,
    /// First byte and length of the contents.
    File(u64, u64),
    /// Its target.
    Symlink(String),
}

impl Prepared for Bundle {
    fn blobs(&self) -> Vec<StoredFile> {
        vec![self.contents]
    }
}

impl Bundle {
    /// The program of a board.
    pub fn program(&self, name: &str) -> Option<VirtualFile> {
        self.file(&format!("installers/{name}"))
    }

    /// What a board's images are like where a schematic does not say.
    pub fn profile(&self, name: &str) -> Option<VirtualFile> {
        self.file(&format!("profiles/{name}.yaml"))
    }

    fn file(&self, path: &str) -> Option<VirtualFile> {
        match self.entries.iter().find(|entry| entry.path == path)?.kind {
            EntryKind::File(start, len) => Some(self.part(start, len)),
            EntryKind::Folder | EntryKind::Symlink(_) => None,
        }
    }

    /// What is in `artifacts`.
    pub fn artifacts(&self) -> Result<FileTree, FactoryError> {
        let mut tree = FileTree::new();
        for entry in &self.entries {
            let Some(path) = entry.path.strip_prefix("artifacts/") else { continue };
            let node = match &entry.kind {
                EntryKind::File(start, len) => Node::file(entry.mode, self.part(*start, *len)),
                EntryKind::Folder => Node::directory(entry.mode),
                EntryKind::Symlink(target) => Node::symlink(target.clone()),
            };
            tree.insert(path, node).map_err(crate::factory::prepare::model::internal)?;
        }
        Ok(tree)
    }

    fn part(&self, start: u64, len: u64) -> VirtualFile {
        self.contents.file().slice(start..start + len)
    }
}

impl Preparer {
    /// The files of an overlay image for `arch`, prepared.
    pub(super) async fn overlay_bundle(
        self: &Arc<Self>,
        overlay: &ResolvedOverlay,
        arch: Arch,
    ) -> Result<Arc<Bundle>, FactoryError> {
        let image = self.sources.platform(&overlay.repository, &overlay.digest, arch).await?;
        let key = format!("overlay/{REVISION}/{}", image.digest.hex());
        let preparer = self.clone();
        self.overlay_bundles
            .run(key.clone(), move || async move {
                if let Some(found) = preparer.recall::<Bundle>(&key).await? {
                    return Ok(Arc::new(found));
                }
                Ok(Arc::new(preparer.prepare_image(&key, "overlay", &image, gather).await?))
            })
            .await
    }
}

fn gather(store: &dyn BlobStore, image: &PlatformImage) -> Result<Bundle, FactoryError> {
    let wanted =
        |path: &[u8]| [&b"artifacts"[..], b"installers", b"profiles"].iter().any(|folder| path.starts_with(folder));
    let (tree, spool) = unpack::tree(store, image, wanted)?;
    let (mut entries, mut end) = (Vec::new(), 0);
    let mut files = Vec::new();
    for (path, node) in tree.iter() {
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| image.bad("a name in it is no text"));
        let path = text(path)?;
        let kind = match &node.kind {
            Kind::Directory => EntryKind::Folder,
            Kind::File(contents) => {
                let start = end;
                end += contents.len();
                files.push(contents.clone());
                EntryKind::File(start, contents.len())
            }
            Kind::Symlink(target) => EntryKind::Symlink(text(target)?.to_owned()),
            _ => return Err(image.bad(format!("its {path} is a device or pipe"))),
        };
        entries.push(Entry { path: path.to_owned(), mode: node.mode, kind });
    }
    let all = VirtualFile::concat(files);
    let contents = blobs::write(store, |out| copy(&all, &spool, out))?;
    Ok(Bundle { contents, entries })
}

fn copy(file: &VirtualFile, from: &dyn ReadBlob, out: &mut dyn Write) -> io::Result<()> {
    for piece in file.pieces(0..file.len(), from, 1 << 20) {
        out.write_all(&piece?)?;
    }
    Ok(())
}

/// Writes a file of the store into a folder.
pub fn write_out(store: &dyn BlobStore, file: &VirtualFile, to: &Path, mode: u32) -> Result<(), FactoryError> {
    let failed = |source| StoreError::Io { doing: format!("writing {}", to.display()), source };
    let mut out = OpenOptions::new().write(true).create_new(true).mode(mode).open(to).map_err(failed)?;
    for piece in file.pieces(0..file.len(), unpack::Readable(store), 1 << 20) {
        out.write_all(&piece?).map_err(failed)?;
    }
    Ok(())
}

/// Writes a tree into a folder that is there. What its symlinks lead to is nothing to a confined program outside of it.
pub fn write_tree(store: &dyn BlobStore, tree: &FileTree, to: &Path) -> Result<(), FactoryError> {
    for (path, node) in tree.iter() {
        let to = to.join(std::str::from_utf8(path).map_err(crate::factory::prepare::model::internal)?);
        let made = match &node.kind {
            Kind::File(contents) => {
                write_out(store, contents, &to, u32::from(node.mode) | 0o400)?;
                Ok(())
            }
            Kind::Symlink(target) => symlink(OsStr::from_bytes(target), &to),
            _ => fs::create_dir(&to),
        };
        made.map_err(|source| StoreError::Io { doing: format!("making {}", to.display()), source })?;
    }
    Ok(())
}
