//! Which real blobs there are, how long they are, and which was used least recently.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::{entries, failed};
use crate::store::StoreError;
use crate::types::Digest;

/// When a blob was last used. A reader marks it without a lock.
pub struct Use {
    clock: Arc<AtomicU64>,
    turn: AtomicU64,
}

impl Use {
    /// Marks a use now.
    pub fn mark(&self) {
        self.turn.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }

    fn turn(&self) -> u64 {
        self.turn.load(Ordering::Relaxed)
    }
}

struct Known {
    len: u64,
    used: Arc<Use>,
    /// The turn that the file's time stands for.
    written_down: u64,
}

#[derive(Default)]
struct Contents {
    known: HashMap<Digest, Known>,
    total: u64,
    /// Bytes of blobs that are being given their names.
    reserved: u64,
}

impl Contents {
    fn add(&mut self, digest: Digest, len: u64, clock: &Arc<AtomicU64>) -> Arc<Use> {
        self.remove(&digest);
        let used = Arc::new(Use { clock: clock.clone(), turn: AtomicU64::new(0) });
        used.mark();
        self.known.insert(digest, Known { len, used: used.clone(), written_down: used.turn() });
        self.total += len;
        used
    }

    fn remove(&mut self, digest: &Digest) {
        if let Some(known) = self.known.remove(digest) {
            self.total -= known.len;
        }
    }
}

/// The real blobs in the order of their last use.
pub struct Recency {
    contents: Mutex<Contents>,
    /// Told when a reservation ends.
    released: Condvar,
    clock: Arc<AtomicU64>,
    max: Option<u64>,
}

impl Recency {
    /// Reads the folder of blobs; the files' times say which were used last.
    pub fn read(folder: &Path, max: Option<u64>) -> Result<Self, StoreError> {
        let mut found: Vec<(SystemTime, Digest, u64)> = Vec::new();
        for path in entries(folder)? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Ok(digest) = Digest::from_hex(name) else { continue };
            let metadata = path.metadata().map_err(failed(format!("reading {}", path.display())))?;
            found.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), digest, metadata.len()));
        }
        found.sort_unstable();
        let (mut contents, clock) = (Contents::default(), Arc::new(AtomicU64::new(1)));
        for (_, digest, len) in found {
            contents.add(digest, len, &clock);
        }
        Ok(Self { contents: Mutex::new(contents), released: Condvar::new(), clock, max })
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The length of a blob that is there, which counts as a use. `path` is where it would be: another process may have
    /// added it.
    pub fn touch(&self, digest: &Digest, path: impl FnOnce() -> PathBuf) -> Option<u64> {
        if let Some(known) = self.lock().known.get(digest) {
            known.used.mark();
            return Some(known.len);
        }
        let len = path().metadata().ok().filter(std::fs::Metadata::is_file)?.len();
        self.used(digest, len);
        Some(len)
    }

    /// The mark of a blob of `len` bytes that is there.
    pub fn used(&self, digest: &Digest, len: u64) -> Arc<Use> {
        let mut contents = self.lock();
        match contents.known.get(digest) {
            Some(known) if known.len == len => known.used.clone(),
            _ => contents.add(*digest, len, &self.clock),
        }
    }

    /// Notes that a blob is there no more.
    pub fn forget(&self, digest: &Digest) {
        self.lock().remove(digest);
    }

    /// Keeps room for a blob of `len` bytes; with it come the blobs that must go for it, least recently used first. Waits
    /// while it would fit but for blobs that others are writing.
    ///
    /// # Errors
    /// [`StoreError::Full`] when it would not fit into an empty store.
    pub fn reserve(&self, len: u64) -> Result<(Reservation<'_>, Vec<Digest>), StoreError> {
        let max = self.max.unwrap_or(u64::MAX);
        if len > max {
            return Err(StoreError::Full(len));
        }
        let mut contents = self.lock();
        while contents.reserved.saturating_add(len) > max {
            contents = self.released.wait(contents).unwrap_or_else(PoisonError::into_inner);
        }
        let mut victims = Vec::new();
        if contents.total.saturating_add(contents.reserved).saturating_add(len) > max {
            let mut by_turn: Vec<_> =
                contents.known.iter().map(|(digest, known)| (known.used.turn(), *digest)).collect();
            by_turn.sort_unstable();
            for (_, digest) in by_turn {
                if contents.total + contents.reserved + len <= max {
                    break;
                }
                contents.remove(&digest);
                victims.push(digest);
            }
        }
        contents.reserved += len;
        Ok((Reservation { recency: self, len }, victims))
    }

    /// Writes down in the files' times, for the next start, which blobs were used since it was last done, in their order.
    /// Nothing is done where there is no bound on the blobs.
    pub fn write_down(&self, path: impl Fn(&Digest) -> PathBuf) {
        if self.max.is_none() {
            return;
        }
        let mut due: Vec<(u64, Digest)> = Vec::new();
        for (digest, known) in &mut self.lock().known {
            let turn = known.used.turn();
            if std::mem::replace(&mut known.written_down, turn) != turn {
                due.push((turn, *digest));
            }
        }
        due.sort_unstable();
        for (_, digest) in due {
            // Only a hint: it does no harm if it fails.
            let _ = File::open(path(&digest)).and_then(|file| file.set_modified(SystemTime::now()));
        }
    }
}

/// Room that is kept for a blob.
pub struct Reservation<'a> {
    recency: &'a Recency,
    len: u64,
}

impl Reservation<'_> {
    /// Notes that the blob is there now.
    pub fn fill(mut self, digest: &Digest) {
        let len = std::mem::take(&mut self.len);
        let mut contents = self.recency.lock();
        contents.reserved -= len;
        contents.add(*digest, len, &self.recency.clock);
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.recency.lock().reserved -= self.len;
        self.recency.released.notify_all();
    }
}
