use std::cell::RefCell;
use std::io::Write as _;
use std::time::Duration;

use super::maps::CHUNK;
use super::scrub::Pace;
use super::*;
use crate::telemetry::Metrics;

thread_local! {
    /// Folders that this thread has flushed.
    pub static FLUSHED: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
}

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
fn a_blob_that_was_cut_off_is_dropped_and_written_again() {
    for (len, left) in [(10_000, 5_000), (10_000, 0), (600_000, 500_000), (600_000, 1)] {
        let folder = tempfile::tempdir().unwrap();
        let content = bytes(7, len);
        let cut = |digest: &Digest| {
            let path = folder.path().join("blobs/sha256").join(digest.hex());
            fs::OpenOptions::new().write(true).open(path).unwrap().set_len(left).unwrap();
        };
        let last = len as u64 - 1..len as u64;
        // Known by its whole length, and mapped but for its last chunk.
        for mapped in [false, true] {
            let store = open(folder.path(), None);
            let digest = put(&store, &content);
            if mapped && len as u64 > CHUNK {
                store.read(&digest, 0..1).unwrap();
            }
            cut(&digest);
            let read = store.read(&digest, last.clone());
            assert!(matches!(read, Err(ReadError::Damaged(_))), "{len} {left}: {read:?}");
            assert!(store.open(&digest).unwrap().is_none(), "{len} {left}");
        }
        // Cut off while nothing ran.
        let digest = put(&open(folder.path(), None), &content);
        cut(&digest);
        let store = open(folder.path(), None);
        assert_eq!(put(&store, &content), digest);
        assert_eq!(store.open(&digest).unwrap().unwrap().len(), len as u64);
        assert_eq!(store.read(&digest, last.clone()).unwrap()[..], content[len - 1..]);
    }
}

#[test]
fn the_least_recently_used_blobs_make_room() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), Some(10_000));
    let old = put(&store, &bytes(1, 4000));
    let used = put(&store, &bytes(2, 4000));
    store.put_record(RecordKind::Tag, "kept", &[0; 9000]).unwrap();
    assert!(store.open(&old).unwrap().is_some() && store.open(&used).unwrap().is_some());
    let mapped = store.read(&used, 0..4000).unwrap();
    store.open(&old).unwrap();
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
    fs::remove_file(store.shared.checks(&good)).unwrap();
    let report = store.fsck(false).unwrap();
    assert_eq!(report.problems.len(), 4, "{report}");
    assert_eq!(store.fsck(true).unwrap().problems.len(), 5, "a dropped blob is missed by the index");
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

/// Copies a store as a crash of the machine would leave it: nobody holds its locks.
fn crash(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for path in entries(from).unwrap() {
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            crash(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// The only folder in `tmp`, with the journals in it.
fn journals(store: &Path) -> Vec<PathBuf> {
    let scratch = entries(&store.join("tmp")).unwrap().remove(0);
    let mut found = entries(&scratch).unwrap();
    found.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("journal-"));
    found
}

/// Waits until something that a thread in the background does is done.
fn eventually(what: &str, done: impl Fn() -> bool) {
    for _ in 0..3000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what}");
}

#[test]
fn schematics_that_a_crash_keeps_from_their_place_are_put_back() {
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(folder.path(), None);
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..20 {
                    let key = format!("{thread}-{n}");
                    store.put_record(RecordKind::Schematic, &key, format!("text of {key}").as_bytes()).unwrap();
                }
            });
        }
    });
    crash(folder.path(), copy.path());
    // Names and lengths reach the disk before contents do, or not at all.
    let records = files_below(&copy.path().join("records/schematic")).unwrap();
    assert_eq!(records.len(), 320);
    for (n, path) in records.iter().enumerate() {
        match n % 4 {
            0 => fs::remove_file(path).unwrap(),
            1 => fs::write(path, b"").unwrap(),
            2 => fs::write(path, vec![0; 4096]).unwrap(),
            _ => {}
        }
    }
    let again = open(copy.path(), None);
    for thread in 0..16 {
        for n in 0..20 {
            let key = format!("{thread}-{n}");
            let found = again.record(RecordKind::Schematic, &key).unwrap().unwrap();
            assert_eq!(found, format!("text of {key}"));
        }
    }
    assert!(again.fsck(false).unwrap().is_clean());
    eventually("the journal is removed", || entries(&copy.path().join("tmp")).unwrap().len() == 1);
}

