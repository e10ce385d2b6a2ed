//! Writing the data section: files' blocks, and fragments that gather small files.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use super::codec::Compressor;
use super::{NONE, STORED};
use crate::virtual_file::{ReadBlob, VirtualFile};

/// Where a file's contents are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    /// First byte of its blocks in the image.
    pub start: u64,
    /// Length in bytes.
    pub size: u64,
    /// A length word for each block; 0 for a block of zeros.
    pub words: Vec<u32>,
    /// Bytes in blocks of zeros.
    pub sparse: u64,
    /// Fragment and offset in it; [`NONE`] without.
    pub fragment: (u32, u32),
}

/// The data section as it grows.
pub(super) struct Data<'a> {
    out: &'a mut dyn Write,
    blobs: &'a dyn ReadBlob,
    block_size: usize,
    /// Byte of the image where the next block goes.
    at: u64,
    /// The fragment being filled.
    fragment: Vec<u8>,
    /// Records of the fragment table.
    fragments: Vec<u8>,
    /// Contents that are there already: equal extents are equal bytes.
    known: HashMap<VirtualFile, Placed>,
}

impl<'a> Data<'a> {
    /// A section that starts at byte `at` of the image.
    pub(super) fn new(out: &'a mut dyn Write, blobs: &'a dyn ReadBlob, block_size: u32, at: u64) -> Self {
        let (fragment, fragments, known) = (Vec::new(), Vec::new(), HashMap::new());
        Self { out, blobs, block_size: block_size as usize, at, fragment, fragments, known }
    }

    /// Writes a file's contents. Those shorter than a block go into a fragment; a tail becomes a short last block.
    pub(super) fn add(&mut self, file: &VirtualFile, compressor: &mut Compressor) -> io::Result<Placed> {
        if let Some(placed) = self.known.get(file) {
            return Ok(placed.clone());
        }
        let size = file.len();
        let mut placed = Placed { start: 0, size, words: Vec::new(), sparse: 0, fragment: (NONE, 0) };
        let mut reader = file.reader(self.blobs);
        let mut block = vec![0; self.block_size.min(size as usize)];
        if size == 0 {
            return Ok(placed);
        }
        if size < self.block_size as u64 {
            if self.fragment.len() + block.len() > self.block_size {
                self.flush_fragment(compressor)?;
            }
            reader.read_exact(&mut block)?;
            placed.fragment = (self.fragment_count(), self.fragment.len() as u32);
            self.fragment.extend_from_slice(&block);
        } else {
            placed.start = self.at;
            let mut left = size;
            while left > 0 {
                let n = left.min(self.block_size as u64) as usize;
                reader.read_exact(&mut block[..n])?;
                left -= n as u64;
                if block[..n].iter().all(|byte| *byte == 0) {
                    placed.words.push(0);
                    placed.sparse += n as u64;
                } else {
                    let word = self.block(&block[..n], compressor)?;
                    placed.words.push(word);
                }
            }
        }
        self.known.insert(file.clone(), placed.clone());
        Ok(placed)
    }

    /// Records of the fragment table so far, the open one not among them.
    fn fragment_count(&self) -> u32 {
        (self.fragments.len() / 16) as u32
    }

    /// Writes one block; its length word.
    fn block(&mut self, data: &[u8], compressor: &mut Compressor) -> io::Result<u32> {
        let compressed = compressor.compress(data)?;
        let flag = if compressed.is_some() { 0 } else { STORED };
        let body = compressed.as_deref().unwrap_or(data);
        self.out.write_all(body)?;
        self.at += body.len() as u64;
        Ok(body.len() as u32 | flag)
    }

    fn flush_fragment(&mut self, compressor: &mut Compressor) -> io::Result<()> {
        if self.fragment.is_empty() {
            return Ok(());
        }
        let start = self.at;
        let data = std::mem::take(&mut self.fragment);
        let word = self.block(&data, compressor)?;
        self.fragments.extend_from_slice(&start.to_le_bytes());
        self.fragments.extend_from_slice(&word.to_le_bytes());
        self.fragments.extend_from_slice(&[0; 4]);
        Ok(())
    }

    /// Ends the section: the byte behind it, and the records of the fragment table.
    pub(super) fn finish(mut self, compressor: &mut Compressor) -> io::Result<(u64, Vec<u8>)> {
        self.flush_fragment(compressor)?;
        Ok((self.at, self.fragments))
    }
}
