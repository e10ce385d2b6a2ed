//! Compressed streams as layouts: gzip, xz and Zstandard over the extents of a file, block by block.
//!
//! A stream is never made: what does not shrink stands in it as stored blocks around the very extents it is made of,
//! runs of one byte become repeated units, and what shrinks was *prepared* once for each blob (see [`pack()`]). So a
//! stream's length is known at once, and any range of it reads without making the rest.

mod checksum;
mod gz;
mod pack;
mod segments;
mod xz;
mod zst;

use std::ops::Range;

use crate::types::Digest;
use crate::virtual_file::{Outline, VirtualFile};

pub use pack::{estimate, pack, shrinks};

/// A format of compressed streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// gzip: RFC 1952, deflate of RFC 1951.
    Gz,
    /// xz: "The .xz File Format", version 1.2.1, with LZMA2.
    Xz,
    /// Zstandard: RFC 8878.
    Zst,
}

impl Codec {
    /// A name that stays.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gz => "gz",
            Self::Xz => "xz",
            Self::Zst => "zst",
        }
    }
}

/// What is known of the contents of blobs. Encoders ask for each range of a blob as it stands in the file.
pub trait Known {
    /// The CRC-32 of a range of a blob. Where it is not known, the stream's checksum reads all contents when it is
    /// read itself.
    fn crc32(&self, digest: &Digest, range: Range<u64>) -> Option<u32>;

    /// What [`pack()`] made of a range of a blob, if that [`shrinks`]. It stands in streams as it is.
    fn packed(&self, codec: Codec, digest: &Digest, range: Range<u64>) -> Option<VirtualFile>;
}

/// The stream of a file whose parts `outline` names, and what the stream's parts are.
pub fn encode(codec: Codec, file: &VirtualFile, outline: &Outline, known: &dyn Known) -> (VirtualFile, Outline) {
    let encode = match codec {
        Codec::Gz => gz::encode,
        Codec::Xz => xz::encode,
        Codec::Zst => zst::encode,
    };
    encode(file, outline, known).finish()
}

#[cfg(test)]
mod tests;
