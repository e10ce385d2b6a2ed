//! Streams of every codec over any list of extents: decoders give back the file, ranges are slices of the whole.
#![no_main]

use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;

use bytes::Bytes;
use image_factory::encode::{Codec, Known, encode, pack};
use image_factory::types::Digest;
use image_factory::virtual_file::{Endian, Outline, ReadBlob, ReadError, VirtualFile, Width};

/// Blobs, and what was packed of them.
#[derive(Default)]
struct Blobs {
    blobs: HashMap<Digest, Bytes>,
    packed: HashMap<(Codec, Digest), VirtualFile>,
    knows_sums: bool,
}

impl ReadBlob for Blobs {
    fn read(&self, digest: &Digest, range: Range<u64>) -> Result<Bytes, ReadError> {
        let blob = self.blobs.get(digest).ok_or(ReadError::Missing(*digest))?;
        Ok(blob.slice(range.start as usize..range.end as usize))
    }
}

impl Known for Blobs {
    fn crc32(&self, digest: &Digest, range: Range<u64>) -> Option<u32> {
        let part = &self.blobs[digest][range.start as usize..range.end as usize];
        self.knows_sums.then(|| flate2_crc(part))
    }

    fn packed(&self, codec: Codec, digest: &Digest, range: Range<u64>) -> Option<VirtualFile> {
        let whole = 0..self.blobs[digest].len() as u64;
        self.packed.get(&(codec, *digest)).filter(|_| range == whole).cloned()
    }
}

fn flate2_crc(bytes: &[u8]) -> u32 {
    let mut sum = flate2::Crc::new();
    sum.update(bytes);
    sum.sum()
}

/// A number from the front of the data; 0 when it is used up.
fn take(data: &mut &[u8], len: usize) -> u64 {
    let (front, rest) = data.split_at(len.min(data.len()));
    *data = rest;
    front.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

impl Blobs {
    fn add(&mut self, bytes: Bytes) -> VirtualFile {
        let (digest, len) = (Digest::of(&bytes), bytes.len() as u64);
        self.blobs.insert(digest, bytes);
        VirtualFile::blob(digest, len)
    }

    fn part(&mut self, data: &mut &[u8]) -> VirtualFile {
        let (kind, len) = (take(data, 1), take(data, 3) % 300_000);
        let (bytes, rest) = data.split_at((len as usize).min(data.len()).min(200));
        let bytes = Bytes::copy_from_slice(bytes);
        match kind % 6 {
            0 => VirtualFile::zeros(len),
            1 => VirtualFile::repeat(vec![kind as u8], len),
            2 => VirtualFile::count(len, kind, Width::U32, Endian::Big, len / 10),
            3 => {
                *data = rest;
                VirtualFile::inline(bytes)
            }
            4 => {
                *data = rest;
                self.add(bytes.repeat(len as usize % 500).into()).slice(kind / 6..len)
            }
            _ => {
                *data = rest;
                let blob = self.add(bytes.repeat(20).into());
                for codec in [Codec::Gz, Codec::Xz, Codec::Zst] {
                    let (mut packed, raw) = (Vec::new(), &self.blobs[&Digest::of(&bytes.repeat(20))].clone());
                    pack(codec, &mut &raw[..], raw.len() as u64, &mut packed).expect("bytes in memory are packed");
                    let packed = self.add(packed.into());
                    self.packed.insert((codec, Digest::of(raw)), packed);
                }
                blob
            }
        }
    }
}

fn decode(codec: Codec, stream: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let done = match codec {
        Codec::Gz => flate2::bufread::GzDecoder::new(stream).read_to_end(&mut out),
        Codec::Xz => liblzma::read::XzDecoder::new(stream).read_to_end(&mut out),
        Codec::Zst => zstd::Decoder::new(stream).and_then(|mut decoder| decoder.read_to_end(&mut out)),
    };
    done.expect("a stream that decoders read");
    out
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (mut data, mut blobs, mut parts) = (data, Blobs::default(), Vec::new());
    let (from, len) = (take(&mut data, 3), take(&mut data, 3));
    blobs.knows_sums = from % 2 == 0;
    while !data.is_empty() && parts.len() < 12 {
        parts.push(blobs.part(&mut data));
    }
    let file = VirtualFile::concat(parts);
    let raw = file.read_all(&blobs).expect("blobs in memory");
    for codec in [Codec::Gz, Codec::Xz, Codec::Zst] {
        let stream = encode(codec, &file, &Outline::default(), &blobs).0;
        let all = stream.read_all(&blobs).expect("blobs in memory");
        assert_eq!(all.len() as u64, stream.len());
        assert!(decode(codec, &all) == raw, "{codec:?}");
        let from = from % stream.len();
        let to = (from + len).min(stream.len());
        let part = stream.slice(from..to).read_all(&blobs).expect("blobs in memory");
        assert!(part == all[from as usize..to as usize], "{codec:?} {from} {to}");
        assert_eq!(VirtualFile::decode(stream.encode()).as_ref(), Ok(&stream));
    }
});
