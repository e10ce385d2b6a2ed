use std::collections::HashMap;
use std::io::Read;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::virtual_file::{Endian, Extent, ReadBlob, ReadError, Width};

const CODECS: [Codec; 3] = [Codec::Gz, Codec::Xz, Codec::Zst];

/// Blobs, and what is known of them.
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
        let blob = self.blobs.get(digest).filter(|_| self.knows_sums)?;
        Some(crc32fast::hash(&blob[range.start as usize..range.end as usize]))
    }

    fn packed(&self, codec: Codec, digest: &Digest, range: Range<u64>) -> Option<VirtualFile> {
        let packed = self.packed.get(&(codec, *digest))?;
        (range.start == 0 && range.end == self.blobs[digest].len() as u64).then(|| packed.clone())
    }
}

impl Blobs {
    fn add(&mut self, bytes: Vec<u8>) -> VirtualFile {
        let (digest, len) = (Digest::of(&bytes), bytes.len() as u64);
        self.blobs.insert(digest, bytes.into());
        VirtualFile::blob(digest, len)
    }

    /// A blob, prepared for every codec.
    fn add_packed(&mut self, bytes: Vec<u8>) -> VirtualFile {
        let file = self.add(bytes.clone());
        for codec in CODECS {
            let mut packed = Vec::new();
            pack(codec, &mut &bytes[..], bytes.len() as u64, &mut packed).unwrap();
            if shrinks(bytes.len() as u64, packed.len() as u64) {
                let packed = self.add(packed);
                self.packed.insert((codec, file.blobs()[0].0), packed);
            }
        }
        file
    }
}

/// What an independent decoder makes of a stream.
fn decode(codec: Codec, stream: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match codec {
        // Not the one of many members: ours is a single one.
        Codec::Gz => {
            let mut decoder = flate2::bufread::GzDecoder::new(stream);
            decoder.read_to_end(&mut out).unwrap();
            assert!(decoder.into_inner().is_empty());
        }
        Codec::Xz => drop(liblzma::read::XzDecoder::new(stream).read_to_end(&mut out).unwrap()),
        Codec::Zst => drop(zstd::Decoder::new(stream).unwrap().read_to_end(&mut out).unwrap()),
    }
    out
}

/// Bytes that do not shrink.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..len).map(next).collect()
}

/// Bytes that do.
fn text(len: usize, seed: u64) -> Vec<u8> {
    (0..len as u64)
        .flat_map(|line| format!("line {} of {seed}\n", line.wrapping_mul(seed) % 1000).into_bytes())
        .take(len)
        .collect()
}

/// Lengths that are mostly near those where something changes.
fn length() -> impl Strategy<Value = u64> {
    let edge = prop::sample::select(vec![1u64, 258, 4096, 32 << 10, 0xFFFF, 64 << 10, 128 << 10, 1 << 20, 2 << 20]);
    prop_oneof![1u64..6000, (edge, 0u64..5, 1u64..3).prop_map(|(edge, over, times)| (edge * times + over).max(3) - 2)]
}

fn build(parts: &[(u8, u64, u64)], knows_sums: bool) -> (VirtualFile, Blobs) {
    let mut blobs = Blobs { knows_sums, ..Blobs::default() };
    let parts: Vec<VirtualFile> = parts
        .iter()
        .map(|(kind, len, seed)| match kind {
            0 => VirtualFile::inline(noise((*len).min(70_000) as usize, *seed)),
            1 => blobs.add(noise(*len as usize, *seed)),
            2 => blobs.add_packed(text((*len).min(200_000) as usize, *seed)),
            3 => blobs.add(noise(*len as usize, *seed)).slice(1..len / 2 + 2),
            4 => VirtualFile::zeros(*len),
            5 => VirtualFile::repeat(vec![*seed as u8], *len),
            6 => VirtualFile::repeat(noise(1 + (*seed % 700) as usize, *seed), 1 + len % 50),
            _ => VirtualFile::count(*seed, 1, Width::U32, Endian::Little, 1 + len % 5000),
        })
        .collect();
    (VirtualFile::concat(parts), blobs)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn decoders_give_back_the_file_and_ranges_are_slices(
        parts in prop::collection::vec((0u8..8, length(), any::<u64>()), 0..7),
        knows_sums: bool,
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0u64..300_000), 6),
    ) {
        let (file, blobs) = build(&parts, knows_sums);
        let raw = file.read_all(&blobs).unwrap();
        for codec in CODECS {
            let stream = encode(codec, &file, &Outline::default(), &blobs).0;
            let all = stream.read_all(&blobs).unwrap();
            prop_assert_eq!(all.len() as u64, stream.len());
            prop_assert!(decode(codec, &all) == raw, "{:?}", codec);
            for (at, len) in &cuts {
                let from = at.index(all.len());
                let to = (from + *len as usize).min(all.len());
                prop_assert!(stream.slice(from as u64..to as u64).read_all(&blobs).unwrap() == all[from..to]);
            }
            prop_assert_eq!(VirtualFile::decode(stream.encode()).unwrap(), stream);
        }
    }
}

