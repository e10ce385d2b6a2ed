//! Reading virtual files.

use std::borrow::Cow;
use std::io;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::{Coder, Extent, VirtualFile, count};
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

    /// What is made by reading all of a file, such as its digest. One who can remember it keeps it under `key`, which
    /// stands for just these bytes, and has it made by one of those who ask at the same time. May block.
    ///
    /// # Errors
    /// Those of `make`.
    fn remembered(&self, key: &Digest, make: &mut dyn FnMut() -> Result<Bytes, ReadError>) -> Result<Bytes, ReadError> {
        let _ = key;
        make()
    }
}

impl<T: ReadBlob + ?Sized> ReadBlob for std::sync::Arc<T> {
    fn read(&self, digest: &Digest, range: Range<u64>) -> Result<Bytes, ReadError> {
        (**self).read(digest, range)
    }

    fn read_ready(&self, digest: &Digest, range: Range<u64>) -> Option<Bytes> {
        (**self).read_ready(digest, range)
    }

    fn remembered(&self, key: &Digest, make: &mut dyn FnMut() -> Result<Bytes, ReadError>) -> Result<Bytes, ReadError> {
        (**self).remembered(key, make)
    }
}

/// No blob at all: for files whose contents are inline.
#[derive(Clone, Copy, Debug)]
pub struct NoBlobs;

impl ReadBlob for NoBlobs {
    fn read(&self, digest: &Digest, _: Range<u64>) -> Result<Bytes, ReadError> {
        Err(ReadError::Missing(*digest))
    }
}

/// Constant extents below this length in bytes share a piece with their neighbours: a list of many small ones reads as
/// few pieces, and large ones are not copied.
const SMALL: u64 = 4096;

/// The zeros that long runs of zeros are read from: never written, so they cost no memory either.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// Bytes that are made up at most for one piece: they take memory, unlike those of blobs that are mapped.
const GENERATED: u64 = 16 << 10;

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

/// What comes next: a range of a blob, bytes that a coder makes, or bytes that need no blob.
enum Piece {
    Blob(Digest, Range<u64>),
    Coded(Coder, VirtualFile, Range<u64>),
    Constant(Bytes),
}

impl<B: ReadBlob> Pieces<B> {
    /// Bytes not yet read.
    pub fn remaining(&self) -> u64 {
        self.rest.len() - self.at
    }

    fn peek(&self) -> Option<Piece> {
        let (extent, from, len) = self.rest.leaf(self.at)?;
        let len = len.min(self.max);
        Some(match extent.as_ref() {
            Extent::Blob { digest, offset, .. } => {
                // Pieces end at multiples of `max` of the blob, so that chunk checks see whole chunks.
                let start = offset + from;
                Piece::Blob(*digest, start..start + len.min(self.max - start % self.max))
            }
            Extent::Coded { coder, source, range } => {
                let start = range.start + from;
                Piece::Coded(*coder, source.clone(), start..start + len)
            }
            Extent::Inline(bytes) if len >= SMALL => Piece::Constant(bytes.slice(from as usize..(from + len) as usize)),
            Extent::Repeat { unit, .. } if len >= SMALL && unit[..] == [0] => {
                Piece::Constant(Bytes::from_static(&ZEROS[..ZEROS.len().min(len as usize)]))
            }
            _ => Piece::Constant(self.gather()),
        })
    }

    /// The extent at hand and the small ones behind it, up to the next one that needs a blob, or is long.
    fn gather(&self) -> Bytes {
        let max = self.max.min(GENERATED);
        let mut out = BytesMut::new();
        while let Some((extent, from, len)) = self.rest.leaf(self.at + out.len() as u64) {
            let done = out.len();
            let long = done > 0 && len >= SMALL;
            if long || done as u64 == max || matches!(*extent, Extent::Blob { .. } | Extent::Coded { .. }) {
                break;
            }
            out.resize(done + len.min(max - done as u64) as usize, 0);
            fill(&extent, from, &mut out[done..]);
        }
        out.freeze()
    }

    /// The next piece if reading it does not block; `None` if it would, or at the end.
    pub fn next_ready(&mut self) -> Option<Bytes> {
        let bytes = match self.peek()? {
            Piece::Blob(digest, range) => self.blobs.read_ready(&digest, range)?,
            Piece::Coded(..) => return None,
            Piece::Constant(bytes) => bytes,
        };
        self.at += bytes.len() as u64;
        Some(bytes)
    }
}

