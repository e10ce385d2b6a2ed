//! Writing the data section: files' blocks, and fragments that gather small files.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;
use std::io::{self, Read, Write};
use std::sync::{Mutex, PoisonError};

use super::codec::Compressor;
use super::{NONE, STORED};
use crate::format::tree::{FileTree, Kind};
use crate::virtual_file::{ReadBlob, VirtualFile};

/// Blocks that are compressed side by side before they are written, for each processor.
const BATCH: usize = 8;

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

/// What is to be written next.
enum Step {
    /// The blocks of the file of this number start here.
    Start(usize),
    /// A block of the file of this number.
    Block(usize, Vec<u8>),
    /// A fragment.
    Fragment(Vec<u8>),
}

impl Step {
    /// What there is to compress.
    fn data(&self) -> &[u8] {
        match self {
            Self::Start(_) => &[],
            Self::Block(_, data) | Self::Fragment(data) => data,
        }
    }
}

/// The data section as it grows.
pub(super) struct Data<'a> {
    out: &'a mut dyn Write,
    blobs: &'a dyn ReadBlob,
    block_size: usize,
    /// Byte of the image where the next block goes.
    at: u64,
    /// What waits to be compressed and written, in its order.
    waiting: Vec<Step>,
    /// The fragment being filled, and its number.
    fragment: Vec<u8>,
    fragment_number: u32,
    /// Records of the fragment table.
    fragments: Vec<u8>,
    /// The files' places by their numbers.
    placed: Vec<Placed>,
    /// Contents that are there already: equal extents are equal bytes. Hashed by the quickest that there is: files are
    /// inline, too.
    known: HashMap<VirtualFile, usize, BuildHasherDefault<crc32fast::Hasher>>,
}

impl<'a> Data<'a> {
    /// A section that starts at byte `at` of the image.
    pub(super) fn new(out: &'a mut dyn Write, blobs: &'a dyn ReadBlob, block_size: u32, at: u64) -> Self {
        Self {
            out,
            blobs,
            block_size: block_size as usize,
            at,
            waiting: Vec::new(),
            fragment: Vec::new(),
            fragment_number: 0,
            fragments: Vec::new(),
            placed: Vec::new(),
            known: HashMap::default(),
        }
    }

    /// Adds all files of a tree in its order, blocks compressed side by side. With only one compressor nothing is done
    /// here: the files are added one by one.
    pub(super) fn add_all(&mut self, tree: &FileTree, compressors: &mut [Compressor]) -> io::Result<()> {
        if compressors.len() < 2 {
            return Ok(());
        }
        let mut inodes = HashSet::new();
        for (_, node) in tree.iter() {
            if let Kind::File(contents) = &node.kind
                && node.inode.is_none_or(|inode| inodes.insert(inode))
            {
                self.append(contents, compressors)?;
            }
        }
        self.flush_fragment();
        self.write(compressors)
    }

    /// Writes a file's contents, if they are not there yet. Those shorter than a block go into a fragment; a tail becomes
    /// a short last block.
    pub(super) fn add(&mut self, file: &VirtualFile, compressor: &mut Compressor) -> io::Result<&Placed> {
        let compressors = std::slice::from_mut(compressor);
        let number = self.append(file, compressors)?;
        self.write(compressors)?;
        Ok(&self.placed[number])
    }

