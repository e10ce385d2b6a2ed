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

/// An extent with the bytes that it must read as.
fn extent() -> impl Strategy<Value = (u8, Vec<u8>, u64)> {
    (0u8..3, prop::collection::vec(any::<u8>(), 1..40), 0u64..6)
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
