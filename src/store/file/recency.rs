//! Which real blobs there are, how long they are, and which was used least recently.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::{entries, failed};
use crate::store::StoreError;
use crate::types::Digest;

/// How often a use is written down in the file's time, for the next start.
const WRITE_DOWN: Duration = Duration::from_secs(60);

struct Known {
    len: u64,
    /// Place in the order of use.
    turn: u64,
    written_down: Option<Instant>,
}

#[derive(Default)]
struct Order {
    known: HashMap<Digest, Known>,
    by_turn: BTreeMap<u64, Digest>,
    next: u64,
    total: u64,
}

impl Order {
    fn add(&mut self, digest: Digest, len: u64) {
        self.remove(&digest);
        self.next += 1;
        self.known.insert(digest, Known { len, turn: self.next, written_down: None });
        self.by_turn.insert(self.next, digest);
        self.total += len;
    }

    fn remove(&mut self, digest: &Digest) {
        if let Some(known) = self.known.remove(digest) {
            self.by_turn.remove(&known.turn);
            self.total -= known.len;
        }
    }
}

/// The real blobs in the order of their last use.
pub struct Recency {
    order: Mutex<Order>,
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
        let mut order = Order::default();
        for (_, digest, len) in found {
            order.add(digest, len);
        }
        Ok(Self { order: Mutex::new(order), max })
    }

    fn lock(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The length of a blob that is there, which counts as a use. `path` is where it would be: another process may have
    /// added it.
    pub fn touch(&self, digest: &Digest, path: impl FnOnce() -> PathBuf) -> Option<u64> {
        let mut order = self.lock();
        let turn = order.next + 1;
        match order.known.get_mut(digest) {
            Some(known) => {
                let (len, old) = (known.len, std::mem::replace(&mut known.turn, turn));
                let due = known.written_down.is_none_or(|at| at.elapsed() > WRITE_DOWN);
                if due {
                    known.written_down = Some(Instant::now());
                }
                order.next = turn;
                order.by_turn.remove(&old);
                order.by_turn.insert(turn, *digest);
                drop(order);
                if due && self.max.is_some() {
                    // Only a hint for the next start: it does no harm if it fails.
                    let _ = File::open(path()).and_then(|file| file.set_modified(SystemTime::now()));
                }
                Some(len)
            }
            None => {
                drop(order);
                let len = path().metadata().ok().filter(std::fs::Metadata::is_file)?.len();
                self.lock().add(*digest, len);
                Some(len)
            }
        }
    }

    /// Notes a blob that was written.
    pub fn add(&self, digest: &Digest, len: u64) {
        self.lock().add(*digest, len);
    }

    /// Notes that a blob is there no more.
    pub fn forget(&self, digest: &Digest) {
        self.lock().remove(digest);
    }

    /// The blobs that must go so that `len` more bytes fit, least recently used first.
    ///
    /// # Errors
    /// [`StoreError::Full`] when they would not fit into an empty store.
    pub fn make_room(&self, len: u64) -> Result<Vec<Digest>, StoreError> {
        let Some(max) = self.max else { return Ok(Vec::new()) };
        if len > max {
            return Err(StoreError::Full(len));
        }
        let order = self.lock();
        let (mut total, mut victims) = (order.total, Vec::new());
        for digest in order.by_turn.values() {
            if total + len <= max {
                break;
            }
            total -= order.known.get(digest).map_or(0, |known| known.len);
            victims.push(*digest);
        }
        Ok(victims)
    }
}
