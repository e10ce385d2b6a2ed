//! Reading virtual files.

use std::io;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::{Extent, VirtualFile};
use crate::types::Digest;

/// Why bytes of a blob could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store does not hold the blob (any more).
    #[error("blob {0} is not in the store")]
    Missing(Digest),
    /// The blob's bytes are not those that were stored; it has been dropped.
    #[error("blob {0} is damaged")]
    Damaged(Digest),
    /// A range beyond the blob's end.
    #[error("blob {digest} has no bytes {range:?}")]
    OutOfRange {
        /// The blob.
        digest: Digest,
        /// The bytes asked for.
        range: Range<u64>,
    },
    /// The operating system refused.
    #[error("reading blob {digest}: {source}")]
    Io {
        /// The blob.
        digest: Digest,
        /// What the operating system said.
        source: io::Error,
    },
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io { source, .. } => source,
            other => Self::other(other),
        }
    }
}

/// Where the bytes of blobs come from.
pub trait ReadBlob: Send + Sync {
    /// The bytes of `digest` in `range`, all of them. May block: call it where blocking is allowed.
    ///
    /// # Errors
    /// [`ReadError`]; never fewer bytes than asked for.
    fn read(&self, digest: &Digest, range: Range<u64>) -> Result<Bytes, ReadError>;

    /// The same bytes when they are at hand without blocking and already checked, otherwise `None`.
    fn read_ready(&self, digest: &Digest, range: Range<u64>) -> Option<Bytes> {
        let _ = (digest, range);
        None
    }
}

impl<T: ReadBlob + ?Sized> ReadBlob for std::sync::Arc<T> {
    fn read(&self, digest: &Digest, range: Range<u64>) -> Result<Bytes, ReadError> {
        (**self).read(digest, range)
    }

    fn read_ready(&self, digest: &Digest, range: Range<u64>) -> Option<Bytes> {
        (**self).read_ready(digest, range)
    }
}

/// The bytes of a range as a sequence of pieces of bounded size, read one at a time.
///
/// As an iterator it may block. An asynchronous reader first asks [`Pieces::next_ready`] and hands [`Iterator::next`] to
/// a thread that may block only when that says `None`.
pub struct Pieces<B> {
    blobs: B,
    rest: VirtualFile,
    at: u64,
    max: u64,
}

impl<B: ReadBlob> Pieces<B> {
    /// Bytes not yet read.
    pub fn remaining(&self) -> u64 {
        self.rest.len() - self.at
    }

    /// What the next piece is: an extent of at most `max` bytes.
    fn peek(&self) -> Option<Extent> {
        if self.remaining() == 0 {
            return None;
        }
        // Blobs end pieces at multiples of `max` of the blob, so that chunk checks see whole chunks.
        let mut to = self.at + self.max;
        if let Some(Extent::Blob { offset, .. }) = self.rest.parts(self.at..self.at + 1).next() {
            to -= offset % self.max;
        }
        self.rest.parts(self.at..to).next()
    }

    /// The next piece if reading it does not block; `None` if it would, or at the end.
    pub fn next_ready(&mut self) -> Option<Bytes> {
        let extent = self.peek()?;
        let bytes = match &extent {
            Extent::Blob { digest, offset, len } => self.blobs.read_ready(digest, *offset..offset + len)?,
            other => constant(other, self.max),
        };
        self.at += bytes.len() as u64;
        Some(bytes)
    }
}

/// The bytes of an extent that needs no blob, `max` of them at most.
fn constant(extent: &Extent, max: u64) -> Bytes {
    match extent {
        Extent::Inline(bytes) => bytes.clone(),
        Extent::Repeat { unit, times } => {
            let fit = (max / unit.len() as u64).clamp(1, *times) as usize;
            unit.repeat(fit).into()
        }
        Extent::Blob { .. } => Bytes::new(),
    }
}

impl<B: ReadBlob> Iterator for Pieces<B> {
    type Item = Result<Bytes, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let extent = self.peek()?;
        let bytes = match &extent {
            Extent::Blob { digest, offset, len } => match self.blobs.read(digest, *offset..offset + len) {
                Ok(bytes) => bytes,
                Err(error) => {
                    self.at = self.rest.len();
                    return Some(Err(error));
                }
            },
            other => constant(other, self.max),
        };
        self.at += bytes.len() as u64;
        Some(Ok(bytes))
    }
}

impl VirtualFile {
    /// The bytes of `range` in pieces of at most `max` bytes; `max` must not be 0.
    pub fn pieces<B: ReadBlob>(&self, range: Range<u64>, blobs: B, max: u64) -> Pieces<B> {
        Pieces { blobs, rest: self.slice(range), at: 0, max: max.max(1) }
    }

    /// All bytes, in memory: for files that are known to be small. Blocks.
    ///
    /// # Errors
    /// [`ReadError`] of the blob that could not be read.
    pub fn read_all(&self, blobs: &dyn ReadBlob) -> Result<Bytes, ReadError> {
        if let [Extent::Inline(bytes)] = self.extents() {
            return Ok(bytes.clone());
        }
        let mut all = BytesMut::with_capacity(self.len() as usize);
        for piece in self.pieces(0..self.len(), blobs, 1 << 20) {
            all.extend_from_slice(&piece?);
        }
        Ok(all.freeze())
    }

    /// A blocking [`io::Read`] and [`io::Seek`] over the file.
    pub fn reader<B: ReadBlob>(&self, blobs: B) -> Reader<B> {
        Reader { file: self.clone(), blobs, at: 0 }
    }
}

impl ReadBlob for &dyn ReadBlob {
    fn read(&self, digest: &Digest, range: Range<u64>) -> Result<Bytes, ReadError> {
        (**self).read(digest, range)
    }

    fn read_ready(&self, digest: &Digest, range: Range<u64>) -> Option<Bytes> {
        (**self).read_ready(digest, range)
    }
}

/// A position in a virtual file; see [`VirtualFile::reader`].
pub struct Reader<B> {
    file: VirtualFile,
    blobs: B,
    at: u64,
}

impl<B: ReadBlob> io::Read for Reader<B> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = self.at..self.at.saturating_add(buf.len() as u64);
        let Some(extent) = self.file.parts(want).next() else { return Ok(0) };
        let bytes = match &extent {
            Extent::Blob { digest, offset, len } => self.blobs.read(digest, *offset..offset + len)?,
            other => constant(other, buf.len() as u64),
        };
        let n = bytes.len().min(buf.len());
        buf[..n].copy_from_slice(&bytes[..n]);
        self.at += n as u64;
        Ok(n)
    }
}

impl<B: ReadBlob> io::Seek for Reader<B> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let target = match to {
            io::SeekFrom::Start(at) => Some(at),
            io::SeekFrom::End(by) => self.file.len().checked_add_signed(by),
            io::SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = target.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "seek before the start"))?;
        Ok(self.at)
    }
}
