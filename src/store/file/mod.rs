//! The embedded store: a folder.
//!
//! ```text
//! oci-layout, index.json            the folder is an OCI image layout: other tools read the source images in it
//! index.lock                        held by who changes index.json
//! blobs/sha256/<hex>                real blobs
//! checks/<hh>/<hex>                 CRC-32C of each 256 KiB of a real blob, u32 little-endian
//! virtual/<hh>/<hex>                extent lists of virtual blobs
//! records/<kind>/<hh>/<hex>         records; <hex> is the SHA-256 of the key, which stands in the file
//! tmp/<random>/                     what is being written, a folder a process; `lock` in it is held by the living
//! ```
//! `<hh>` are the first two digits of `<hex>`. Everything is written to `tmp`, flushed to the disk, and renamed into its
//! place; then the folder is flushed. So what has its name is whole, after a crash too. Several processes may share a
//! folder.

mod durable;
mod fsck;
mod layout;
mod maps;
mod recency;
mod writer;

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{BufMut, Bytes};

use super::{BlobStore, BlobWrite, RecordKind, StoreError, check_key};
use crate::types::Digest;
use crate::virtual_file::{ReadBlob, ReadError, VirtualFile};

pub use fsck::FsckReport;

use durable::Scratch;
use maps::Maps;
use recency::Recency;

/// What the embedded store needs to know.
#[derive(Clone, Debug)]
pub struct FileStoreConfig {
    /// The folder; made if it is not there.
    pub path: PathBuf,
    /// Bound on real blobs, in bytes.
    pub max_size: Option<u64>,
}

/// The embedded store.
pub struct FileStore {
    shared: Arc<Shared>,
}

/// What the store and its writers share.
struct Shared {
    root: PathBuf,
    scratch: Scratch,
    maps: Maps,
    recency: Recency,
}

/// An error of the operating system with what was tried.
fn failed(doing: impl Into<String>) -> impl FnOnce(io::Error) -> StoreError {
    let doing = doing.into();
    move |source| StoreError::Io { doing, source }
}

/// Reads a whole file; `None` if there is none.
fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(format!("reading {}", path.display()))(error)),
    }
}

/// Removes a file that need not be there.
fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed(format!("removing {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}

impl Shared {
    fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    fn below(&self, folder: &str, hex: &str) -> PathBuf {
        self.root.join(folder).join(&hex[..2]).join(hex)
    }

    fn checks(&self, digest: &Digest) -> PathBuf {
        self.below("checks", &digest.hex())
    }

    fn virtual_blob(&self, digest: &Digest) -> PathBuf {
        self.below("virtual", &digest.hex())
    }

    fn record(&self, kind: RecordKind, key: &str) -> PathBuf {
        self.below(&format!("records/{}", kind.as_str()), &Digest::of(key.as_bytes()).hex())
    }

    /// Forgets a real blob and removes its files. Who has it mapped can go on reading.
    fn drop_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        self.recency.forget(digest);
        self.maps.forget(digest);
        remove_if_there(&self.blob(digest))?;
        remove_if_there(&self.checks(digest))
    }
}

impl FileStore {
    /// Opens the store, makes its folder if needed, and removes what dead processes left behind.
    ///
    /// # Errors
    /// [`StoreError::Io`] naming the path.
    pub fn open(config: FileStoreConfig) -> Result<Self, StoreError> {
        let root = config.path;
        for folder in ["blobs/sha256", "checks", "virtual", "records", "tmp"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(failed(format!("making {}", path.display())))?;
        }
        let scratch = Scratch::open(&root.join("tmp"))?;
        layout::prepare(&root, &scratch)?;
        let recency = Recency::read(&root.join("blobs/sha256"), config.max_size)?;
        Ok(Self { shared: Arc::new(Shared { root, scratch, maps: Maps::default(), recency }) })
    }

    /// Hashes everything again. What is bad is dropped if `repair`; it is fetched or prepared again on demand.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn fsck(&self, repair: bool) -> Result<FsckReport, StoreError> {
        fsck::run(&self.shared, repair)
    }
}

