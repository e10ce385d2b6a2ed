//! The files of an image out of its layers.

use std::io;

use super::spool::Spool;
use super::{Files, StoredFile};
use crate::factory::FactoryError;
use crate::factory::sources::PlatformImage;
use crate::format::layers::{LayerError, Layers, Limits};
use crate::format::tree::FileTree;
use crate::store::{BlobStore, StoreError};
use crate::virtual_file::{Extent, VirtualFile};

/// The regular files of an image whose path `wanted` likes, each stored as a blob.
pub fn files(store: &dyn BlobStore, image: &PlatformImage, wanted: fn(&str) -> bool) -> Result<Files, FactoryError> {
    let likes = |path: &[u8]| std::str::from_utf8(path).is_ok_and(wanted);
    let tree = apply(store, image, &likes, &mut |_, _, contents| {
        let mut writer = store.writer()?;
        io::copy(contents, &mut writer)?;
        let (digest, size) = writer.commit(None)?;
        Ok(VirtualFile::blob(digest, size))
    })?;
    let stored = tree.iter().filter_map(|(path, node)| {
        let path = std::str::from_utf8(path).ok().filter(|path| wanted(path))?;
        match node.contents()?.extents() {
            [Extent::Blob { digest, len, .. }] => Some((path.to_owned(), StoredFile { digest: *digest, size: *len })),
            _ => None,
        }
    });
    Ok(stored.collect())
}

/// The tree of an image with the files that `wanted` likes, whose contents are in the spool.
pub fn tree(
    store: &dyn BlobStore,
    image: &PlatformImage,
    wanted: impl Fn(&[u8]) -> bool,
) -> Result<(FileTree, Spool), FactoryError> {
    let failed = |source| StoreError::Io { doing: "spooling files of a layer".to_owned(), source };
    let mut spool = Spool::new().map_err(failed)?;
    let tree = apply(store, image, &wanted, &mut |_, _, contents| Ok(spool.add(contents)?))?;
    Ok((tree, spool.finish().map_err(failed)?))
}

fn apply(
    store: &dyn BlobStore,
    image: &PlatformImage,
    wanted: &dyn Fn(&[u8]) -> bool,
    keep: &mut crate::format::layers::Store<'_>,
) -> Result<FileTree, FactoryError> {
    let mut layers = Layers::new(Limits::default(), wanted);
    for layer in &image.manifest.layers {
        let file = store.open(&layer.digest)?;
        let file = file.ok_or_else(|| FactoryError::Unavailable(format!("layer {} was dropped", layer.digest)))?;
        let reader = io::BufReader::with_capacity(256 << 10, file.reader(Readable(store)));
        let applied = layers.apply(reader, keep);
        if applied.is_err() && store.open(&layer.digest)?.is_none() {
            return Err(FactoryError::Unavailable(format!("layer {} was damaged in the store", layer.digest)));
        }
        applied.map_err(|error| match error {
            LayerError::Store { source, .. } => match source.downcast::<StoreError>() {
                Ok(error) => (*error).into(),
                Err(error) => image.bad(error.to_string()),
            },
            other => image.bad(other.to_string()),
        })?;
    }
    Ok(layers.into_tree())
}

/// The reading half of a store.
pub struct Readable<'a>(pub &'a dyn BlobStore);

impl crate::virtual_file::ReadBlob for Readable<'_> {
    fn read(
        &self,
        digest: &crate::types::Digest,
        range: std::ops::Range<u64>,
    ) -> Result<bytes::Bytes, crate::virtual_file::ReadError> {
        self.0.read(digest, range)
    }
}
