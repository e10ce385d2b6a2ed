//! What shrinks is compressed once for each blob and codec, and stands in streams as it is.

use std::io::{self, Read, Write};

use flate2::{Compress, Compression, FlushCompress};
use liblzma::stream::{Action, Filters, LzmaOptions, Status, Stream};

use super::Codec;

/// Bytes read and written at a time.
const PIECE: usize = 64 << 10;

/// Whether what was packed is over 1 % shorter, lengths in bytes; otherwise it is better stored.
pub const fn shrinks(len: u64, packed: u64) -> bool {
    (packed as u128) * 100 < (len as u128) * 99
}

/// About how many bytes a quick compression makes of `source`: 1 % is told apart, at hundreds of megabytes a second.
/// Blocks.
///
/// # Errors
/// Those of reading.
pub fn estimate(source: &mut dyn Read) -> io::Result<u64> {
    let mut encoder = zstd::Encoder::new(Count(0), 1)?;
    io::copy(source, &mut encoder)?;
    Ok(encoder.finish()?.0)
}

/// Counts what is written.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes what the codec makes of `source`, which is `len` bytes long, to be put into streams:
/// whole Zstandard frames, blocks of deflate that end at a byte and do not end the stream, or all LZMA2 chunks of an
/// xz block, at the levels 18, 9 and 6 that people use for images. Takes up to 100 MiB of memory. Blocks.
///
/// # Errors
/// Those of reading and writing, and [`io::ErrorKind::InvalidInput`] when `source` is not `len` bytes long.
pub fn pack(codec: Codec, source: &mut dyn Read, len: u64, out: &mut dyn Write) -> io::Result<()> {
    let mut source = source.take(len.saturating_add(1));
    let read = match codec {
        Codec::Gz => {
            let mut deflate = Compress::new(Compression::best(), false);
            pump(&mut source, out, |input, output, is_last| {
                let (before_in, before_out) = (deflate.total_in(), deflate.total_out());
                let flush = if is_last { FlushCompress::Sync } else { FlushCompress::None };
                deflate.compress(input, output, flush).map_err(io::Error::other)?;
                let (taken, made) = (deflate.total_in() - before_in, (deflate.total_out() - before_out) as usize);
                // A flush is over when it leaves room.
                Ok((taken as usize, made, is_last && taken == input.len() as u64 && made < output.len()))
            })?
        }
        Codec::Xz => {
            let mut filters = Filters::new();
            filters.lzma2(
                LzmaOptions::new_preset(super::xz::PRESET).map_err(io::Error::other)?.dict_size(super::xz::DICT),
            );
            let mut lzma = Stream::new_raw_encoder(&filters).map_err(io::Error::other)?;
            pump(&mut source, out, |input, output, is_last| {
                let (before_in, before_out) = (lzma.total_in(), lzma.total_out());
                let action = if is_last { Action::Finish } else { Action::Run };
                let status = lzma.process(input, output, action).map_err(io::Error::other)?;
                let (taken, made) = (lzma.total_in() - before_in, lzma.total_out() - before_out);
                Ok((taken as usize, made as usize, matches!(status, Status::StreamEnd)))
            })?
        }
        Codec::Zst => {
            let mut encoder = zstd::Encoder::new(out, 18)?;
            encoder.include_checksum(false)?;
            encoder.set_pledged_src_size(Some(len))?;
            let read = io::copy(&mut source, &mut encoder)?;
            encoder.finish()?;
            read
        }
    };
    if read == len { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "a length that is not promised")) }
}

/// Feeds a compressor, until it says that it is done: `step(input, output, is_last)` gives how much it took and made.
fn pump(
    source: &mut dyn Read,
    out: &mut dyn Write,
    mut step: impl FnMut(&[u8], &mut [u8], bool) -> io::Result<(usize, usize, bool)>,
) -> io::Result<u64> {
    let (mut input, mut output, mut total) = (vec![0; PIECE], vec![0; PIECE], 0);
    loop {
        let len = source.read(&mut input)?;
        total += len as u64;
        let mut at = 0;
        loop {
            let (taken, made, done) = step(&input[at..len], &mut output, len == 0)?;
            at += taken;
            out.write_all(&output[..made])?;
            if done {
                return Ok(total);
            }
            if at == len && len > 0 {
                break;
            }
        }
    }
}
