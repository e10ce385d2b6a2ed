//! A store that keeps nothing: for tests, and for trying things out.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::sums::Sums;
use super::{BlobStore, BlobWrite, RecordKind, StoreError, check_key};
use crate::types::Digest;
use crate::virtual_file::{ReadBlob, ReadError, VirtualFile};

#[derive(Default)]
struct Contents {
    blobs: HashMap<Digest, Bytes>,
    announced: HashMap<Digest, VirtualFile>,
    records: BTreeMap<(RecordKind, String), Bytes>,
}

/// Everything in memory, gone with the process.
#[derive(Clone, Default)]
pub struct MemoryStore {
    contents: Arc<Mutex<Contents>>,
    sums: Sums,
}

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadBlob for MemoryStore {
    fn read(&self, digest: &Digest, range: Range<u64>) -> Result<Bytes, ReadError> {
        let blob = self.lock().blobs.get(digest).cloned().ok_or(ReadError::Missing(*digest))?;
        if range.start > range.end || range.end > blob.len() as u64 {
            return Err(ReadError::OutOfRange { digest: *digest, range });
        }
        Ok(blob.slice(range.start as usize..range.end as usize))
    }

    fn read_ready(&self, digest: &Digest, range: Range<u64>) -> Option<Bytes> {
        self.read(digest, range).ok()
    }

    fn remembered(&self, key: &Digest, make: &mut dyn FnMut() -> Result<Bytes, ReadError>) -> Result<Bytes, ReadError> {
        self.sums.get(key, make)
    }
}

struct Writer {
    store: MemoryStore,
    bytes: Vec<u8>,
}

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobWrite for Writer {
    fn commit(self: Box<Self>, expected: Option<&Digest>) -> Result<(Digest, u64), StoreError> {
        let found = Digest::of(&self.bytes);
        if let Some(expected) = expected.filter(|expected| **expected != found) {
            return Err(StoreError::Mismatch { expected: *expected, found });
        }
        let len = self.bytes.len() as u64;
        self.store.lock().blobs.insert(found, self.bytes.into());
        Ok((found, len))
    }
}

impl BlobStore for MemoryStore {
    fn writer(&self) -> Result<Box<dyn BlobWrite>, StoreError> {
        Ok(Box::new(Writer { store: self.clone(), bytes: Vec::new() }))
    }

    fn open(&self, digest: &Digest) -> Result<Option<VirtualFile>, StoreError> {
        let contents = self.lock();
        let real = contents.blobs.get(digest).map(|blob| VirtualFile::blob(*digest, blob.len() as u64));
        Ok(real.or_else(|| contents.announced.get(digest).cloned()))
    }

    fn announce(&self, digest: &Digest, file: &VirtualFile) -> Result<(), StoreError> {
        self.lock().announced.insert(*digest, file.clone());
        Ok(())
    }

    fn record(&self, kind: RecordKind, key: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.lock().records.get(&(kind, key.to_owned())).cloned())
    }

    fn put_record(&self, kind: RecordKind, key: &str, value: &[u8]) -> Result<(), StoreError> {
        check_key(key)?;
        self.lock().records.insert((kind, key.to_owned()), Bytes::copy_from_slice(value));
        Ok(())
    }

    fn remove_record(&self, kind: RecordKind, key: &str) -> Result<(), StoreError> {
        if kind == RecordKind::Schematic {
            return Err(StoreError::Kept(kind.as_str()));
        }
        self.lock().records.remove(&(kind, key.to_owned()));
        Ok(())
    }

    fn record_keys(&self, kind: RecordKind) -> Result<Vec<String>, StoreError> {
        let contents = self.lock();
        Ok(contents.records.keys().filter(|(of, _)| *of == kind).map(|(_, key)| key.clone()).collect())
    }
}
