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
    (0u8..4, prop::collection::vec(any::<u8>(), 1..40), 0u64..6)
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
            _ => {
                extents.push(Extent::Repeat { unit: bytes.clone().into(), times: *n });
                expected.extend(bytes.repeat(*n as usize));
            }
        }
    }
    (VirtualFile::from_extents(extents), expected, blobs)
}

proptest! {
    #[test]
    fn any_range_reads_as_the_bytes_do(parts in prop::collection::vec(extent(), 0..8), a in 0u64..400, b in 0u64..400, max in 1u64..50) {
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
    fn the_stored_form_round_trips(parts in prop::collection::vec(extent(), 0..8)) {
        let (file, _, _) = build(&parts);
        prop_assert_eq!(VirtualFile::decode(file.encode()).unwrap(), file);
    }

    #[test]
    fn damaged_lists_are_refused_and_never_panic(parts in prop::collection::vec(extent(), 1..4), at in 0usize..200, bit in 0u8..8, cut in 0usize..200) {
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
        file.pieces(0..file.len(), &Blobs::default() as &dyn ReadBlob, 64 << 10).map(|piece| piece.unwrap()).collect();
    assert_eq!(pieces.iter().map(Bytes::len).collect::<Vec<_>>(), [64 << 10, 64 << 10, 148_000 - (128 << 10)]);
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