/// A disk image in small: what stays, what shrinks, what is empty.
fn image() -> (VirtualFile, Blobs) {
    let (parts, mut blobs) = ([(0, 600, 1), (4, 5 << 20, 0), (1, 3_000_000, 2)], Blobs::default());
    let (head, more) = build(&parts, true);
    blobs.blobs.extend(more.blobs);
    blobs.knows_sums = true;
    let kernel = blobs.add(text(1_000_000, 7));
    let tail = [kernel, VirtualFile::zeros((6 << 30) + 12_345), VirtualFile::inline("the end")];
    (VirtualFile::concat([head].into_iter().chain(tail)), blobs)
}

#[test]
fn streams_are_short_lists_of_known_bytes() {
    let (image, blobs) = image();
    let digests = CODECS.map(|codec| {
        let stream = encode(codec, &image, &Outline::default(), &blobs).0;
        assert!(stream.encode().len() < 4096 + 2 * 1024 * usize::from(codec == Codec::Gz), "{codec:?}");
        // Neither the run of 6 GiB, nor block headers may weigh more than this.
        assert!(stream.len() < 4_020_000 + (6 << 30) / 1000, "{codec:?}: {}", stream.len());
        // All but the middle of the great run.
        let (head, tail) = (stream.slice(0..4_200_000), stream.slice(stream.len() - 20_000..stream.len()));
        let ends = [head.read_all(&blobs).unwrap(), tail.read_all(&blobs).unwrap()].concat();
        (stream.len(), Digest::of(&ends).to_string())
    });
    assert_eq!(digests.each_ref().map(|(len, digest)| (*len, digest.as_str())), GOLDEN);
}

/// Lengths and digests of what [`image`] becomes: they change with the layout, and then the layout's revision must.
const GOLDEN: [(u64, &str); 3] = [
    (10_457_485, "sha256:01a8de6cc491823c3c062331a5b38daa648a258360eedf7c5a02650a01b9df8b"),
    (5_087_200, "sha256:14cf2c2b2f35f40c43263453ef402b22d887d7096847208af8afd9ddba066fcc"),
    (4_197_495, "sha256:a631f23b653405ccfc67f172073f553733425844614959f21326ce13dd8f6248"),
];

#[test]
fn an_empty_file_is_a_stream_too() {
    for codec in CODECS {
        let stream = encode(codec, &VirtualFile::empty(), &Outline::default(), &Blobs::default())
            .0
            .read_all(&Blobs::default())
            .unwrap();
        assert!(!stream.is_empty());
        assert!(decode(codec, &stream).is_empty());
    }
}

#[test]
fn what_was_prepared_is_put_in_as_it_is() {
    let mut blobs = Blobs { knows_sums: true, ..Blobs::default() };
    let kernel = blobs.add_packed(text(300_000, 3));
    let parts = [VirtualFile::zeros(70_000), kernel.clone(), kernel.clone(), VirtualFile::inline("x"), kernel.clone()];
    let image = VirtualFile::concat(parts);
    let raw = image.read_all(&blobs).unwrap();
    for codec in CODECS {
        let packed = blobs.packed[&(codec, kernel.blobs()[0].0)].clone();
        let stream = encode(codec, &image, &Outline::default(), &blobs).0;
        assert_eq!(stream.blobs(), vec![packed.blobs()[0]; 3], "{codec:?}");
        assert!(stream.len() < 3 * packed.len() + 1000, "{codec:?}");
        assert!(decode(codec, &stream.read_all(&blobs).unwrap()) == raw, "{codec:?}");
    }
}

#[test]
fn sums_that_are_not_known_are_made_when_they_are_read() {
    let mut blobs = Blobs::default();
    let file = blobs.add(noise(100_000, 5));
    let coded = |stream: &VirtualFile| stream.extents().iter().filter(|e| matches!(e, Extent::Coded { .. })).count();
    for (codec, sums) in [(Codec::Gz, 1), (Codec::Xz, 1), (Codec::Zst, 0)] {
        blobs.knows_sums = false;
        let unknown = encode(codec, &file, &Outline::default(), &blobs).0;
        blobs.knows_sums = true;
        let known = encode(codec, &file, &Outline::default(), &blobs).0;
        assert_eq!((coded(&unknown), coded(&known)), (sums, 0), "{codec:?}");
        assert_eq!(unknown.read_all(&blobs).unwrap(), known.read_all(&blobs).unwrap());
    }
}

#[test]
fn packing_holds_to_the_promised_length() {
    for codec in CODECS {
        for promised in [99, 101] {
            let done = pack(codec, &mut &[1; 100][..], promised, &mut Vec::new());
            assert!(done.is_err(), "{codec:?} {promised}");
        }
        pack(codec, &mut &[][..], 0, &mut Vec::new()).unwrap();
    }
    assert!(shrinks(1000, 989) && !shrinks(1000, 990) && !shrinks(0, 0));
}
