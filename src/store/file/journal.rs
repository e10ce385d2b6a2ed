//! One flush for many small records.
//!
//! Records that are a function of their key and are never removed (schematics) go through a journal in the process'
//! scratch folder: those of all threads that write at a time are appended, one flush makes them durable, and each is
//! then put into its own file, where every process on the folder sees it at once. Those files reach the disk later, all
//! together; then the journal is removed. After a crash the next start puts back from the journals of dead processes what
//! did not reach the disk. That no record has two values makes the order of several journals irrelevant.
//!
//! ```text
//! for each record: length of what follows (u32, little-endian), its stored form; then zeros
//! ```
//! The zeros are written ahead, so that a flush has no new length of the file to write down.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};

use super::{entries, failed, flush_folder, sealed};
use crate::store::StoreError;

/// A journal of this many bytes is followed by a new one.
const LIMIT: u64 = 4 << 20;

/// Bytes of zeros that are written ahead at a time.
const AHEAD: u64 = 1 << 20;

/// How the files are called, with a number after it.
const NAME: &str = "journal-";

/// The journal that this process appends to.
pub struct Journal {
    folder: PathBuf,
    state: Mutex<State>,
    /// Told when a flush is over.
    flushed: Condvar,
}

#[derive(Default)]
struct State {
    /// `None` before the first record.
    current: Option<Arc<Segment>>,
    /// Journals that were followed by others and may hold what is not flushed yet.
    full: Vec<Arc<Segment>>,
    /// Journals made.
    made: u64,
    /// Where the next record goes.
    end: u64,
    /// Zeros reach to here.
    ahead: u64,
    /// Records appended, and how many of them are known to be on the disk.
    appended: u64,
    durable: u64,
    flushing: bool,
}

/// One journal file. Whoever has appended to it holds it until the record is in its own file; when nobody does any more,
/// it is made superfluous and removed.
pub struct Segment {
    path: PathBuf,
    file: File,
    /// A flush failed: what it holds may be lost.
    failed: AtomicBool,
}

impl Drop for Segment {
    fn drop(&mut self) {
        // Gone already where the whole folder was removed.
        if !self.path.exists() {
            return;
        }
        let (Ok(file), path) = (self.file.try_clone(), self.path.clone()) else { return };
        let retire = move || match flush_all(&file) {
            Ok(()) => drop(fs::remove_file(&path)),
            Err(error) => tracing::error!(%error, journal = %path.display(), "flushing; the journal is kept"),
        };
        // Not on the thread of the record that happened to be the last.
        if let Err(error) = std::thread::Builder::new().name("journal".to_owned()).spawn(retire) {
            tracing::warn!(%error, "the journal is kept until the next start");
        }
    }
}

/// Flushes everything that was written to the file system that `file` is on.
pub fn flush_all(file: &File) -> io::Result<()> {
    rustix::fs::syncfs(file).map_err(io::Error::from)
}

impl Journal {
    /// A journal in the scratch folder of this process.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), state: Mutex::default(), flushed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything was ever appended.
    pub fn is_used(&self) -> bool {
        self.lock().made > 0
    }

    /// Appends a record in its stored form; it is durable when this returns. What comes back is to be held until the
    /// record is in its own file.
    pub fn append(&self, stored: &[u8]) -> Result<Arc<Segment>, StoreError> {
        let doing = || failed("writing the journal");
        let mut state = self.lock();
        let segment = self.segment(&mut state).map_err(doing())?;
        let mut entry = Vec::with_capacity(stored.len() + 4);
        entry.extend_from_slice(&(stored.len() as u32).to_le_bytes());
        entry.extend_from_slice(stored);
        let end = state.end + entry.len() as u64;
        // Zeros beyond the record, so that its end can be told.
        if end + 4 > state.ahead {
            let to = end + AHEAD;
            segment.file.write_all_at(&vec![0; (to - state.ahead) as usize], state.ahead).map_err(doing())?;
            state.ahead = to;
        }
        // A record that is written in part only is written over by the next.
        segment.file.write_all_at(&entry, state.end).map_err(doing())?;
        state.end = end;
        state.appended += 1;
        let number = state.appended;
        loop {
            if segment.failed.load(Ordering::Relaxed) {
                return Err(failed("flushing the journal")(io::Error::other("the disk refused")));
            }
            if state.durable >= number {
                return Ok(segment);
            }
            state = if state.flushing {
                self.flushed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.flush(state)
            };
        }
    }

