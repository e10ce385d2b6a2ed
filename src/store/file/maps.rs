//! Real blobs mapped into memory, each chunk checked before its first use since start.
//!
//! This is the one module with `unsafe`: a mapping is sound as long as nobody changes or shortens the file under it.
//! Blobs are immutable: a file gets its name only when it is whole, is never written to again, and is replaced or dropped
//! by unlinking, which leaves existing mappings as they are. A disk that fails under a mapping raises a signal only
//! where a thread touches the page; threads touch chunks here only after `pread` has read them into the page cache.
//! A mapping needs no open file: the blob is opened to check chunks only, so that many blobs take no file descriptors.

#![allow(unsafe_code)]

use std::fs::{File, Metadata};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use memmap2::Mmap;

use super::recency::Use;
use super::{Shared, read_if_there};
use crate::store::StoreError;
use crate::types::Digest;
use crate::virtual_file::ReadError;

/// Bytes that are checked together.
pub const CHUNK: u64 = 256 << 10;

/// Blobs mapped at one time.
const MAX_MAPS: u64 = 1024;

/// The stored form of checks.
pub fn encode_checks(checks: &[u32]) -> Vec<u8> {
    checks.iter().flat_map(|check| check.to_le_bytes()).collect()
}

/// Which file has a blob's name. As long as it is mapped or open, no other file is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity(u64, u64);

impl Identity {
    pub fn of(metadata: &Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

/// A blob in memory.
struct Mapped {
    identity: Identity,
    /// `None` for an empty blob, which cannot be mapped.
    map: Option<Mmap>,
    checks: Vec<u32>,
    /// A bit a chunk that has been checked.
    checked: Vec<AtomicU64>,
    used: Arc<Use>,
}

/// What came of checking chunks.
enum Checked {
    Good,
    /// A chunk is not what its check says.
    Bad,
    /// Another file has the blob's name now.
    Replaced,
}

impl Mapped {
    fn len(&self) -> u64 {
        self.map.as_ref().map_or(0, |map| map.len() as u64)
    }

    fn is_checked(&self, chunk: u64) -> bool {
        self.checked[(chunk / 64) as usize].load(Ordering::Relaxed) & (1 << (chunk % 64)) != 0
    }

    /// Checks the chunks of a range that have not been checked yet.
    fn check(&self, shared: &Shared, digest: &Digest, range: &Range<u64>) -> Result<Checked, ReadError> {
        if chunks(range).all(|chunk| self.is_checked(chunk)) {
            return Ok(Checked::Good);
        }
        let failed = |source| ReadError::Io { digest: *digest, source };
        let file = open(shared, digest)?;
        let metadata = file.metadata().map_err(failed)?;
        if Identity::of(&metadata) != self.identity {
            return Ok(Checked::Replaced);
        }
        if metadata.len() != self.len() {
            return Ok(Checked::Bad);
        }
        let mut buffer = Vec::new();
        for chunk in chunks(range).filter(|chunk| !self.is_checked(*chunk)) {
            let start = chunk * CHUNK;
            buffer.resize((self.len() - start).min(CHUNK) as usize, 0);
            file.read_exact_at(&mut buffer, start).map_err(failed)?;
            if crc32c::crc32c(&buffer) != self.checks[chunk as usize] {
                return Ok(Checked::Bad);
            }
            self.checked[(chunk / 64) as usize].fetch_or(1 << (chunk % 64), Ordering::Relaxed);
        }
        Ok(Checked::Good)
    }

    /// The bytes of a range that lies inside the blob, without copying them.
    fn slice(self: Arc<Self>, range: Range<u64>) -> Bytes {
        if range.is_empty() {
            return Bytes::new();
        }
        Bytes::from_owner(Slice { mapped: self, range: range.start as usize..range.end as usize })
    }
}

/// The chunks that a range touches.
fn chunks(range: &Range<u64>) -> Range<u64> {
    if range.is_empty() { 0..0 } else { range.start / CHUNK..range.end.div_ceil(CHUNK) }
}

/// A part of a mapped blob.
struct Slice {
    mapped: Arc<Mapped>,
    range: Range<usize>,
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        self.mapped.map.as_ref().and_then(|map| map.get(self.range.clone())).unwrap_or_default()
    }
}

/// Blobs that are mapped.
pub struct Maps {
    open: moka::sync::Cache<Digest, Arc<Mapped>>,
}

impl Default for Maps {
    fn default() -> Self {
        Self { open: moka::sync::Cache::new(MAX_MAPS) }
    }
}

impl Maps {
    /// Lets go of a blob; readers keep what they have.
    pub fn forget(&self, digest: &Digest) {
        self.open.invalidate(digest);
    }