#[test]
fn a_torn_journal_gives_back_what_is_whole() {
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(folder.path(), None);
    for key in ["a", "b"] {
        store.put_record(RecordKind::Schematic, key, b"text").unwrap();
    }
    crash(folder.path(), copy.path());
    fs::remove_dir_all(copy.path().join("records/schematic")).unwrap();
    let journal = journals(copy.path()).remove(0);
    let one = sealed::seal_record("a", b"text").len() as u64 + 4;
    fs::OpenOptions::new().write(true).open(&journal).unwrap().set_len(2 * one - 1).unwrap();
    let again = open(copy.path(), None);
    assert!(again.record(RecordKind::Schematic, "a").unwrap().is_some());
    assert!(again.record(RecordKind::Schematic, "b").unwrap().is_none());
}

#[test]
fn a_full_journal_is_followed_by_a_new_one_and_removed() {
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(folder.path(), None);
    let text = bytes(1, 1 << 20);
    for n in 0..6 {
        store.put_record(RecordKind::Schematic, &n.to_string(), &text).unwrap();
    }
    eventually("the full journal is removed", || journals(folder.path()).len() == 1);
    crash(folder.path(), copy.path());
    let again = open(copy.path(), None);
    for n in 0..6 {
        assert_eq!(again.record(RecordKind::Schematic, &n.to_string()).unwrap().unwrap(), text);
    }
    drop(store);
    assert!(entries(&folder.path().join("tmp")).unwrap().is_empty(), "nothing is left");
}

#[test]
fn a_schematic_is_seen_by_every_process_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (open(folder.path(), None), open(folder.path(), None));
    first.put_record(RecordKind::Schematic, "id", b"text").unwrap();
    assert_eq!(second.record(RecordKind::Schematic, "id").unwrap().as_deref(), Some(&b"text"[..]));
}

/// Replaces a stored file by one with a flipped bit.
fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn blobs_that_are_only_read_are_used_too() {
    for ready in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), Some(10_000));
        let (old, new) = (put(&store, &bytes(1, 4000)), put(&store, &bytes(2, 4000)));
        store.read(&old, 0..10).unwrap();
        if ready {
            store.read(&new, 0..10).unwrap();
            assert!(store.read_ready(&old, 0..10).is_some());
        }
        put(&store, &bytes(3, 4000));
        assert!(store.open(&old).unwrap().is_some() && store.open(&new).unwrap().is_none(), "ready: {ready}");
    }
}

#[test]
fn what_was_used_is_remembered_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = {
        let store = open(folder.path(), Some(10_000));
        let both = (put(&store, &bytes(1, 4000)), put(&store, &bytes(2, 4000)));
        store.read(&both.0, 0..10).unwrap();
        both
    };
    let store = open(folder.path(), Some(10_000));
    put(&store, &bytes(3, 4000));
    assert!(store.open(&old).unwrap().is_some() && store.open(&new).unwrap().is_none());
}

#[test]
fn parallel_writers_keep_the_bound_together() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), Some(10_000));
    let start = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        for seed in 0..8 {
            let (store, start) = (&store, &start);
            scope.spawn(move || {
                let mut writer = store.writer().unwrap();
                writer.write_all(&bytes(seed, 4000)).unwrap();
                start.wait();
                writer.commit(None).unwrap();
            });
        }
    });
    assert_eq!(entries(&folder.path().join("blobs/sha256")).unwrap().len(), 2);
}