    /// Flushes what has been appended up to now, for all who wait.
    fn flush<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.flushing = true;
        let (upto, mut segments) = (state.appended, std::mem::take(&mut state.full));
        segments.extend(state.current.clone());
        drop(state);
        let flushed = segments.iter().try_for_each(|segment| segment.file.sync_data());
        let mut state = self.lock();
        state.flushing = false;
        match flushed {
            Ok(()) => state.durable = upto,
            Err(error) => {
                tracing::error!(%error, "the journal could not be flushed");
                // After this nobody knows what is on the disk: all who wait are told so, and a new journal begins.
                segments.append(&mut state.full);
                segments.extend(state.current.take());
                segments.iter().for_each(|segment| segment.failed.store(true, Ordering::Relaxed));
            }
        }
        self.flushed.notify_all();
        state
    }

    /// The journal to append to: a new one at first, and when the old one is full.
    fn segment(&self, state: &mut State) -> io::Result<Arc<Segment>> {
        if let Some(current) = state.current.as_ref().filter(|_| state.end < LIMIT) {
            return Ok(current.clone());
        }
        let path = self.folder.join(format!("{NAME}{}", state.made));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        let segment = Arc::new(Segment { path, file, failed: AtomicBool::new(false) });
        segment.file.write_all_at(&vec![0; AHEAD as usize], 0)?;
        segment.file.sync_all()?;
        flush_folder(&self.folder).map_err(io::Error::other)?;
        (state.made, state.end, state.ahead) = (state.made + 1, 0, AHEAD);
        state.full.extend(state.current.replace(segment.clone()));
        Ok(segment)
    }
}

/// The stored forms of the records in the journals of a scratch folder. What was being appended at the crash is not whole
/// and is left out.
pub fn read(folder: &Path) -> Result<Vec<Bytes>, StoreError> {
    let mut records = Vec::new();
    for path in entries(folder)? {
        if !path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(NAME)) {
            continue;
        }
        let mut rest = Bytes::from(fs::read(&path).map_err(failed(format!("reading {}", path.display())))?);
        while rest.len() >= 4 {
            let len = rest.get_u32_le() as usize;
            if len == 0 || len > rest.len() {
                break;
            }
            let stored = rest.split_to(len);
            if sealed::unseal_record(stored.clone()).is_some() {
                records.push(stored);
            }
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_that_fails_is_told_and_a_new_journal_begins() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(folder.path());
        // A device that takes what is written to it and cannot be flushed.
        let file = OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
        let broken = Segment { path: folder.path().join("none"), file, failed: AtomicBool::new(false) };
        *journal.lock() = State { current: Some(Arc::new(broken)), ahead: LIMIT, ..State::default() };
        let lost = sealed::seal_record("lost", b"");
        assert!(matches!(journal.append(&lost), Err(StoreError::Io { .. })));
        let kept = sealed::seal_record("kept", b"text");
        let _segment = journal.append(&kept).unwrap();
        assert_eq!(read(folder.path()).unwrap(), [kept]);
    }

    #[test]
    fn a_damaged_record_does_not_hide_those_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(folder.path());
        let stored: Vec<_> = ["a", "b", "c"].iter().map(|key| sealed::seal_record(key, b"text")).collect();
        let held: Vec<_> = stored.iter().map(|record| journal.append(record).unwrap()).collect();
        let last_of_b = 2 * (stored[0].len() as u64 + 4) - 1;
        held[0].file.write_all_at(b"!", last_of_b).unwrap();
        assert_eq!(read(folder.path()).unwrap(), [stored[0].clone(), stored[2].clone()]);
    }
}
