//! Real blobs mapped into memory, each chunk checked before its first use since start.
//!
//! This is the one module with `unsafe`: a mapping is sound as long as nobody changes or shortens the file under it.
//! Blobs are immutable: a file gets its name only when it is whole, is never written to again, and is replaced or dropped
//! by unlinking, which leaves existing mappings as they are. A disk that fails under a mapping raises a signal only
//! where a thread touches the page; threads touch chunks here only after `pread` has read them into the page cache.

#![allow(unsafe_code)]

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use memmap2::Mmap;

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

/// A blob in memory.
struct Mapped {
    file: File,
    /// `None` for an empty blob, which cannot be mapped.
    map: Option<Mmap>,
    checks: Vec<u32>,
    /// A bit a chunk that has been checked.
    checked: Vec<AtomicU64>,
}

impl Mapped {
    fn len(&self) -> u64 {
        self.map.as_ref().map_or(0, |map| map.len() as u64)
    }

    fn is_checked(&self, chunk: u64) -> bool {
        self.checked[(chunk / 64) as usize].load(Ordering::Relaxed) & (1 << (chunk % 64)) != 0
    }

    /// Checks the chunks of a range that have not been checked yet.
    fn check(&self, digest: &Digest, range: &Range<u64>) -> Result<(), ReadError> {
        let mut buffer = Vec::new();
        for chunk in chunks(range) {
            if self.is_checked(chunk) {
                continue;
            }
            let start = chunk * CHUNK;
            buffer.resize((self.len() - start).min(CHUNK) as usize, 0);
            let read = self.file.read_exact_at(&mut buffer, start);
            read.map_err(|source| ReadError::Io { digest: *digest, source })?;
            if crc32c::crc32c(&buffer) != self.checks[chunk as usize] {
                return Err(ReadError::Damaged(*digest));
            }
            self.checked[(chunk / 64) as usize].fetch_or(1 << (chunk % 64), Ordering::Relaxed);
        }
        Ok(())
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
        let mapped = match self.open.get(digest) {
            Some(mapped) => mapped,
            None => {
                let mapped = Arc::new(map(shared, digest)?);
                self.open.insert(*digest, mapped.clone());
                mapped
            }
        };
        if range.start > range.end || range.end > mapped.len() {
            return Err(ReadError::OutOfRange { digest: *digest, range });
        }
        mapped.check(digest, &range)?;
        Ok(mapped.slice(range))
    }

    /// The bytes of a range, if all of it has been checked already.
    pub fn read_ready(&self, digest: &Digest, range: Range<u64>) -> Option<Bytes> {
        let mapped = self.open.get(digest)?;
        let inside = range.start <= range.end && range.end <= mapped.len();
        (inside && chunks(&range).all(|chunk| mapped.is_checked(chunk))).then(|| mapped.slice(range))
    }
}

/// Maps a blob, with its checks.
fn map(shared: &Shared, digest: &Digest) -> Result<Mapped, ReadError> {
    let failed = |source| ReadError::Io { digest: *digest, source };
    let file = match File::open(shared.blob(digest)) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(ReadError::Missing(*digest)),
        Err(error) => return Err(failed(error)),
    };
    let len = file.metadata().map_err(failed)?.len();
    // SAFETY: the file is never changed or shortened while anything maps it; see the module's documentation.
    let map = if len == 0 { None } else { Some(unsafe { Mmap::map(&file) }.map_err(failed)?) };
    let stored = read_if_there(&shared.checks(digest)).map_err(|error| match error {
        StoreError::Io { source, .. } => failed(source),
        other => failed(std::io::Error::other(other)),
    })?;
    let checks: Vec<u32> = stored
        .unwrap_or_default()
        .chunks_exact(4)
        .map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        .collect();
    // A blob without its checks, or with those of another length, is not what was written.
    if checks.len() as u64 != len.div_ceil(CHUNK) {
        return Err(ReadError::Damaged(*digest));
    }
    let checked = (0..checks.len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
    Ok(Mapped { file, map, checks, checked })
}
