//! Writing metadata: streams of pieces of 8192 bytes, and tables with an index of their pieces.

use std::io;

use super::PIECE;
use super::codec::Compressor;

/// Bit of a piece's length that says "stored, not compressed".
pub(super) const PIECE_STORED: u16 = 1 << 15;

/// A growing stream of metadata pieces.
#[derive(Default)]
pub(super) struct Metadata {
    /// Finished pieces with their length words.
    pieces: Vec<u8>,
    /// Where each finished piece starts.
    starts: Vec<u64>,
    /// The piece being filled.
    open: Vec<u8>,
}

/// A place in a metadata stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Offset of its piece from the start of the table, in bytes as on disk.
    pub piece: u32,
    /// Offset inside the decompressed piece.
    pub offset: u16,
}

impl Place {
    /// As inode numbers refer to it.
    pub(super) fn reference(self) -> u64 {
        u64::from(self.piece) << 16 | u64::from(self.offset)
    }
}

impl Metadata {
    /// Where the next byte goes.
    pub(super) fn place(&self) -> io::Result<Place> {
        let piece = u32::try_from(self.pieces.len())
            .map_err(|_| io::Error::other("squashfs: a metadata table is longer than 4 GiB"))?;
        Ok(Place { piece, offset: self.open.len() as u16 })
    }

    pub(super) fn push(&mut self, bytes: &[u8], compressor: &mut Compressor) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(PIECE - self.open.len()));
            self.open.extend_from_slice(now);
            rest = later;
            if self.open.len() == PIECE {
                self.close(compressor)?;
            }
        }
        Ok(())
    }

    /// Ends the open piece.
    fn close(&mut self, compressor: &mut Compressor) -> io::Result<()> {
        self.starts.push(self.pieces.len() as u64);
        self.pieces.extend_from_slice(&piece(&self.open, compressor)?);
        self.open.clear();
        Ok(())
    }

    /// All pieces, and where each starts.
    pub(super) fn finish(mut self, compressor: &mut Compressor) -> io::Result<(Vec<u8>, Vec<u64>)> {
        if !self.open.is_empty() {
            self.close(compressor)?;
        }
        Ok((self.pieces, self.starts))
    }
}

/// One piece with its length word; `data` is at most 8192 bytes.
fn piece(data: &[u8], compressor: &mut Compressor) -> io::Result<Vec<u8>> {
    let compressed = compressor.compress(data)?;
    let flag = if compressed.is_some() { 0 } else { PIECE_STORED };
    let body = compressed.as_deref().unwrap_or(data);
    Ok([&(body.len() as u16 | flag).to_le_bytes(), body].concat())
}

/// A table of `records`, to stand at byte `at` of the image: its bytes, and where in the image its index is.
pub(super) fn table(records: &[u8], at: u64, compressor: &mut Compressor) -> io::Result<(Vec<u8>, u64)> {
    let mut metadata = Metadata::default();
    metadata.push(records, compressor)?;
    let (mut bytes, starts) = metadata.finish(compressor)?;
    let index = at + bytes.len() as u64;
    for start in starts {
        bytes.extend_from_slice(&(at + start).to_le_bytes());
    }
    Ok((bytes, index))
}