impl<B: ReadBlob> Iterator for Pieces<B> {
    type Item = Result<Bytes, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = match self.peek()? {
            Piece::Blob(digest, range) => self.blobs.read(&digest, range),
            Piece::Coded(coder, source, range) => coder.read(&source, range, &self.blobs),
            Piece::Constant(bytes) => Ok(bytes),
        };
        // After an error there is nothing more.
        self.at = read.as_ref().map_or(self.rest.len(), |bytes| self.at + bytes.len() as u64);
        Some(read)
    }
}

/// Writes an extent's bytes from byte `from` on into `out`; what needs a blob is left as it is.
fn fill(extent: &Extent, from: u64, out: &mut [u8]) {
    match extent {
        Extent::Inline(bytes) => out.copy_from_slice(&bytes[from as usize..from as usize + out.len()]),
        Extent::Repeat { unit, .. } => {
            let skip = (from % unit.len() as u64) as usize;
            let head = (unit.len() - skip).min(out.len());
            out[..head].copy_from_slice(&unit[skip..skip + head]);
            let tail = skip.min(out.len() - head);
            out[head..head + tail].copy_from_slice(&unit[..tail]);
            // Now one unit's length is there; what is there is copied behind itself until all is.
            let mut done = head + tail;
            while done < out.len() {
                let more = done.min(out.len() - done);
                out.copy_within(..more, done);
                done += more;
            }
        }
        Extent::Count { first, step, width, endian, .. } => count::fill(*first, *step, *width, *endian, from, out),
        Extent::Blob { .. } | Extent::Framed { .. } | Extent::Coded { .. } => {}
    }
}

impl VirtualFile {
    /// What stands at byte `at`, framed contents found inside their frames: an extent that is not framed itself, which
    /// of its bytes that is, and how many of them follow one another here.
    fn leaf(&self, at: u64) -> Option<(Cow<'_, Extent>, u64, u64)> {
        let (extent, from) = self.at(at)?;
        let Extent::Framed { header, block, source } = extent else {
            return Some((Cow::Borrowed(extent), from, extent.len() - from));
        };
        let head = header.len() as u64;
        let (index, within) = (from / (head + block), from % (head + block));
        let Some(inside) = within.checked_sub(head) else {
            return Some((Cow::Owned(Extent::Inline(header.clone())), within, head - within));
        };
        let (leaf, from, len) = source.leaf(index * block + inside)?;
        Some((leaf, from, len.min(block - inside)))
    }

    /// The bytes of `range` in pieces of at most `max` bytes; `max` must not be 0.
    pub fn pieces<B: ReadBlob>(&self, range: Range<u64>, blobs: B, max: u64) -> Pieces<B> {
        let whole = range.start == 0 && range.end >= self.len();
        let rest = if whole { self.clone() } else { self.slice(range) };
        Pieces { blobs, rest, at: 0, max: max.max(1) }
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

    fn remembered(&self, key: &Digest, make: &mut dyn FnMut() -> Result<Bytes, ReadError>) -> Result<Bytes, ReadError> {
        (**self).remembered(key, make)
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
        let mut done = 0;
        while done < buf.len()
            && let Some((extent, from, len)) = self.file.leaf(self.at)
        {
            let n = len.min((buf.len() - done) as u64);
            let out = &mut buf[done..done + n as usize];
            let n = match extent.as_ref() {
                // What was read before a blob that cannot be must not be lost: it is tried in the next call.
                Extent::Blob { .. } | Extent::Coded { .. } if done > 0 => break,
                Extent::Blob { digest, offset, .. } => {
                    let start = offset + from;
                    out.copy_from_slice(&self.blobs.read(digest, start..start + n)?);
                    n as usize
                }
                Extent::Coded { coder, source, range } => {
                    let start = range.start + from;
                    let bytes = coder.read(source, start..start + n, &self.blobs)?;
                    out[..bytes.len()].copy_from_slice(&bytes);
                    bytes.len()
                }
                constant => {
                    fill(constant, from, out);
                    out.len()
                }
            };
            done += n;
            self.at += n as u64;
        }
        Ok(done)
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
