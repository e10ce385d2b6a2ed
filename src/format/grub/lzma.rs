//! Compression of a BIOS core image: a raw LZMA1 stream, as the decompressor that is built into GRUB reads it.

use liblzma::stream::{Action, Filters, LzmaOptions, Status, Stream};

use super::GrubError;

/// What the decompressor has built in: bits of literal context, literal position and position.
const LITERAL_CONTEXT: u32 = 3;
const LITERAL_POSITION: u32 = 0;
const POSITION: u32 = 2;
/// Length of the dictionary in bytes; the decompressor's window is all of its output.
const DICTIONARY: u32 = 1 << 20;
/// Preset for everything else: the most effort.
const PRESET: u32 = 9;
/// How much room for output is made at once, in bytes.
const STEP: usize = 64 << 10;

/// The stream, with an end marker.
pub(super) fn compress(plain: &[u8]) -> Result<Vec<u8>, GrubError> {
    let failed = |error: liblzma::stream::Error| GrubError::Compress(error.to_string());
    let mut options = LzmaOptions::new_preset(PRESET).map_err(failed)?;
    options.dict_size(DICTIONARY).literal_context_bits(LITERAL_CONTEXT);
    options.literal_position_bits(LITERAL_POSITION).position_bits(POSITION);
    let mut stream = Stream::new_raw_encoder(Filters::new().lzma1(&options)).map_err(failed)?;
    let mut out = Vec::new();
    loop {
        out.reserve(STEP);
        let rest = plain.get(stream.total_in() as usize..).unwrap_or_default();
        if stream.process_vec(rest, &mut out, Action::Finish).map_err(failed)? == Status::StreamEnd {
            return Ok(out);
        }
    }
}
