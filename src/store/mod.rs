//! The blob store: what was fetched, prepared and announced, by digest; and small durable records.
//!
//! Three things live here. *Real blobs* hold bytes that came from the upstream or were prepared once; they can be had
//! again and may be dropped under `store.maxSize`. *Virtual blobs* are extent lists under the digest that was announced
//! for them; they are never dropped. *Records* are small named values (schematics, pins of tags, verdicts); they are
//! never dropped either. What is written is durable and visible whole when the call returns, or not there at all.

mod file;
mod memory;
mod single_flight;
mod sums;

use std::io;

use bytes::Bytes;

use crate::types::{Digest, DigestError};
use crate::virtual_file::{ReadBlob, ReadError, VirtualFile};

pub use file::{FileStore, FileStoreConfig, FsckReport, Keeper};
pub use memory::MemoryStore;
pub use single_flight::{BrokeOff, SingleFlight};

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused; `doing` says what was tried.
    #[error("store: {doing}: {source}")]
    Io {
        /// What was tried, with the path.
        doing: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The disk is full, or `store.maxSize` leaves no room even after dropping what can be dropped.
    #[error("store: no room for {0} more bytes")]
    Full(u64),
    /// What was written is not what the digest says.
    #[error("store: the bytes written have digest {found}, not {expected}")]
    Mismatch {
        /// The digest that was promised.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// A stored record is damaged that cannot be made again.
    #[error("store: the stored {kind} {key:?} is damaged")]
    Record {
        /// The kind of the record.
        kind: &'static str,
        /// Its key.
        key: String,
    },
    /// Records of this kind are kept for ever.
    #[error("store: a {0} is never removed")]
    Kept(&'static str),
    /// A name that cannot be stored.
    #[error("store: {0:?} cannot be the name of a record")]
    Name(String),
    /// A text that is no digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A blob could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl StoreError {
    /// Whether the cause is a lack of room, so that reads may go on and writes may work later.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Full(_) => true,
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }
}

/// The kinds of records; each is a name space of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordKind {
    /// Canonical YAML of schematics, by ID: a record that has one value for ever, and is never removed.
    Schematic,
    /// What a tag of a source repository was resolved to, by `<repository>:<tag>`.
    Tag,
    /// Verdicts on source images, by digest and policy.
    Verdict,
    /// What was prepared from an input, by kind and input digest.
    Prepared,
    /// What a manifest of a source repository names, by `<repository>@<hex>`.
    Origin,
    /// What was announced in generated repositories: tags, manifests, referrers.
    Announced,
    /// The last good answer of the upstream: version lists, catalogs.
    Catalog,
    /// Keys that were made at first start.
    Key,
}

/// A real blob being written. Dropped before [`BlobWrite::commit`], it leaves nothing behind.
pub trait BlobWrite: io::Write + Send {
    /// Gives the blob its name, durably: after this it is there whole. Returns digest and length in bytes.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] when `expected` is given and differs; the blob is not kept then.
    fn commit(self: Box<Self>, expected: Option<&Digest>) -> Result<(Digest, u64), StoreError>;
}

/// A blob store. All calls may block, but for [`ReadBlob::read_ready`].
pub trait BlobStore: ReadBlob {
    /// Starts writing a real blob.
    ///
    /// # Errors
    /// When no file can be made.
    fn writer(&self) -> Result<Box<dyn BlobWrite>, StoreError>;

    /// The file behind a digest: a real blob as one extent, a virtual one as its extent list; `None` if unknown.
    ///
    /// A real blob wins where both exist. That a virtual blob is known does not say that every real blob under it still is.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn open(&self, digest: &Digest) -> Result<Option<VirtualFile>, StoreError>;

    /// Remembers the extent list of a file whose digest was computed from its bytes.
    ///
    /// # Errors
    /// When it cannot be written.
    fn announce(&self, digest: &Digest, file: &VirtualFile) -> Result<(), StoreError>;

    /// Reads a record. A damaged one that can be made again is as good as none.
    ///
    /// # Errors
    /// [`StoreError::Record`] for a damaged schematic or key; otherwise when the store cannot be read.
    fn record(&self, kind: RecordKind, key: &str) -> Result<Option<Bytes>, StoreError>;

    /// Writes a record, replacing what stood under the key.
    ///
    /// # Errors
    /// [`StoreError::Name`] for a key that cannot be stored (empty, over 1,024 bytes, control characters).
    fn put_record(&self, kind: RecordKind, key: &str, value: &[u8]) -> Result<(), StoreError>;

    /// Removes a record, durably; it need not exist.
    ///
    /// # Errors
    /// [`StoreError::Kept`] for a schematic; otherwise when the store cannot be written.
    fn remove_record(&self, kind: RecordKind, key: &str) -> Result<(), StoreError>;

    /// Makes a source image findable by `name` for other tools that read the store's folder, where the store has one.
    ///
    /// # Errors
    /// When it cannot be written.
    fn index_image(&self, name: &str, media_type: &str, digest: &Digest, size: u64) -> Result<(), StoreError> {
        let _ = (name, media_type, digest, size);
        Ok(())
    }

    /// The keys of all records of a kind, sorted.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn record_keys(&self, kind: RecordKind) -> Result<Vec<String>, StoreError>;
}

impl RecordKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Schematic,
        Self::Tag,
        Self::Verdict,
        Self::Prepared,
        Self::Origin,
        Self::Announced,
        Self::Catalog,
        Self::Key,
    ];

    /// Whether what is in such a record cannot be had again, from the upstream or by preparing.
    pub const fn is_original(self) -> bool {
        matches!(self, Self::Schematic | Self::Key)
    }

    /// The kind's name in paths.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Schematic => "schematic",
            Self::Tag => "tag",
            Self::Verdict => "verdict",
            Self::Prepared => "prepared",
            Self::Origin => "origin",
            Self::Announced => "announced",
            Self::Catalog => "catalog",
            Self::Key => "key",
        }
    }
}

/// Refuses a key that cannot be stored.
///
/// # Errors
/// [`StoreError::Name`]
fn check_key(key: &str) -> Result<(), StoreError> {
    if key.is_empty() || key.len() > 1024 || key.chars().any(char::is_control) {
        return Err(StoreError::Name(key.chars().take(100).collect()));
    }
    Ok(())
}

impl dyn BlobStore + '_ {
    /// Writes bytes as a real blob.
    ///
    /// # Errors
    /// As [`BlobStore::writer`] and [`BlobWrite::commit`].
    pub fn put(&self, bytes: &[u8], expected: Option<&Digest>) -> Result<(Digest, u64), StoreError> {
        let mut writer = self.writer()?;
        writer.write_all(bytes).map_err(|source| StoreError::Io { doing: "writing a blob".to_owned(), source })?;
        writer.commit(expected)
    }
}

#[cfg(test)]
mod suite;
