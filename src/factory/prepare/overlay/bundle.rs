//! The files of an overlay image: artifacts and installers, as the store holds them.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
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

/// Artifacts and installers of an overlay image.
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
    /// First byte and length of the contents; `None` for a folder.
    file: Option<(u64, u64)>,
}

impl Prepared for Bundle {
    fn blobs(&self) -> Vec<StoredFile> {
        vec![self.contents]
    }
}

impl Bundle {
    /// The program of a board.
    pub fn program(&self, name: &str) -> Option<VirtualFile> {
        let path = format!("installers/{name}");
        self.entries.iter().find(|entry| entry.path == path)?.file.map(|range| self.part(range))
    }

    /// What is in `artifacts`.
    pub fn artifacts(&self) -> Result<FileTree, FactoryError> {
        let mut tree = FileTree::new();
        for entry in &self.entries {
            let Some(path) = entry.path.strip_prefix("artifacts/") else { continue };
            let node = match entry.file {
                Some(range) => Node::file(entry.mode, self.part(range)),
                None => Node::directory(entry.mode),
            };
            tree.insert(path, node).map_err(crate::factory::prepare::model::internal)?;
        }
        Ok(tree)
    }

    fn part(&self, (start, len): (u64, u64)) -> VirtualFile {
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
    let wanted = |path: &[u8]| path.starts_with(b"artifacts") || path.starts_with(b"installers");
    let (tree, spool) = unpack::tree(store, image, wanted)?;
    let (mut entries, mut end) = (Vec::new(), 0);
    let mut files = Vec::new();
    for (path, node) in tree.iter() {
        let path = std::str::from_utf8(path).map_err(|_| image.bad("a name in it is no text"))?;
        let file = match &node.kind {
            Kind::Directory => None,
            Kind::File(contents) => {
                let start = end;
                end += contents.len();
                files.push(contents.clone());
                Some((start, contents.len()))
            }
            _ => return Err(image.bad(format!("its {path} is neither file nor folder"))),
        };
        entries.push(Entry { path: path.to_owned(), mode: node.mode, file });
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
    copy(file, &unpack::Readable(store), &mut out).map_err(failed)?;
    Ok(())
}

/// Writes a tree into a folder that is there.
pub fn write_tree(store: &dyn BlobStore, tree: &FileTree, to: &Path) -> Result<(), FactoryError> {
    for (path, node) in tree.iter() {
        let to = to.join(std::str::from_utf8(path).map_err(crate::factory::prepare::model::internal)?);
        match &node.kind {
            Kind::File(contents) => write_out(store, contents, &to, u32::from(node.mode) | 0o400)?,
            _ => fs::create_dir(&to)
                .map_err(|source| StoreError::Io { doing: format!("making {}", to.display()), source })?,
        }
    }
    Ok(())
}
