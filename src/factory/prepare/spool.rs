//! Bodies of files on their way from a layer into something prepared: in a temporary file, read as a blob.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

use crate::types::Digest;
use crate::virtual_file::{Extent, ReadBlob, ReadError, VirtualFile};

/// The name under which a spool's bytes stand in virtual files; it is never stored, and no content has it.
const NAME: Digest = Digest::from_raw([0xff; 32]);

/// A temporary file that gathers bodies one after another. It is gone when it is dropped.
pub struct Spool {
    file: File,
    len: u64,
}

impl Spool {
    /// An empty spool.
    ///
    /// # Errors
    /// When no temporary file can be made.
    pub fn new() -> io::Result<Self> {
        Ok(Self { file: tempfile::tempfile()?, len: 0 })
    }

    /// Takes in all of `body`, and gives the file that reads as it.
    ///
    /// # Errors
    /// Of reading or writing.
    pub fn add(&mut self, body: &mut dyn Read) -> io::Result<VirtualFile> {
        let offset = self.len;
        self.file.seek(SeekFrom::Start(offset))?;
        let len = io::copy(body, &mut self.file)?;
        self.len += len;
        Ok(VirtualFile::from_extents([Extent::Blob { digest: NAME, offset, len }]))
    }

    /// Flushes what was taken in, so that it can be read.
    ///
    /// # Errors
    /// Of writing.
    pub fn finish(mut self) -> io::Result<Self> {
        self.file.flush()?;
        Ok(self)
    }
}

impl ReadBlob for Spool {
    fn read(&self, digest: &Digest, range: Range<u64>) -> Result<Bytes, ReadError> {
        if *digest != NAME {
            return Err(ReadError::Missing(*digest));
        }
        if range.end > self.len || range.start > range.end {
            return Err(ReadError::OutOfRange { digest: NAME, range });
        }
        let mut buffer = vec![0; (range.end - range.start) as usize];
        let done = self.file.read_exact_at(&mut buffer, range.start);
        done.map_err(|source| ReadError::Io { digest: NAME, source })?;
        Ok(buffer.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_read_back_as_they_came() {
        let mut spool = Spool::new().unwrap();
        let first = spool.add(&mut &b"first"[..]).unwrap();
        let empty = spool.add(&mut &b""[..]).unwrap();
        let second = spool.add(&mut &b"second"[..]).unwrap();
        let spool = spool.finish().unwrap();
        assert_eq!(&first.read_all(&spool).unwrap()[..], b"first");
        assert_eq!(&second.read_all(&spool).unwrap()[..], b"second");
        assert!(empty.is_empty());
        assert!(spool.read(&NAME, 5..99).is_err());
        assert!(spool.read(&Digest::of(b""), 0..1).is_err());
    }
}
