//! Writing real blobs.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::maps::{CHUNK, encode_checks};
use super::{BLOBS, Shared, failed};
use crate::store::{BlobWrite, StoreError};
use crate::types::Digest;

/// A real blob being written.
pub struct Writer {
    shared: Arc<Shared>,
    path: PathBuf,
    file: File,
    hasher: Sha256,
    checks: Vec<u32>,
    /// CRC of the chunk being filled.
    check: u32,
    len: u64,
}

impl Writer {
    pub fn new(shared: Arc<Shared>) -> Result<Self, StoreError> {
        let (path, file) = shared.scratch.create(0o644)?;
        Ok(Self { shared, path, file, hasher: Sha256::new(), checks: Vec::new(), check: 0, len: 0 })
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = (CHUNK - self.len % CHUNK) as usize;
        let bytes = &bytes[..bytes.len().min(room)];
        let written = self.file.write(bytes)?;
        let bytes = &bytes[..written];
        self.hasher.update(bytes);
        self.check = crc32c::crc32c_append(self.check, bytes);
        self.len += written as u64;
        if written > 0 && self.len.is_multiple_of(CHUNK) {
            self.checks.push(std::mem::take(&mut self.check));
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Writer {
    /// Gives the blob its name.
    fn finish(mut self, expected: Option<&Digest>, durably: bool) -> Result<(Digest, u64), StoreError> {
        let digest = Digest::from_raw(std::mem::take(&mut self.hasher).finalize().into());
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            return Err(StoreError::Mismatch { expected: *expected, found: digest });
        }
        let (target, len) = (self.shared.blob(&digest), self.len);
        // Memory alone does not vouch for it: another process on the folder may have dropped the blob.
        match fs::metadata(&target).ok().filter(fs::Metadata::is_file).map(|metadata| metadata.len()) {
            Some(found) if found != len => {
                tracing::error!(%digest, found, len, "a stored blob has another length; it is replaced");
                self.shared.drop_blob(&digest)?;
            }
            Some(_) if self.shared.recency.touch(&digest, || target.clone()).is_some() => {
                if durably {
                    self.shared.later.wait();
                }
                return Ok((digest, len));
            }
            _ => {}
        }
        let shared = self.shared.clone();
        let (reservation, victims) = shared.recency.reserve(len)?;
        for old in victims {
            shared.drop_blob(&old)?;
        }
        if !len.is_multiple_of(CHUNK) {
            let last = self.check;
            self.checks.push(last);
        }
        // The checks first: a blob with its name has them.
        let (checks, encoded) = (shared.checks(&digest), encode_checks(&self.checks));
        if durably {
            self.file.sync_data().map_err(failed(format!("flushing blob {digest}")))?;
            shared.scratch.write(&checks, &encoded, 0o644)?;
            shared.scratch.rename(&self.path, &target)?;
        } else {
            let doing = || failed(format!("writing blob {digest}"));
            let file = self.file.try_clone().map_err(doing())?;
            shared.place(&checks, &encoded, 0o644)?;
            fs::rename(&self.path, &target).map_err(doing())?;
            shared.later.flush(file, shared.root.join(BLOBS));
        }
        reservation.fill(&digest);
        Ok((digest, len))
    }
}

impl BlobWrite for Writer {
    fn commit(self: Box<Self>, expected: Option<&Digest>) -> Result<(Digest, u64), StoreError> {
        self.finish(expected, true)
    }

    fn place(self: Box<Self>) -> Result<(Digest, u64), StoreError> {
        self.finish(None, false)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // After a commit there is nothing under this name any more.
        let _ = fs::remove_file(&self.path);
    }
}
