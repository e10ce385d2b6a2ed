use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};

use proptest::prelude::*;

use super::*;

/// Blobs in memory.
#[derive(Default)]
struct Blobs(HashMap<Digest, Bytes>);

impl ReadBlob for Blobs {
    fn read(&self, digest: &Digest, range: Range<u64>) -> Result<Bytes, ReadError> {
        let blob = self.0.get(digest).ok_or(ReadError::Missing(*digest))?;
        if range.end > blob.len() as u64 {
            return Err(ReadError::OutOfRange { digest: *digest, range });
        }
        Ok(blob.slice(range.start as usize..range.end as usize))
    }
}

impl Blobs {
    fn add(&mut self, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        self.0.insert(digest, bytes.into());
        digest
    }
}

/// An extent's kind, and from what it and the bytes that it must read as are made.
fn extent() -> impl Strategy<Value = (u8, Vec<u8>, u64)> {
    (0u8..6, prop::collection::vec(any::<u8>(), 1..40), 0u64..6)
}

fn build(parts: &[(u8, Vec<u8>, u64)]) -> (VirtualFile, Vec<u8>, Blobs) {
    let (mut extents, mut expected, mut blobs) = (Vec::new(), Vec::new(), Blobs::default());
    for (kind, bytes, n) in parts {
        match kind {
            0 => {
                extents.push(Extent::Inline(bytes.clone().into()));
                expected.extend_from_slice(bytes);
            }
            1 => {
                let offset = (*n).min(bytes.len() as u64);
                let len = bytes.len() as u64 - offset;
                extents.push(Extent::Blob { digest: blobs.add(bytes.clone()), offset, len });
                expected.extend_from_slice(&bytes[offset as usize..]);
            }
            2 => {
                let width = Width::new(bytes[0] % 8 + 1).unwrap();
                let endian = if bytes.len() % 2 == 0 { Endian::Little } else { Endian::Big };
                let number =
                    |at: usize| bytes.iter().skip(at).take(8).fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
                let (first, step) = (number(1), number(9));
                extents.push(Extent::Count { first, step, width, endian, times: *n });
                for k in 0..*n {
                    let number = first.wrapping_add(step.wrapping_mul(k));
                    let size = usize::from(width.bytes());
                    match endian {
                        Endian::Little => expected.extend_from_slice(&number.to_le_bytes()[..size]),
                        Endian::Big => expected.extend_from_slice(&number.to_be_bytes()[8 - size..]),
                    }
                }
            }
            3 => {
                // A blob and repeats of it, in short blocks, and those in longer ones.
                let source = [VirtualFile::blob(blobs.add(bytes.clone()), bytes.len() as u64), VirtualFile::zeros(*n)];
                let raw = [&bytes[..], &vec![0; *n as usize]].concat();
                let (block, header) = (1 + bytes.len() % 7, &bytes[..1 + bytes.len() / 20]);
                let once = VirtualFile::framed(header.to_vec(), block as u64, &VirtualFile::concat(source));
                let framed = |raw: &[u8], block: usize, header: &[u8]| {
                    raw.chunks_exact(block).flat_map(|block| [header, block].concat()).collect::<Vec<u8>>()
                };
                let raw = framed(&raw, block, header);
                extents.extend(once.extents().iter().cloned());
                extents.extend(VirtualFile::framed("(outer)", 3 + n, &once).extents().iter().cloned());
                expected.extend_from_slice(&raw);
                expected.extend(framed(&raw, 3 + *n as usize, b"(outer)"));
            }
            4 => {
                let source = VirtualFile::blob(blobs.add(bytes.clone()), bytes.len() as u64);
                let coder = if *n % 2 == 0 { Coder::Sha256Hex } else { Coder::Crc32 };
                extents.extend(VirtualFile::coded(coder, source).extents().iter().cloned());
                match coder {
                    Coder::Sha256Hex => expected.extend(hex::encode(Digest::of(bytes).raw()).bytes()),
                    _ => expected.extend(crc32fast::hash(bytes).to_le_bytes()),
                }
            }
            _ => {
                extents.push(Extent::Repeat { unit: bytes.clone().into(), times: *n });
                expected.extend(bytes.repeat(*n as usize));
            }
        }
    }
    (VirtualFile::from_extents(extents), expected, blobs)
}

