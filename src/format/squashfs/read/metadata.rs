//! Reading metadata pieces.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use super::super::PIECE;
use super::super::codec;
use super::super::metadata::PIECE_STORED;
use super::ReadError;

/// Decompressed pieces that are kept: 2 MiB.
const KEPT: usize = 256;

/// A decompressed piece and the position of the one behind it.
type Piece = (Arc<Vec<u8>>, u64);

/// The source with the metadata pieces met last.
pub(super) struct Pieces<R> {
    source: R,
    compressor: u16,
    /// Where the image ends.
    end: u64,
    kept: HashMap<u64, Piece>,
}

impl<R: Read + Seek> Pieces<R> {
    pub(super) fn new(source: R, compressor: u16, end: u64) -> Self {
        Self { source, compressor, end, kept: HashMap::new() }
    }

    /// `len` bytes at `at`; callers bound `len`.
    pub(super) fn raw(&mut self, at: u64, len: usize) -> Result<Vec<u8>, ReadError> {
        if at.checked_add(len as u64).is_none_or(|end| end > self.end) {
            return Err(ReadError::damaged(format!("{len} bytes at {at} are beyond its end at {}", self.end)));
        }
        let mut bytes = vec![0; len];
        self.source
            .seek(SeekFrom::Start(at))
            .and_then(|_| self.source.read_exact(&mut bytes))
            .map_err(|source| ReadError::Io { at, len, source })?;
        Ok(bytes)
    }

    /// A block of data or a fragment, which must come to at most `max` bytes.
    pub(super) fn block(&mut self, at: u64, len: usize, stored: bool, max: usize) -> Result<Vec<u8>, ReadError> {
        let bytes = self.raw(at, len)?;
        let bytes = if stored { bytes } else { self.decompress(at, &bytes, max)? };
        if bytes.len() > max {
            return Err(ReadError::damaged(format!("the block at {at} holds {} bytes, not {max}", bytes.len())));
        }
        Ok(bytes)
    }

    fn decompress(&self, at: u64, bytes: &[u8], max: usize) -> Result<Vec<u8>, ReadError> {
        codec::decompress(self.compressor, bytes, max)
            .map_err(|error| ReadError::damaged(format!("decompressing the block at {at}: {error}")))
    }

    /// The piece at `at`.
    fn piece(&mut self, at: u64) -> Result<Piece, ReadError> {
        if let Some(piece) = self.kept.get(&at) {
            return Ok(piece.clone());
        }
        let head = self.raw(at, 2)?;
        let word = u16::from_le_bytes([head[0], head[1]]);
        let len = usize::from(word & !PIECE_STORED);
        if len == 0 || len > PIECE {
            return Err(ReadError::damaged(format!("the metadata at {at} has a length of {len}")));
        }
        let bytes = self.block(at + 2, len, word & PIECE_STORED != 0, PIECE)?;
        if self.kept.len() >= KEPT {
            self.kept.clear();
        }
        let piece = (Arc::new(bytes), at + 2 + len as u64);
        self.kept.insert(at, piece.clone());
        Ok(piece)
    }
}

/// A position in a run of metadata pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Where its piece is in the image.
    piece: u64,
    /// Offset in the decompressed piece.
    offset: usize,
}

impl Cursor {
    /// `offset` bytes into the piece that stands `relative` bytes behind `table`.
    pub(super) fn new(table: u64, relative: u64, offset: u16) -> Result<Self, ReadError> {
        let piece = table.checked_add(relative).ok_or_else(|| ReadError::damaged("a position of more than 64 bits"))?;
        Ok(Self { piece, offset: usize::from(offset) })
    }

    /// A reference: position of the piece behind `table` in the upper bits, offset in the lower 16.
    pub(super) fn reference(table: u64, reference: u64) -> Result<Self, ReadError> {
        Self::new(table, reference >> 16, reference as u16)
    }

    /// The next `N` bytes.
    pub(super) fn take<const N: usize, R: Read + Seek>(
        &mut self,
        pieces: &mut Pieces<R>,
    ) -> Result<[u8; N], ReadError> {
        let mut out = [0; N];
        self.fill(pieces, &mut out)?;
        Ok(out)
    }

    pub(super) fn u16<R: Read + Seek>(&mut self, pieces: &mut Pieces<R>) -> Result<u16, ReadError> {
        self.take(pieces).map(u16::from_le_bytes)
    }

    pub(super) fn u32<R: Read + Seek>(&mut self, pieces: &mut Pieces<R>) -> Result<u32, ReadError> {
        self.take(pieces).map(u32::from_le_bytes)
    }

    pub(super) fn u64<R: Read + Seek>(&mut self, pieces: &mut Pieces<R>) -> Result<u64, ReadError> {
        self.take(pieces).map(u64::from_le_bytes)
    }

    /// The next `len` bytes; callers bound `len`.
    pub(super) fn bytes<R: Read + Seek>(&mut self, pieces: &mut Pieces<R>, len: usize) -> Result<Vec<u8>, ReadError> {
        let mut out = vec![0; len];
        self.fill(pieces, &mut out)?;
        Ok(out)
    }

    fn fill<R: Read + Seek>(&mut self, pieces: &mut Pieces<R>, out: &mut [u8]) -> Result<(), ReadError> {
        let mut done = 0;
        while done < out.len() {
            let (piece, next) = pieces.piece(self.piece)?;
            match piece.get(self.offset..) {
                None => {
                    return Err(ReadError::damaged(format!(
                        "offset {} in the metadata at {}",
                        self.offset, self.piece
                    )));
                }
                Some([]) => (self.piece, self.offset) = (next, 0),
                Some(rest) => {
                    let n = rest.len().min(out.len() - done);
                    out[done..done + n].copy_from_slice(&rest[..n]);
                    self.offset += n;
                    done += n;
                }
            }
        }
        Ok(())
    }
}