impl ReadBlob for FileStore {
    fn read(&self, digest: &Digest, range: Range<u64>) -> Result<Bytes, ReadError> {
        let read = self.shared.maps.read(&self.shared, digest, range);
        match &read {
            Err(ReadError::Damaged(_)) => {
                tracing::error!(%digest, "a stored blob is damaged; it is dropped");
                if let Err(error) = self.shared.drop_blob(digest) {
                    tracing::error!(%digest, %error, "a damaged blob could not be dropped");
                }
            }
            Err(ReadError::Missing(_)) => self.shared.recency.forget(digest),
            _ => {}
        }
        read
    }

    fn read_ready(&self, digest: &Digest, range: Range<u64>) -> Option<Bytes> {
        self.shared.maps.read_ready(digest, range)
    }
}

impl BlobStore for FileStore {
    fn writer(&self) -> Result<Box<dyn BlobWrite>, StoreError> {
        Ok(Box::new(writer::Writer::new(self.shared.clone())?))
    }

    fn open(&self, digest: &Digest) -> Result<Option<VirtualFile>, StoreError> {
        if let Some(len) = self.shared.recency.touch(digest, || self.shared.blob(digest)) {
            return Ok(Some(VirtualFile::blob(*digest, len)));
        }
        let stored = read_if_there(&self.shared.virtual_blob(digest))?;
        let decode = |bytes: Vec<u8>| {
            VirtualFile::decode(bytes).map_err(|source| StoreError::ExtentList { digest: *digest, source })
        };
        stored.map(decode).transpose()
    }

    fn announce(&self, digest: &Digest, file: &VirtualFile) -> Result<(), StoreError> {
        let path = self.shared.virtual_blob(digest);
        self.shared.scratch.write(&path, &file.encode(), 0o644)
    }

    fn record(&self, kind: RecordKind, key: &str) -> Result<Option<Bytes>, StoreError> {
        let stored = read_if_there(&self.shared.record(kind, key))?;
        Ok(stored
            .and_then(|bytes| split_record(bytes.into()))
            .filter(|(found, _)| found == key)
            .map(|(_, value)| value))
    }

    fn put_record(&self, kind: RecordKind, key: &str, value: &[u8]) -> Result<(), StoreError> {
        check_key(key)?;
        let mut bytes = Vec::with_capacity(key.len() + value.len() + 4);
        bytes.put_u32_le(key.len() as u32);
        bytes.extend_from_slice(key.as_bytes());
        bytes.extend_from_slice(value);
        let mode = if kind == RecordKind::Key { 0o600 } else { 0o644 };
        self.shared.scratch.write(&self.shared.record(kind, key), &bytes, mode)
    }

    fn remove_record(&self, kind: RecordKind, key: &str) -> Result<(), StoreError> {
        remove_if_there(&self.shared.record(kind, key))
    }

    fn record_keys(&self, kind: RecordKind) -> Result<Vec<String>, StoreError> {
        let mut keys = Vec::new();
        for path in files_below(&self.shared.root.join("records").join(kind.as_str()))? {
            let stored = read_if_there(&path)?;
            keys.extend(stored.and_then(|bytes| split_record(bytes.into())).map(|(key, _)| key));
        }
        keys.sort_unstable();
        Ok(keys)
    }

    fn index_image(&self, name: &str, media_type: &str, digest: &Digest, size: u64) -> Result<(), StoreError> {
        layout::index(&self.shared.root, &self.shared.scratch, name, media_type, digest, size)
    }
}

/// Key and value of a record as it is stored.
fn split_record(stored: Bytes) -> Option<(String, Bytes)> {
    let len = u32::from_le_bytes(stored.get(..4)?.try_into().ok()?) as usize;
    let key = std::str::from_utf8(stored.get(4..4usize.checked_add(len)?)?).ok()?.to_owned();
    Some((key, stored.slice(4 + len..)))
}

/// All files two folders down; none where the folder is not there.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut files = Vec::new();
    for inner in entries(folder)? {
        if inner.is_dir() {
            files.extend(entries(&inner)?);
        }
    }
    Ok(files)
}

/// The paths in a folder; none where it is not there.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let reading = || failed(format!("reading {}", folder.display()));
    match fs::read_dir(folder) {
        Ok(found) => {
            found.map(|entry| entry.map(|entry| entry.path()).map_err(reading())).collect::<Result<Vec<_>, _>>()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(reading()(error)),
    }
}

/// Flushes a folder, so that the names in it survive a crash.
fn flush_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(failed(format!("flushing {}", folder.display())))
}

#[cfg(test)]
mod tests;