/// Bytes of a grain as written.
const GRAIN: u64 = 129 * 512;

proptest! {
    #[test]
    fn any_range_reads_as_the_bytes_do(parts in prop::collection::vec(extent(), 0..8), a in 0u64..700, b in 0u64..700, max in 1u64..50) {
        let (file, expected, blobs) = build(&parts);
        prop_assert_eq!(file.len(), expected.len() as u64);
        let (from, to) = (a.min(b), a.max(b));
        let want = &expected[(from as usize).min(expected.len())..(to as usize).min(expected.len())];
        let slice = file.slice(from..to);
        prop_assert_eq!(&slice.read_all(&blobs).unwrap()[..], want);
        let mut got = Vec::new();
        for piece in file.pieces(from..to, &blobs as &dyn ReadBlob, max) {
            got.extend_from_slice(&piece.unwrap());
        }
        prop_assert_eq!(&got[..], want);
        let mut reader = file.reader(&blobs as &dyn ReadBlob);
        reader.seek(SeekFrom::Start(from)).unwrap();
        let mut got = Vec::new();
        reader.take(to - from).read_to_end(&mut got).unwrap();
        prop_assert_eq!(&got[..], want);
    }

    #[test]
    fn a_count_cut_between_numbers_is_joined_again(first: u64, step: u64, width in 1u8..9, big: bool, times in 2u64..50, at in 1u64..50) {
        let (width, endian) = (Width::new(width).unwrap(), if big { Endian::Big } else { Endian::Little });
        let whole = VirtualFile::count(first, step, width, endian, times);
        let at = at.min(times - 1) * u64::from(width.bytes());
        let (head, tail) = (whole.slice(0..at), whole.slice(at..whole.len()));
        prop_assert_eq!(head.extents().len() + tail.extents().len(), 2);
        prop_assert_eq!(VirtualFile::concat([head.clone(), tail.clone()]), whole);
        let (blobs, turned) = (Blobs::default(), VirtualFile::concat([tail.clone(), head.clone()]));
        let expected = [tail.read_all(&blobs).unwrap(), head.read_all(&blobs).unwrap()].concat();
        prop_assert_eq!(turned.read_all(&blobs).unwrap(), expected);
    }

    #[test]
    fn framed_and_coded_files_cut_between_blocks_are_joined_again(blocks in 2u64..9, at in 1u64..9, seed: u64) {
        let digest = Digest::of(&seed.to_le_bytes());
        let at = at.min(blocks - 1);
        let framed = VirtualFile::framed("head", 10, &VirtualFile::blob(digest, blocks * 10));
        let coded = |coder, len| VirtualFile::coded(coder, VirtualFile::blob(digest, len));
        let grains = coded(Coder::VmdkGrains { first_sector: seed / 2 }, blocks << 16);
        for (whole, at) in [(framed, at * 14), (grains, at * GRAIN), (coded(Coder::Sha256Hex, seed), at)] {
            let (head, tail) = (whole.slice(0..at), whole.slice(at..whole.len()));
            prop_assert_eq!((whole.extents().len(), head.extents().len(), tail.extents().len()), (1, 1, 1));
            prop_assert_eq!(VirtualFile::concat([head, tail]), whole);
        }
    }

    #[test]
    fn the_stored_form_round_trips(parts in prop::collection::vec(extent(), 0..8)) {
        let (file, _, _) = build(&parts);
        prop_assert_eq!(VirtualFile::decode(file.encode()).unwrap(), file);
    }

    #[test]
    fn damaged_lists_are_refused_and_never_panic(parts in prop::collection::vec(extent(), 1..4), at in 0usize..900, bit in 0u8..8, cut in 0usize..900) {
        let (file, _, _) = build(&parts);
        let mut stored = file.encode();
        let at = at % stored.len();
        prop_assert!(VirtualFile::decode(stored[..cut % stored.len()].to_vec()).is_err());
        stored[at] ^= 1 << bit;
        let _ = VirtualFile::decode(stored);
    }
}

