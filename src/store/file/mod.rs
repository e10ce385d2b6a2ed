//! The embedded store: a folder.
//!
//! ```text
//! oci-layout, index.json            the folder is an OCI image layout: other tools read the source images in it
//! index.lock                        held by who changes index.json
//! blobs/sha256/<hex>                real blobs
//! checks/<hh>/<hex>                 CRC-32C of each 256 KiB of a real blob, u32 little-endian
//! virtual/<hh>/<hex>                extent lists of virtual blobs, with a checksum
//! records/<kind>/<hh>/<hex>         records, with a checksum; <hex> is the SHA-256 of the key, which stands in the file
//! tmp/<random>/                     what is being written, a folder a process; `lock` in it is held by the living
//! tmp/<random>/journal-<n>          schematics that the process has written and that may not have reached `records` yet
//! ```
//! `<hh>` are the first two digits of `<hex>`. Most is written to `tmp`, flushed to the disk, and renamed into its place;
//! then the folder is flushed. So what has its name is whole, after a crash too. There are two exceptions. A schematic is
//! flushed to the journal and renamed into its place without another flush: one that a crash of the machine damages or
//! loses is put back from the journal by the next start. What was prepared, blobs and records, has its place before it is
//! flushed, and can be made again ([`later`]). Several processes may share a folder.

mod durable;
mod fsck;
mod journal;
mod later;
mod layout;
mod maps;
mod recency;
mod scrub;
mod sealed;
mod writer;

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::sums::Sums;
use super::{BlobStore, BlobWrite, RecordKind, StoreError, check_key};
use crate::types::Digest;
use crate::virtual_file::{DecodeError, ReadBlob, ReadError, VirtualFile};

pub use fsck::FsckReport;
pub use scrub::Keeper;

use durable::{Dead, Scratch};
use journal::Journal;
use later::Later;
use maps::{Identity, Maps};
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
    scratch: Arc<Scratch>,
    later: Arc<Later>,
    journal: Journal,
    maps: Maps,
    recency: Recency,
    sums: Sums,
}

/// Where real blobs are.
const BLOBS: &str = "blobs/sha256";

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
        self.root.join(BLOBS).join(digest.hex())
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

    /// Writes a small file that can be made again; it is durable a moment later.
    fn place(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), StoreError> {
        let file = self.scratch.place(path, bytes, mode)?;
        self.later.flush(file, path.parent().unwrap_or(path).to_owned());
        Ok(())
    }

    /// Forgets a real blob and removes its files. Who has it mapped can go on reading.
    fn drop_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        self.recency.forget(digest);
        self.maps.forget(digest);
        remove_if_there(&self.blob(digest))?;
        remove_if_there(&self.checks(digest))
    }

    /// Looks closely at a blob that has no checks or does not agree with them. One whose bytes are those of its digest gets
    /// its checks again; another is dropped, if its name still stands for the file in question. Says whether it is good.
    fn judge(&self, digest: &Digest, file: Identity) -> Result<bool, StoreError> {
        let path = self.blob(digest);
        let (found, checks, _) = fsck::hash(&path)?;
        self.maps.forget(digest);
        if found == *digest {
            tracing::warn!(%digest, "the checks of a stored blob were missing or damaged; they are made again");
            self.scratch.write(&self.checks(digest), &maps::encode_checks(&checks), 0o644)?;
            return Ok(true);
        }
        if fs::metadata(&path).is_ok_and(|metadata| Identity::of(&metadata) == file) {
            tracing::error!(%digest, "a stored blob is damaged; it is dropped");
            self.drop_blob(digest)?;
        }
        Ok(false)
    }

    /// Puts back what a dead process has acknowledged and a crash has kept from its place, and removes what it left behind.
    fn bury(&self, dead: Dead) -> Result<(), StoreError> {
        let records = journal::read(&dead.folder)?;
        if records.is_empty() {
            dead.remove();
            return Ok(());
        }
        for stored in records {
            let Some((key, _)) = sealed::unseal_record(stored.clone()) else { continue };
            let path = self.record(RecordKind::Schematic, &key);
            let there = read_if_there(&path)?.and_then(sealed::unseal_record);
            if there.is_none_or(|(found, _)| found != key) {
                tracing::warn!(schematic = %key, "a schematic is put back from a journal");
                self.scratch.place(&path, &stored, 0o644)?;
            }
        }
        let folder = File::open(&dead.folder).map_err(failed(format!("opening {}", dead.folder.display())))?;
        // What is in its place may still be on its way to the disk. The start does not wait for that.
        let retire = move || match journal::flush_all(&folder) {
            Ok(()) => dead.remove(),
            Err(error) => tracing::error!(%error, "flushing; a journal is kept for the next start"),
        };
        let started = std::thread::Builder::new().name("journal".to_owned()).spawn(retire);
        started.map(drop).map_err(failed("starting a thread"))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.later.wait();
        self.recency.write_down(|digest| self.blob(digest));
        if self.journal.is_used() {
            let flushed = File::open(self.scratch.folder()).and_then(|folder| journal::flush_all(&folder));
            if let Err(error) = flushed {
                tracing::error!(%error, "flushing; the journal is kept for the next start");
                return;
            }
        }
        self.scratch.remove();
    }
}