#[test]
fn a_folder_that_somebody_else_has_made_is_flushed_before_anything_in_it_is_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), None);
    let path = store.shared.record(RecordKind::Tag, "a");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    FLUSHED.take();
    store.put_record(RecordKind::Tag, "a", b"x").unwrap();
    let flushed = FLUSHED.take();
    for above in path.ancestors().skip(1).take(4) {
        assert!(flushed.contains(&above.to_owned()), "{} in {flushed:?}", above.display());
    }
    store.put_record(RecordKind::Tag, "a", b"y").unwrap();
    assert_eq!(FLUSHED.take(), [path.parent().unwrap()], "the second time only the folder itself");
    store.remove_record(RecordKind::Tag, "a").unwrap();
    assert_eq!(FLUSHED.take(), [path.parent().unwrap()], "a removal is durable too");
}

#[test]
fn what_was_prepared_is_flushed_before_a_digest_is_announced() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), None);
    for n in 0..200 {
        let mut writer = store.writer().unwrap();
        writer.write_all(&bytes(n, 3000)).unwrap();
        writer.place().unwrap();
    }
    store.put_record(RecordKind::Prepared, "key", b"value").unwrap();
    store.announce(&Digest::of(b"x"), &VirtualFile::inline("x")).unwrap();
    assert_eq!(store.shared.later.left(), 0);
}

#[test]
fn a_flipped_bit_in_a_record_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), None);
    for kind in RecordKind::ALL {
        store.put_record(kind, "key", b"value").unwrap();
        let path = store.shared.record(kind, "key");
        flip(&path, fs::read(&path).unwrap().len() - 1);
        match store.record(kind, "key") {
            Err(StoreError::Record { .. }) => assert!(matches!(kind, RecordKind::Schematic | RecordKind::Key)),
            found => assert_eq!(found.unwrap(), None, "{kind:?}"),
        }
    }
    let report = store.fsck(true).unwrap();
    assert_eq!((report.problems.len(), report.lost), (RecordKind::ALL.len(), 2), "{report}");
    assert!(store.record(RecordKind::Key, "key").is_err(), "no repair makes room for another key");
    store.put_record(RecordKind::Schematic, "key", b"value").unwrap();
    assert_eq!(store.record(RecordKind::Schematic, "key").unwrap().as_deref(), Some(&b"value"[..]));
}

#[test]
fn a_flipped_bit_in_an_extent_list_makes_it_absent() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), None);
    let (name, file) = (Digest::of(b"bytes"), VirtualFile::inline("bytes"));
    store.announce(&name, &file).unwrap();
    let path = store.shared.virtual_blob(&name);
    flip(&path, fs::read(&path).unwrap().len() - 1);
    assert_eq!(store.open(&name).unwrap(), None);
    assert_eq!(store.fsck(false).unwrap().problems.len(), 1);
    store.announce(&name, &file).unwrap();
    assert_eq!(store.open(&name).unwrap(), Some(file));
}

#[test]
fn a_store_from_before_there_were_checksums_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), None);
    let (name, file) = (Digest::of(b"bytes"), VirtualFile::inline("bytes"));
    for (path, bytes) in [
        (store.shared.virtual_blob(&name), file.encode()),
        (store.shared.record(RecordKind::Schematic, "id"), b"\x02\0\0\0idtext".to_vec()),
    ] {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    assert_eq!(store.open(&name).unwrap(), Some(file));
    assert_eq!(store.record(RecordKind::Schematic, "id").unwrap().as_deref(), Some(&b"text"[..]));
    assert!(store.fsck(false).unwrap().is_clean());
}