#[test]
fn neighbours_are_joined() {
    let digest = Digest::of(b"x");
    let whole = VirtualFile::blob(digest, 100);
    assert_eq!(VirtualFile::concat([whole.slice(0..40), whole.slice(40..100)]), whole);
    assert_eq!(VirtualFile::concat([VirtualFile::zeros(3), VirtualFile::zeros(4)]), VirtualFile::zeros(7));
    assert_eq!(VirtualFile::concat([VirtualFile::inline("ab"), VirtualFile::inline("c")]), VirtualFile::inline("abc"));
    let count = |first, width, endian| VirtualFile::count(first, 2, width, endian, 3);
    let two = |other| VirtualFile::concat([count(250, Width::U16, Endian::Little), other]).extents().len();
    assert_eq!(two(count(256, Width::U16, Endian::Little)), 1);
    assert_eq!(two(count(257, Width::U16, Endian::Little)), 2);
    assert_eq!(two(count(256, Width::U32, Endian::Little)), 2);
    assert_eq!(two(count(256, Width::U16, Endian::Big)), 2);
}

#[test]
fn long_runs_are_read_in_long_pieces() {
    let file = VirtualFile::concat([VirtualFile::inline("head"), VirtualFile::zeros(1 << 30)]);
    let lengths: Vec<usize> = file
        .pieces(0..file.len(), &Blobs::default() as &dyn ReadBlob, 256 << 10)
        .map(|piece| piece.unwrap().len())
        .collect();
    assert_eq!((lengths[0], lengths[1], lengths.len()), (4, 256 << 10, 1 + (4 << 10)));
    let numbers = VirtualFile::count(3, 1, Width::U32, Endian::Little, 1 << 20);
    assert_eq!(numbers.pieces(0..numbers.len(), &Blobs::default() as &dyn ReadBlob, 1 << 20).count(), 256);
}

#[test]
fn short_extents_are_read_together() {
    let one = [
        VirtualFile::inline("head"),
        VirtualFile::zeros(100),
        VirtualFile::count(1, 1, Width::U64, Endian::Big, 3),
        VirtualFile::repeat("unit", 5),
    ];
    let file = VirtualFile::concat(std::iter::repeat_n(one, 1000).flatten());
    assert_eq!((file.extents().len(), file.len()), (4000, 148_000));
    let pieces: Vec<Bytes> =
        file.pieces(0..file.len(), &Blobs::default() as &dyn ReadBlob, 8 << 10).map(|piece| piece.unwrap()).collect();
    let lengths: Vec<usize> = pieces.iter().map(Bytes::len).collect();
    assert_eq!(lengths, [vec![8 << 10; 18], vec![148_000 - 18 * (8 << 10)]].concat());
    let mut all = Vec::new();
    file.reader(&Blobs::default() as &dyn ReadBlob).read_to_end(&mut all).unwrap();
    assert_eq!(all, pieces.concat());
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    let count = |width: u8, endian: u8, first: u64, times: u64| {
        let mut stored = b"IFX\x01\x01\0\0\0\x04".to_vec();
        stored.extend_from_slice(&first.to_le_bytes());
        stored.extend_from_slice(&1u64.to_le_bytes());
        stored.extend_from_slice(&[width, endian]);
        stored.extend_from_slice(&times.to_le_bytes());
        VirtualFile::decode(stored).map(|file| file.len())
    };
    assert_eq!(count(4, 0, u64::from(u32::MAX), u64::MAX / 4), Ok(u64::MAX / 4 * 4));
    let refused = [
        (0, 0, 1, 1),
        (9, 0, 1, 1),
        (4, 2, 1, 1),
        (4, 0, 1 << 32, 1),
        (4, 0, 1, u64::MAX / 4 + 1),
        (8, 1, 1, u64::MAX / 2),
    ];
    for (width, endian, first, times) in refused {
        assert_eq!(count(width, endian, first, times), Err(DecodeError::Damaged), "{width} {endian} {first} {times}");
    }
}