    /// The bytes of a range, checked.
    pub fn read(&self, shared: &Shared, digest: &Digest, range: Range<u64>) -> Result<Bytes, ReadError> {
        // Again where the name stands for another file now, or where the checks were at fault and not the blob.
        for _ in 0..3 {
            let mapped = match self.open.get(digest) {
                Some(mapped) => mapped,
                None => {
                    let mapped = Arc::new(map(shared, digest)?);
                    self.open.insert(*digest, mapped.clone());
                    mapped
                }
            };
            if range.start > range.end || range.end > mapped.len() {
                // The caller's mistake, or the end is gone.
                let whole = shared.judge(digest, mapped.identity).map_err(|error| unread(digest, error))?;
                return Err(match whole {
                    true => ReadError::OutOfRange { digest: *digest, range },
                    false => ReadError::Damaged(*digest),
                });
            }
            mapped.used.mark();
            match mapped.check(shared, digest, &range)? {
                Checked::Good => return Ok(mapped.slice(range)),
                Checked::Replaced => self.forget(digest),
                Checked::Bad => {
                    let good = shared.judge(digest, mapped.identity).map_err(|error| unread(digest, error))?;
                    if !good {
                        return Err(ReadError::Damaged(*digest));
                    }
                }
            }
        }
        Err(ReadError::Damaged(*digest))
    }

    /// The bytes of a range, if all of it has been checked already.
    pub fn read_ready(&self, digest: &Digest, range: Range<u64>) -> Option<Bytes> {
        let mapped = self.open.get(digest)?;
        mapped.used.mark();
        let inside = range.start <= range.end && range.end <= mapped.len();
        (inside && chunks(&range).all(|chunk| mapped.is_checked(chunk))).then(|| mapped.slice(range))
    }
}

/// An error of the store as one of reading.
fn unread(digest: &Digest, error: StoreError) -> ReadError {
    match error {
        StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => ReadError::Missing(*digest),
        StoreError::Io { source, .. } => ReadError::Io { digest: *digest, source },
        other => ReadError::Io { digest: *digest, source: std::io::Error::other(other) },
    }
}

fn open(shared: &Shared, digest: &Digest) -> Result<File, ReadError> {
    match File::open(shared.blob(digest)) {
        Ok(file) => Ok(file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(ReadError::Missing(*digest)),
        Err(source) => Err(ReadError::Io { digest: *digest, source }),
    }
}

/// The stored checks of a blob of `len` bytes; `None` if there are none that fit it.
pub fn read_checks(shared: &Shared, digest: &Digest, len: u64) -> Result<Option<Vec<u32>>, StoreError> {
    let Some(stored) = read_if_there(&shared.checks(digest))? else { return Ok(None) };
    let checks = stored.chunks_exact(4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    Ok((stored.len() as u64 == len.div_ceil(CHUNK) * 4).then(|| checks.collect()))
}

/// Maps a blob, with its checks; where they are missing and the blob is good, they are made again.
fn map(shared: &Shared, digest: &Digest) -> Result<Mapped, ReadError> {
    let failed = |source| ReadError::Io { digest: *digest, source };
    let file = open(shared, digest)?;
    let metadata = file.metadata().map_err(failed)?;
    let (identity, len) = (Identity::of(&metadata), metadata.len());
    let read_checks = || read_checks(shared, digest, len).map_err(|error| unread(digest, error));
    let checks = match read_checks()? {
        Some(checks) => Some(checks),
        None if shared.judge(digest, identity).map_err(|error| unread(digest, error))? => read_checks()?,
        None => None,
    };
    let checks = checks.ok_or(ReadError::Damaged(*digest))?;
    // SAFETY: the file is never changed or shortened while anything maps it; see the module's documentation.
    let map = if len == 0 { None } else { Some(unsafe { Mmap::map(&file) }.map_err(failed)?) };
    let checked = (0..checks.len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
    Ok(Mapped { identity, map, checks, checked, used: shared.recency.used(digest, len) })
}
