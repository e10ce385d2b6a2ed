//! What every store must do; one suite for all of them.

use std::io::Write as _;

use super::*;

/// Runs the suite on an empty store.
fn run(store: &dyn BlobStore) {
    let bytes: Vec<u8> = (0..700_000u32).flat_map(u32::to_le_bytes).collect();
    let digest = Digest::of(&bytes);
    assert!(store.open(&digest).unwrap().is_none());

    let mut dropped = store.writer().unwrap();
    dropped.write_all(b"dropped").unwrap();
    drop(dropped);
    assert!(store.open(&Digest::of(b"dropped")).unwrap().is_none());

    let mut wrong = store.writer().unwrap();
    wrong.write_all(b"wrong").unwrap();
    let refused = wrong.commit(Some(&digest)).unwrap_err();
    assert!(matches!(refused, StoreError::Mismatch { expected, .. } if expected == digest));
    assert!(store.open(&Digest::of(b"wrong")).unwrap().is_none());

    let mut writer = store.writer().unwrap();
    for part in bytes.chunks(100_001) {
        writer.write_all(part).unwrap();
    }
    assert_eq!(writer.commit(Some(&digest)).unwrap(), (digest, bytes.len() as u64));
    assert_eq!(store.put(&bytes, None).unwrap().0, digest);
    let file = store.open(&digest).unwrap().unwrap();
    assert_eq!(file, VirtualFile::blob(digest, bytes.len() as u64));
    for range in [0..0, 0..1, 262_143..262_145, 1_000_000..2_800_000, 2_799_999..2_800_000] {
        let want = &bytes[range.start as usize..range.end as usize];
        assert_eq!(&store.read(&digest, range.clone()).unwrap()[..], want, "{range:?}");
    }
    assert!(matches!(store.read(&digest, 0..2_800_001), Err(ReadError::OutOfRange { .. })));
    assert!(matches!(store.read(&Digest::of(b"none"), 0..1), Err(ReadError::Missing(_))));
    if let Some(ready) = store.read_ready(&digest, 5..10) {
        assert_eq!(&ready[..], &bytes[5..10]);
    }
    assert!(store.read_ready(&Digest::of(b"none"), 0..1).is_none());

    let (empty, _) = store.put(b"", None).unwrap();
    assert_eq!(store.open(&empty).unwrap().unwrap().len(), 0);

    let mut prepared = store.writer().unwrap();
    prepared.write_all(b"prepared").unwrap();
    let (placed, len) = prepared.place().unwrap();
    assert_eq!((placed, len), (Digest::of(b"prepared"), 8));
    assert_eq!(store.put(b"prepared", Some(&placed)).unwrap(), (placed, len));
    assert_eq!(&store.read(&placed, 0..8).unwrap()[..], b"prepared");
    store.put_record(RecordKind::Prepared, "key", b"value").unwrap();
    assert_eq!(store.record(RecordKind::Prepared, "key").unwrap().as_deref(), Some(&b"value"[..]));

    let announced = VirtualFile::concat([VirtualFile::inline("head"), file.slice(10..500)]);
    let name = Digest::of(b"announced");
    store.announce(&name, &announced).unwrap();
    assert_eq!(store.open(&name).unwrap(), Some(announced));

    assert_eq!(store.record(RecordKind::Tag, "a/b:c").unwrap(), None);
    store.put_record(RecordKind::Tag, "a/b:c", b"one").unwrap();
    store.put_record(RecordKind::Tag, "a/b:c", b"two").unwrap();
    store.put_record(RecordKind::Tag, "\u{e9}", b"").unwrap();
    store.put_record(RecordKind::Verdict, "a/b:c", b"other").unwrap();
    assert_eq!(store.record(RecordKind::Tag, "a/b:c").unwrap().as_deref(), Some(&b"two"[..]));
    assert_eq!(store.record_keys(RecordKind::Tag).unwrap(), ["a/b:c", "\u{e9}"]);
    store.remove_record(RecordKind::Tag, "a/b:c").unwrap();
    store.remove_record(RecordKind::Tag, "a/b:c").unwrap();
    assert_eq!(store.record(RecordKind::Tag, "a/b:c").unwrap(), None);
    assert_eq!(store.record_keys(RecordKind::Verdict).unwrap(), ["a/b:c"]);
    for value in [&b"text"[..], b"text"] {
        store.put_record(RecordKind::Schematic, "id", value).unwrap();
    }
    assert!(matches!(store.remove_record(RecordKind::Schematic, "id"), Err(StoreError::Kept(_))));
    assert_eq!(store.record(RecordKind::Schematic, "id").unwrap().as_deref(), Some(&b"text"[..]));
    for bad in ["", "a\nb", &"x".repeat(1025)] {
        assert!(matches!(store.put_record(RecordKind::Tag, bad, b""), Err(StoreError::Name(_))), "{bad:?}");
    }
}

#[test]
fn the_store_in_memory() {
    run(&MemoryStore::default());
}

#[test]
fn the_store_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    run(&FileStore::open(FileStoreConfig { path: folder.path().join("new/store"), max_size: None }).unwrap());
}