/// Lists that this version's predecessors stored must stay readable: the golden form of version 1.
#[test]
fn version_one_stays_readable() {
    let stored = concat!(
        "49465801",
        "03000000",
        "01",
        "02000000",
        "6869",
        "02",
        "0101010101010101010101010101010101010101010101010101010101010101",
        "0500000000000000",
        "0700000000000000",
        "03",
        "01000000",
        "00",
        "0900000000000000",
    );
    let file = VirtualFile::concat([
        VirtualFile::inline("hi"),
        VirtualFile::blob(Digest::from_raw([1; 32]), 100).slice(5..12),
        VirtualFile::zeros(9),
    ]);
    assert_eq!(VirtualFile::decode(hex::decode(stored).unwrap()).unwrap(), file);
    assert_eq!(hex::encode(file.encode()), stored);
}

/// The variant that came later, in the same version.
#[test]
fn numbers_stay_readable() {
    let stored = concat!(
        "49465801",
        "02000000",
        "04",
        "0300000000000000",
        "0100000000000000",
        "04",
        "00",
        "0500000000000000",
        "04",
        "0000010000000000",
        "0000020000000000",
        "08",
        "01",
        "0700000000000000",
    );
    let file = VirtualFile::concat([
        VirtualFile::count(3, 1, Width::U32, Endian::Little, 5),
        VirtualFile::count(0x10000, 0x20000, Width::U64, Endian::Big, 7),
    ]);
    assert_eq!(VirtualFile::decode(hex::decode(stored).unwrap()).unwrap(), file);
    assert_eq!(hex::encode(file.encode()), stored);
    let read = file.slice(16..36).read_all(&Blobs::default()).unwrap();
    assert_eq!(hex::encode(read), "0700000000000000000100000000000000030000");
}

/// The variants that came with compressed streams, in the same version.
#[test]
fn framed_and_coded_stay_readable() {
    let source = concat!("01000000", "03", "01000000", "61", "0000010000000000");
    let stored = [
        "49465801",
        "03000000",
        "05",
        "02000000",
        "6869",
        "0080000000000000",
        source,
        "06",
        "01",
        "0200000000000000",
        "4000000000000000",
        source,
        "06",
        "03",
        "0700000000000000",
        "0100000000000000",
        "0002010000000000",
        source,
    ]
    .concat();
    let source = VirtualFile::repeat("a", 1 << 16);
    let digest = VirtualFile::coded(Coder::Sha256Hex, source.clone());
    let grain = VirtualFile::coded(Coder::VmdkGrains { first_sector: 7 }, source.clone());
    let file = VirtualFile::concat([
        VirtualFile::framed("hi", 1 << 15, &source),
        digest.slice(2..64),
        grain.slice(1..grain.len()),
    ]);
    assert_eq!(VirtualFile::decode(hex::decode(&stored).unwrap()).unwrap(), file);
    assert_eq!(hex::encode(file.encode()), stored);
    assert_eq!(file.len(), 2 * (2 + (1 << 15)) + 62 + 129 * 512 - 1);
}

#[test]
fn sources_that_cannot_be_are_refused() {
    let nested = |depth: usize| {
        let mut file = VirtualFile::zeros(64);
        for _ in 0..depth {
            file = VirtualFile::coded(Coder::Sha256Hex, file);
        }
        VirtualFile::decode(file.encode())
    };
    assert!(nested(8).is_ok());
    assert_eq!(nested(9), Err(DecodeError::Damaged));
    let with = |at: usize, byte: u8, file: &VirtualFile| {
        let mut stored = file.encode();
        stored[at] = byte;
        VirtualFile::decode(stored)
    };
    let framed = VirtualFile::framed("h", 4, &VirtualFile::zeros(8));
    for (block, fits) in [(0, false), (2, true), (3, false), (8, true), (16, false)] {
        assert_eq!(with(14, block, &framed).is_ok(), fits, "blocks of {block}");
    }
    let digest = VirtualFile::coded(Coder::Sha256Hex, VirtualFile::zeros(1));
    assert_eq!(with(18, 65, &digest), Err(DecodeError::Damaged));
    assert_eq!(with(9, 4, &digest), Err(DecodeError::Damaged));
    let grain = VirtualFile::coded(Coder::VmdkGrains { first_sector: 0 }, VirtualFile::zeros(1 << 16));
    let end = grain.encode().len();
    assert_eq!(with(end - 7, 1, &grain), Err(DecodeError::Damaged), "half a grain");
}