#[test]
fn a_late_reader_of_a_damaged_file_does_not_drop_the_good_one() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (open(folder.path(), None), open(folder.path(), None));
    let digest = put(&first, &bytes(1, 600_000));
    flip(&first.shared.blob(&digest), 300_000);
    first.read(&digest, 0..10).unwrap();
    let damaged = Identity::of(&fs::metadata(first.shared.blob(&digest)).unwrap());
    assert!(matches!(second.read(&digest, 300_000..300_001), Err(ReadError::Damaged(_))));
    put(&second, &bytes(1, 600_000));
    assert_eq!(&first.read(&digest, 0..600_000).unwrap()[..], &bytes(1, 600_000)[..]);
    // Nor does one that finds yet another damaged file than the one it has read.
    flip(&first.shared.blob(&digest), 300_000);
    assert!(!first.shared.judge(&digest, damaged).unwrap());
    assert!(first.shared.blob(&digest).exists());
}

#[test]
fn checks_that_are_missing_or_damaged_are_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), None);
    let digest = put(&store, &bytes(1, 600_000));
    let path = store.shared.checks(&digest);
    let checks = fs::read(&path).unwrap();
    for spoil in 0..3 {
        match spoil {
            0 => fs::remove_file(&path).unwrap(),
            1 => fs::write(&path, b"x").unwrap(),
            _ => flip(&path, 5),
        }
        store.shared.maps.forget(&digest);
        assert_eq!(&store.read(&digest, 0..600_000).unwrap()[..], &bytes(1, 600_000)[..]);
        assert_eq!(fs::read(&path).unwrap(), checks);
    }
    fs::remove_file(&path).unwrap();
    flip(&store.shared.blob(&digest), 0);
    store.shared.maps.forget(&digest);
    assert!(matches!(store.read(&digest, 0..1), Err(ReadError::Damaged(_))));
    assert!(store.open(&digest).unwrap().is_none());
}

#[test]
fn mapped_blobs_take_no_file_descriptors() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), None);
    for seed in 0..200 {
        let digest = put(&store, &bytes(seed, 100 + usize::from(seed)));
        store.read(&digest, 0..50).unwrap();
    }
    let blobs = fs::canonicalize(folder.path().join("blobs")).unwrap();
    let open = entries(Path::new("/proc/self/fd")).unwrap();
    let ours = open.iter().filter_map(|link| fs::read_link(link).ok()).filter(|path| path.starts_with(&blobs));
    assert_eq!(ours.count(), 0);
}

#[test]
fn the_scrub_finds_damage_before_a_reader_does() {
    let folder = tempfile::tempdir().unwrap();
    let (store, metrics) = (open(folder.path(), None), Arc::new(Metrics::default()));
    let (good, bad) = (put(&store, &bytes(1, 600_000)), put(&store, &bytes(2, 600_000)));
    fs::remove_file(store.shared.checks(&good)).unwrap();
    flip(&store.shared.blob(&bad), 599_999);
    let pace = Pace { rate: 1 << 40, every: Duration::from_secs(3600), write_down: Duration::from_millis(1) };
    let keeper = store.keep_at(pace, metrics.clone()).unwrap();
    for _ in 0..1000 {
        if metrics.scrubbed_blobs.get() == 2 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(keeper);
    assert_eq!((metrics.scrubbed_blobs.get(), metrics.scrubbed_bad_blobs.get()), (2, 1));
    assert!(store.shared.checks(&good).exists() && !store.shared.blob(&bad).exists());
    assert!(store.open(&bad).unwrap().is_none() && store.fsck(false).unwrap().is_clean());
}

#[test]
fn the_scrub_stops_when_it_is_told_to_and_keeps_to_its_rate() {
    let folder = tempfile::tempdir().unwrap();
    let (store, metrics) = (open(folder.path(), None), Arc::new(Metrics::default()));
    put(&store, &bytes(1, 600_000));
    let pace = Pace { rate: 1, every: Duration::from_secs(3600), write_down: Duration::ZERO };
    let keeper = store.keep_at(pace, metrics.clone()).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let begun = std::time::Instant::now();
    drop(keeper);
    assert!(begun.elapsed() < Duration::from_secs(60), "a byte a second takes days");
    assert_eq!(metrics.scrubbed_blobs.get(), 0);
}
