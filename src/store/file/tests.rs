use std::io::Write as _;

use super::*;

fn open(path: &Path, max_size: Option<u64>) -> FileStore {
    FileStore::open(FileStoreConfig { path: path.to_owned(), max_size }).unwrap()
}

fn bytes(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|n| (n as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

fn put(store: &FileStore, bytes: &[u8]) -> Digest {
    let store: &dyn BlobStore = store;
    store.put(bytes, None).unwrap().0
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let blob = bytes(1, 600_000);
    let digest = {
        let store = open(folder.path(), None);
        store.put_record(RecordKind::Schematic, "id", b"text").unwrap();
        store.announce(&Digest::of(b"v"), &VirtualFile::inline("v")).unwrap();
        put(&store, &blob)
    };
    let store = open(folder.path(), None);
    assert_eq!(&store.read(&digest, 0..600_000).unwrap()[..], &blob[..]);
    assert_eq!(&store.read_ready(&digest, 0..600_000).unwrap()[..], &blob[..]);
    assert_eq!(store.record(RecordKind::Schematic, "id").unwrap().as_deref(), Some(&b"text"[..]));
    assert!(store.open(&Digest::of(b"v")).unwrap().is_some());
    assert!(store.fsck(false).unwrap().is_clean());
}

#[test]
fn a_damaged_chunk_is_not_served_and_the_blob_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), None);
    let digest = put(&store, &bytes(2, 900_000));
    let path = folder.path().join("blobs/sha256").join(digest.hex());
    let mut damaged = fs::read(&path).unwrap();
    damaged[300_000] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, damaged).unwrap();
    assert!(store.read(&digest, 0..1000).is_ok());
    assert!(store.read_ready(&digest, 262_144..262_145).is_none());
    assert!(matches!(store.read(&digest, 299_999..300_001), Err(ReadError::Damaged(_))));
    assert!(store.open(&digest).unwrap().is_none());
    assert!(matches!(store.read(&digest, 0..1), Err(ReadError::Missing(_))));
    assert_eq!(put(&store, &bytes(2, 900_000)), digest);
    assert!(store.read(&digest, 299_999..300_001).is_ok());
}

#[test]
fn the_least_recently_used_blobs_make_room() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), Some(10_000));
    let old = put(&store, &bytes(1, 4000));
    let used = put(&store, &bytes(2, 4000));
    store.put_record(RecordKind::Tag, "kept", &[0; 9000]).unwrap();
    assert!(store.open(&old).unwrap().is_some() && store.open(&used).unwrap().is_some());
    store.open(&old).unwrap();
    let mapped = store.read(&used, 0..4000).unwrap();
    let new = put(&store, &bytes(3, 4000));
    assert!(store.open(&used).unwrap().is_none(), "used least recently");
    assert_eq!(&mapped[..], &bytes(2, 4000)[..], "readers keep what they have");
    assert!(store.open(&old).unwrap().is_some() && store.open(&new).unwrap().is_some());
    assert!(store.record(RecordKind::Tag, "kept").unwrap().is_some());
    let mut writer = store.writer().unwrap();
    writer.write_all(&bytes(4, 10_001)).unwrap();
    assert!(writer.commit(None).unwrap_err().is_full());
    assert!(store.open(&new).unwrap().is_some(), "nothing goes for what can't fit");
}

#[test]
fn leftovers_of_the_dead_are_swept_and_those_of_the_living_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let alive = open(folder.path(), None);
    let mut writer = alive.writer().unwrap();
    writer.write_all(b"half").unwrap();
    let dead = folder.path().join("tmp/dead");
    fs::create_dir(&dead).unwrap();
    fs::write(dead.join("lock"), b"").unwrap();
    fs::write(dead.join("0"), b"leftover").unwrap();
    let second = open(folder.path(), None);
    assert!(!dead.exists());
    writer.write_all(b"whole").unwrap();
    let (digest, _) = writer.commit(None).unwrap();
    assert!(second.open(&digest).unwrap().is_some(), "stores share a folder");
    drop((alive, second));
    assert!(entries(&folder.path().join("tmp")).unwrap().is_empty(), "nothing is left");
}

#[test]
fn a_blob_that_another_process_dropped_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (open(folder.path(), None), open(folder.path(), None));
    let digest = put(&first, b"shared");
    second.shared.drop_blob(&digest).unwrap();
    assert_eq!(put(&first, b"shared"), digest);
    assert_eq!(&first.read(&digest, 0..6).unwrap()[..], b"shared");
}

#[test]
fn fsck_finds_and_drops_what_is_bad() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), None);
    let good = put(&store, b"good");
    let bad = put(&store, b"bad");
    store.announce(&good, &VirtualFile::inline("x")).unwrap();
    store.put_record(RecordKind::Tag, "a", b"x").unwrap();
    store.index_image("x/y:z", "application/vnd.oci.image.manifest.v1+json", &bad, 3).unwrap();
    fs::write(folder.path().join("blobs/sha256").join(bad.hex()), b"BAD").unwrap();
    fs::write(store.shared.virtual_blob(&good), b"junk").unwrap();
    fs::write(store.shared.record(RecordKind::Tag, "a"), b"junk").unwrap();
    let report = store.fsck(false).unwrap();
    assert_eq!(report.problems.len(), 3, "{report}");
    assert_eq!(store.fsck(true).unwrap().problems.len(), 4, "a dropped blob is missed by the index");
    let report = store.fsck(false).unwrap();
    assert!(report.is_clean() && report.blobs == 1 && report.records == 0, "{report}");
}

#[test]
fn a_full_disk_is_told_apart() {
    let full = StoreError::Io { doing: "x".to_owned(), source: io::Error::from(io::ErrorKind::StorageFull) };
    assert!(full.is_full());
    // Linux has a device that is always full.
    let mut device = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let error = device.write_all(b"x").unwrap_err();
    assert!(StoreError::Io { doing: "x".to_owned(), source: error }.is_full());
}