impl FileStore {
    /// Opens the store, makes its folder if needed, puts back from journals what a crash has lost, and removes what dead
    /// processes left behind.
    ///
    /// # Errors
    /// [`StoreError::Io`] naming the path.
    pub fn open(config: FileStoreConfig) -> Result<Self, StoreError> {
        let root = config.path;
        let making = |path: &Path| failed(format!("making {}", path.display()));
        let above = root.ancestors().skip(1).find(|path| path.is_dir()).unwrap_or(Path::new("."));
        for folder in [BLOBS, "checks", "virtual", "records", "tmp"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(making(&path))?;
        }
        // The names of the store's folders, up to the first that was there before.
        flush_folder(&root.join("blobs"))?;
        for folder in root.ancestors() {
            flush_folder(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })?;
            if folder == above {
                break;
            }
        }
        let scratch = Arc::new(Scratch::open(&root)?);
        let later = Later::new(scratch.clone());
        let journal = Journal::new(scratch.folder());
        layout::prepare(&root, &scratch)?;
        let recency = Recency::read(&root.join(BLOBS), config.max_size)?;
        let shared =
            Arc::new(Shared { root, scratch, later, journal, maps: Maps::default(), recency, sums: Sums::default() });
        for dead in shared.scratch.dead()? {
            shared.bury(dead)?;
        }
        Ok(Self { shared })
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
        if let Err(ReadError::Missing(_)) = &read {
            self.shared.recency.forget(digest);
        }
        read
    }

    fn read_ready(&self, digest: &Digest, range: Range<u64>) -> Option<Bytes> {
        self.shared.maps.read_ready(digest, range)
    }

    fn remembered(&self, key: &Digest, make: &mut dyn FnMut() -> Result<Bytes, ReadError>) -> Result<Bytes, ReadError> {
        self.shared.sums.get(key, make)
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
        let Some(stored) = read_if_there(&self.shared.virtual_blob(digest))? else { return Ok(None) };
        let decoded = sealed::unseal(stored).ok_or(DecodeError::Damaged).and_then(VirtualFile::decode);
        if let Err(error) = &decoded {
            tracing::error!(%digest, %error, "a stored extent list is damaged; it is made again when it is asked for");
        }
        Ok(decoded.ok())
    }

    fn announce(&self, digest: &Digest, file: &VirtualFile) -> Result<(), StoreError> {
        let path = self.shared.virtual_blob(digest);
        self.shared.later.wait();
        self.shared.scratch.write(&path, &sealed::seal(&file.encode()), 0o644)
    }

    fn record(&self, kind: RecordKind, key: &str) -> Result<Option<Bytes>, StoreError> {
        let Some(stored) = read_if_there(&self.shared.record(kind, key))? else { return Ok(None) };
        match sealed::unseal_record(stored) {
            Some((found, value)) if found == key => Ok(Some(value)),
            _ if kind.is_original() => Err(StoreError::Record { kind: kind.as_str(), key: key.to_owned() }),
            _ => {
                tracing::error!(kind = kind.as_str(), key, "a stored record is damaged; it is made again");
                Ok(None)
            }
        }
    }

    fn put_record(&self, kind: RecordKind, key: &str, value: &[u8]) -> Result<(), StoreError> {
        check_key(key)?;
        let (path, stored) = (self.shared.record(kind, key), sealed::seal_record(key, value));
        if kind == RecordKind::Schematic {
            // Held until the record is in its place.
            let _segment = self.shared.journal.append(&stored)?;
            return self.shared.scratch.place(&path, &stored, 0o644).map(drop);
        }
        if kind == RecordKind::Prepared {
            return self.shared.place(&path, &stored, 0o644);
        }
        let mode = if kind == RecordKind::Key { 0o600 } else { 0o644 };
        self.shared.scratch.write(&path, &stored, mode)
    }

    fn remove_record(&self, kind: RecordKind, key: &str) -> Result<(), StoreError> {
        if kind == RecordKind::Schematic {
            return Err(StoreError::Kept(kind.as_str()));
        }
        let path = self.shared.record(kind, key);
        remove_if_there(&path)?;
        // Without this a crash could bring it back.
        match path.parent() {
            Some(folder) if folder.is_dir() => flush_folder(folder),
            _ => Ok(()),
        }
    }

    fn record_keys(&self, kind: RecordKind) -> Result<Vec<String>, StoreError> {
        let mut keys = Vec::new();
        for path in files_below(&self.shared.root.join("records").join(kind.as_str()))? {
            let Some(stored) = read_if_there(&path)? else { continue };
            match sealed::unseal_record(stored) {
                Some((key, _)) => keys.push(key),
                None => tracing::error!(path = %path.display(), "a stored record is damaged"),
            }
        }
        keys.sort_unstable();
        Ok(keys)
    }

    fn index_image(&self, name: &str, media_type: &str, digest: &Digest, size: u64) -> Result<(), StoreError> {
        layout::index(&self.shared.root, &self.shared.scratch, name, media_type, digest, size)
    }
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
    #[cfg(test)]
    tests::FLUSHED.with_borrow_mut(|flushed| flushed.push(folder.to_owned()));
    File::open(folder).and_then(|file| file.sync_all()).map_err(failed(format!("flushing {}", folder.display())))
}

#[cfg(test)]
mod tests;
