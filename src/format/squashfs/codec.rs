//! The compressors of blocks and metadata pieces.

use std::io::{self, Read};

use liblzma::stream::{Action, Check, Filters, LzmaOptions, Status, Stream};

/// How blocks are compressed. What does not shrink is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Zstandard with a level from 1 to 22.
    Zstd {
        /// The level. It is in the superblock's options, for information.
        level: i32,
    },
    /// xz with preset 6, a dictionary of one block, and CRC32, which is all that the kernel checks.
    Xz,
    /// Everything stored; the superblock names zstd, since it must name one.
    Stored,
}

impl Compression {
    /// What extensions are compressed with.
    ///
    /// Measured on 20 MB of programs in blocks of 128 KiB, one core: level 9 takes 0.4 s and leaves 5 % more than level
    /// 18, which takes 4 s; level 3 takes 0.1 s and leaves 14 % more; level 15 takes 2 s and leaves 1 % more.
    pub const DEFAULT: Self = Self::Zstd { level: 9 };

    /// Whether a block's compressed bytes depend on nothing but the block. From level 5 on zstd salts its hashes with what
    /// a compressor did before: blocks have to come to one compressor in one order for the same bytes.
    pub(super) fn is_stateless(self) -> bool {
        !matches!(self, Self::Zstd { level: 5.. })
    }

    /// The number in the superblock.
    pub(super) fn id(self) -> u16 {
        match self {
            Self::Xz => XZ,
            Self::Zstd { .. } | Self::Stored => ZSTD,
        }
    }
}

/// Compressor numbers of the superblock.
pub(super) const GZIP: u16 = 1;
pub(super) const XZ: u16 = 4;
pub(super) const ZSTD: u16 = 6;

/// A compressor with its state, used block by block.
pub(super) enum Compressor {
    Zstd(zstd::bulk::Compressor<'static>),
    Xz { dictionary: u32 },
    Stored,
}

impl Compressor {
    pub(super) fn new(compression: Compression, block_size: u32) -> io::Result<Self> {
        Ok(match compression {
            Compression::Zstd { level } => Self::Zstd(zstd::bulk::Compressor::new(level)?),
            Compression::Xz => Self::Xz { dictionary: block_size },
            Compression::Stored => Self::Stored,
        })
    }

    /// Blocks for which a thread of its own saves more than it costs.
    pub(super) const fn worth_a_thread(&self) -> usize {
        match self {
            Self::Xz { .. } => 1,
            Self::Zstd(_) | Self::Stored => 8,
        }
    }

    /// The compressed bytes if they are fewer, else `None`.
    pub(super) fn compress(&mut self, data: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let compressed = match self {
            // One shot: the content size stands in the frame, so the window is no larger than the block.
            Self::Zstd(compressor) => Some(compressor.compress(data)?),
            Self::Xz { dictionary } => xz(data, *dictionary)?,
            Self::Stored => None,
        };
        Ok(compressed.filter(|compressed| compressed.len() < data.len()))
    }
}

fn xz(data: &[u8], dictionary: u32) -> io::Result<Option<Vec<u8>>> {
    let mut options = LzmaOptions::new_preset(6)?;
    options.dict_size(dictionary);
    let mut filters = Filters::new();
    filters.lzma2(&options);
    let mut stream = Stream::new_stream_encoder(&filters, Check::Crc32)?;
    let mut out = Vec::with_capacity(data.len());
    // It does not grow the vector: what does not fit is not worth compressing.
    let status = stream.process_vec(data, &mut out, Action::Finish)?;
    Ok((status == Status::StreamEnd).then_some(out))
}

/// Decompresses a block or piece of at most `max` bytes.
pub(super) fn decompress(compressor: u16, data: &[u8], max: usize) -> io::Result<Vec<u8>> {
    // Read as streams: the vector grows with what really comes out.
    let decoder: Box<dyn Read + '_> = match compressor {
        GZIP => Box::new(flate2::bufread::ZlibDecoder::new(data)),
        XZ => {
            let stream = Stream::new_stream_decoder(XZ_MEMORY, 0)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(data, stream))
        }
        ZSTD => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(data)?;
            decoder.window_log_max(20)?;
            Box::new(decoder)
        }
        other => return Err(io::Error::new(io::ErrorKind::Unsupported, format!("compressor {other}"))),
    };
    let mut out = Vec::new();
    decoder.take(max as u64 + 1).read_to_end(&mut out)?;
    if out.len() > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a block of more than {max} bytes")));
    }
    Ok(out)
}

/// Most memory for an xz block in bytes: a dictionary of 1 MiB, the largest block, and its tables, with room.
const XZ_MEMORY: u64 = 16 << 20;
