//! What encoders need to know of the contents of blobs: checksums, and what is worth compressing, compressed.
//!
//! Both are found out once for each range of a blob that stands in images, and shared by all of them.

use std::collections::HashMap;
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::sync::Arc;

use super::unpack::Readable;
use super::{Prepared, Preparer, StoredFile, blobs};
use crate::encode::{self, Codec, Known, shrinks};
use crate::factory::{FactoryError, blocking};
use crate::store::BlobStore;
use crate::types::Digest;
use crate::virtual_file::{Extent, VirtualFile};

/// Bytes read at a time.
const PIECE: u64 = 1 << 20;
/// Shorter ranges stay as they are, in bytes: what they would save is less than what it takes to remember them.
const LEAST: u64 = 64 << 10;

/// A range of a blob.
pub type Part = (Digest, Range<u64>);

/// Its bytes.
fn file((digest, range): &Part) -> VirtualFile {
    VirtualFile::from_extents([Extent::Blob { digest: *digest, offset: range.start, len: range.end - range.start }])
}

/// What [`encode::pack`] made of a range of a blob; nothing where that is better stored.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Packed(Option<StoredFile>);

impl Prepared for Packed {
    fn blobs(&self) -> Vec<StoredFile> {
        self.0.into_iter().collect()
    }
}

/// What is known of the blobs under one file, for one codec.
#[derive(Debug, Default)]
pub struct Contents {
    sums: HashMap<Part, u32>,
    packed: HashMap<Part, VirtualFile>,
}

impl Known for Contents {
    fn crc32(&self, digest: &Digest, range: Range<u64>) -> Option<u32> {
        self.sums.get(&(*digest, range)).copied()
    }

    fn packed(&self, _: Codec, digest: &Digest, range: Range<u64>) -> Option<VirtualFile> {
        self.packed.get(&(*digest, range)).cloned()
    }
}

impl Preparer {
    /// Finds out what `codec` needs to know of the blobs under a file.
    ///
    /// # Errors
    /// When a blob cannot be read, or what was made of it cannot be stored.
    pub async fn contents(self: &Arc<Self>, codec: Codec, file: &VirtualFile) -> Result<Contents, FactoryError> {
        let mut parts: Vec<Part> = file
            .extents()
            .iter()
            .filter_map(|extent| match extent {
                Extent::Blob { digest, offset, len } => Some((*digest, *offset..offset + len)),
                _ => None,
            })
            .collect();
        parts.sort_by_key(|(digest, range)| (*digest, range.start, range.end));
        parts.dedup();
        let mut contents = Contents::default();
        let long = parts.iter().filter(|(_, range)| range.end - range.start >= LEAST);
        for (part, packed) in futures::future::try_join_all(long.map(|part| self.packed(codec, part.clone()))).await? {
            if let Some(packed) = packed.0 {
                contents.packed.insert(part, packed.file());
            }
        }
        if codec != Codec::Zst {
            contents.sums = self.sums(parts).await?;
        }
        Ok(contents)
    }

    /// What a codec makes of a part, made once.
    async fn packed(self: &Arc<Self>, codec: Codec, part: Part) -> Result<(Part, Packed), FactoryError> {
        let (digest, range) = &part;
        let key = format!("packed/{}/{}/{}-{}", codec.name(), digest.hex(), range.start, range.end);
        let (preparer, wanted) = (self.clone(), part.clone());
        let packed = self.packs.run(key.clone(), move || async move {
            if let Some(found) = preparer.packed.get(&key) {
                return Ok(found);
            }
            let packed = match preparer.recall::<Packed>(&key).await? {
                Some(found) => found,
                None => preparer.pack(&key, codec, &wanted).await?,
            };
            preparer.packed.insert(key, packed.clone());
            Ok(packed)
        });
        Ok((part, packed.await?))
    }

    async fn pack(&self, key: &str, codec: Codec, part: &Part) -> Result<Packed, FactoryError> {
        let (store, part) = (self.store.clone(), file(part));
        let source = part.clone();
        if !blocking(move || may_shrink(store.as_ref(), &source)).await? {
            // That is found out again soon enough: it is not written down.
            return Ok(Packed(None));
        }
        self.prepare(key, "packed", move |store| {
            let mut source = BufReader::with_capacity(PIECE as usize, part.reader(Readable(store)));
            let packed = blobs::write(store, |out| encode::pack(codec, &mut source, part.len(), out))?;
            Ok(Packed(shrinks(part.len(), packed.size).then_some(packed)))
        })
        .await
    }

    /// The CRC-32 of each part.
    async fn sums(&self, parts: Vec<Part>) -> Result<HashMap<Part, u32>, FactoryError> {
        let (store, known) = (self.store.clone(), self.sums.clone());
        blocking(move || {
            let mut sums = HashMap::with_capacity(parts.len());
            for part in parts {
                let sum = match known.get(&part) {
                    Some(sum) => sum,
                    None => crc32(store.as_ref(), &part)?,
                };
                known.insert(part.clone(), sum);
                sums.insert(part, sum);
            }
            Ok::<_, FactoryError>(sums)
        })
        .await
    }
}

/// Whether a quick try lets it seem worth while to compress something.
fn may_shrink(store: &dyn BlobStore, part: &VirtualFile) -> Result<bool, FactoryError> {
    let mut source = BufReader::with_capacity(PIECE as usize, part.reader(Readable(store)));
    let tried = encode::estimate(&mut source as &mut dyn Read);
    let failed = |source: io::Error| FactoryError::Unavailable(format!("a blob under a disk image: {source}"));
    Ok(shrinks(part.len(), tried.map_err(failed)?))
}

fn crc32(store: &dyn BlobStore, part: &Part) -> Result<u32, FactoryError> {
    let mut sum = crc32fast::Hasher::new();
    let part = file(part);
    for piece in part.pieces(0..part.len(), Readable(store), PIECE) {
        sum.update(&piece?);
    }
    Ok(sum.finalize())
}