    /// The number of a file whose contents are written, or wait to be.
    fn append(&mut self, file: &VirtualFile, compressors: &mut [Compressor]) -> io::Result<usize> {
        if let Some(number) = self.known.get(file) {
            return Ok(*number);
        }
        let (number, size) = (self.placed.len(), file.len());
        let mut placed = Placed { start: 0, size, words: Vec::new(), sparse: 0, fragment: (NONE, 0) };
        let mut reader = file.reader(self.blobs);
        if size < self.block_size as u64 {
            let (size, before) = (size as usize, self.fragment.len());
            if before + size > self.block_size {
                self.flush_fragment();
                self.write_batch(compressors)?;
            }
            if size > 0 {
                let before = self.fragment.len();
                self.fragment.resize(before + size, 0);
                reader.read_exact(&mut self.fragment[before..])?;
                placed.fragment = (self.fragment_number, before as u32);
            }
            self.placed.push(placed);
        } else {
            self.placed.push(placed);
            self.waiting.push(Step::Start(number));
            let mut left = size;
            while left > 0 {
                let mut block = vec![0; left.min(self.block_size as u64) as usize];
                reader.read_exact(&mut block)?;
                left -= block.len() as u64;
                if block.iter().all(|byte| *byte == 0) {
                    // Behind the words of the blocks before it.
                    self.write(compressors)?;
                    self.placed[number].words.push(0);
                    self.placed[number].sparse += block.len() as u64;
                } else {
                    self.waiting.push(Step::Block(number, block));
                }
                self.write_batch(compressors)?;
            }
        }
        self.known.insert(file.clone(), number);
        Ok(number)
    }

    /// Compresses and writes what waits, if it is work enough for all compressors.
    fn write_batch(&mut self, compressors: &mut [Compressor]) -> io::Result<()> {
        if self.waiting.len() < compressors.len() * BATCH { Ok(()) } else { self.write(compressors) }
    }

    /// Compresses and writes what waits.
    fn write(&mut self, compressors: &mut [Compressor]) -> io::Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        for (step, compressed) in waiting.iter().zip(compress(&waiting, compressors)?) {
            let data = step.data();
            let flag = if compressed.is_some() { 0 } else { STORED };
            let body = compressed.as_deref().unwrap_or(data);
            let (start, word) = (self.at, body.len() as u32 | flag);
            self.out.write_all(body)?;
            self.at += body.len() as u64;
            match step {
                Step::Start(file) => self.placed[*file].start = start,
                Step::Block(file, _) => self.placed[*file].words.push(word),
                Step::Fragment(_) => {
                    self.fragments.extend_from_slice(&start.to_le_bytes());
                    self.fragments.extend_from_slice(&word.to_le_bytes());
                    self.fragments.extend_from_slice(&[0; 4]);
                }
            }
        }
        Ok(())
    }

    /// Lets the fragment that is being filled wait to be written.
    fn flush_fragment(&mut self) {
        if !self.fragment.is_empty() {
            self.waiting.push(Step::Fragment(std::mem::take(&mut self.fragment)));
            self.fragment_number += 1;
        }
    }

    /// Ends the section: the byte behind it, and the records of the fragment table.
    pub(super) fn finish(mut self, compressor: &mut Compressor) -> io::Result<(u64, Vec<u8>)> {
        self.flush_fragment();
        self.write(std::slice::from_mut(compressor))?;
        Ok((self.at, self.fragments))
    }
}

/// What each step's data is compressed, if that is less: with compressors side by side, each taking the next.
fn compress(steps: &[Step], compressors: &mut [Compressor]) -> io::Result<Vec<Option<Vec<u8>>>> {
    let mut all = vec![None; steps.len()];
    let next = Mutex::new(steps.iter().zip(&mut all).filter(|(step, _)| !step.data().is_empty()));
    let work = |compressor: &mut Compressor| {
        loop {
            let taken = next.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((step, place)) = taken else { return Ok(()) };
            *place = compressor.compress(step.data())?;
        }
    };
    std::thread::scope(|scope| {
        let Some((own, others)) = compressors.split_first_mut() else { return Ok(()) };
        let most = (steps.len() / own.worth_a_thread()).saturating_sub(1);
        let others: Vec<_> = others.iter_mut().take(most).collect();
        let others: Vec<_> = others.into_iter().map(|compressor| scope.spawn(|| work(compressor))).collect();
        let own = work(own);
        let joined =
            others.into_iter().map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.fold(own, io::Result::and)
    })?;
    Ok(all)
}