#[test]
fn grains_are_zlib_streams_behind_markers() {
    let raw: Vec<u8> = (0..5u32 << 16).map(|at| ((at / 3) ^ (at / 1000)) as u8).collect();
    let mut blobs = Blobs::default();
    let source = VirtualFile::blob(blobs.add(raw.clone()), raw.len() as u64);
    let grains = VirtualFile::coded(Coder::VmdkGrains { first_sector: 1 << 40 }, source);
    let all = grains.read_all(&blobs).unwrap();
    assert_eq!(all.len(), 5 * GRAIN as usize);
    for (index, (grain, raw)) in all.chunks(GRAIN as usize).zip(raw.chunks(1 << 16)).enumerate() {
        assert_eq!(grain[..8], ((1u64 << 40) + 128 * index as u64).to_le_bytes());
        let len = u32::from_le_bytes(grain[8..12].try_into().unwrap()) as usize;
        let mut zlib = flate2::read::ZlibDecoder::new(&grain[12..12 + len]);
        let mut out = Vec::new();
        zlib.read_to_end(&mut out).unwrap();
        assert_eq!((&out[..], zlib.total_in()), (raw, len as u64));
        assert!(grain[12 + len..].iter().all(|byte| *byte == 0));
    }
    for range in [0..1, GRAIN - 1..GRAIN + 1, 3 * GRAIN..5 * GRAIN, 7..4 * GRAIN + 9] {
        let want = all.slice(range.start as usize..range.end as usize);
        assert_eq!(grains.slice(range.clone()).read_all(&blobs).unwrap(), want);
        let pieces = grains.pieces(range.clone(), &blobs as &dyn ReadBlob, 1 << 20).collect::<Result<Vec<_>, _>>();
        assert_eq!(pieces.unwrap().concat(), want);
        let mut reader = grains.reader(&blobs as &dyn ReadBlob);
        reader.seek(SeekFrom::Start(range.start)).unwrap();
        let mut got = vec![0; want.len()];
        reader.read_exact(&mut got).unwrap();
        assert_eq!(got, want);
    }
}

#[test]
fn framed_blobs_are_read_without_a_copy_and_coded_bytes_block() {
    let mut blobs = Blobs::default();
    let blob = blobs.add(vec![7; 1 << 20]);
    let source = VirtualFile::blob(blob, 1 << 20);
    let framed = VirtualFile::framed("abc", 1 << 17, &source);
    let lengths = framed.pieces(0..framed.len(), &blobs as &dyn ReadBlob, 256 << 10).map(|piece| piece.unwrap().len());
    assert_eq!(lengths.collect::<Vec<_>>(), [3, 1 << 17].repeat(8));
    let file = VirtualFile::concat([VirtualFile::inline("x"), VirtualFile::coded(Coder::Crc32, source)]);
    let mut pieces = file.pieces(0..5, &blobs as &dyn ReadBlob, 100);
    assert_eq!(pieces.next_ready().unwrap(), "x");
    assert_eq!(pieces.next_ready(), None);
    assert_eq!(pieces.next().unwrap().unwrap(), crc32fast::hash(&vec![7; 1 << 20]).to_le_bytes()[..]);
    assert_eq!(file.blobs(), [(blob, 1 << 20)]);
}

#[test]
fn data_is_what_is_not_zero() {
    let parts = [
        VirtualFile::inline("x"),
        VirtualFile::zeros(30),
        VirtualFile::blob(Digest::of(b"x"), 5),
        VirtualFile::count(0, 0, Width::U32, Endian::Big, 9),
        VirtualFile::inline(vec![0; 8]),
        VirtualFile::repeat("ab", 3),
    ];
    let file = VirtualFile::concat(parts);
    assert_eq!(file.data(1), [0..1, 31..36, 80..86]);
    assert_eq!(file.data(4), [0..4, 28..36, 80..86]);
    assert_eq!(file.data(16), [0..48, 80..86]);
    assert!(VirtualFile::zeros(9).data(4).is_empty());
}
