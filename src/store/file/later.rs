//! Flushing what nobody has to wait for.
//!
//! What was prepared can be made again, byte for byte. It gets its name when it is written and reaches the disk a moment
//! later, on a thread of its own. Processes never see a difference. A crash of the machine can leave a file without its
//! end, or none; lengths, checks and checksums tell, and it is prepared again, as if it had been dropped for want of
//! room. What is announced does not hang on that: before a process announces a digest, all that it has written until
//! then is flushed ([`Later::wait`]); in the time that it takes to compute a digest it is flushed anyhow.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::durable::Scratch;
use super::failed;
use crate::store::StoreError;

/// What is waited before files are flushed, if nobody waits for them: those of one thing, and of one request, are flushed
/// together, and the request has gone out of the way.
const DELAY: Duration = Duration::from_millis(10);

/// Files that wait at most: they are open.
const MAX_WAITING: usize = 128;

/// Files that have their names and wait to be flushed.
pub struct Later {
    scratch: Arc<Scratch>,
    state: Mutex<State>,
    /// Told when files have been flushed.
    flushed: Condvar,
    /// Told when somebody waits.
    hurry: Condvar,
}

#[derive(Default)]
struct State {
    /// Each with the folder that it is in.
    waiting: Vec<(File, PathBuf)>,
    /// Files that were ever handed in, and how many of them have been flushed.
    handed_in: u64,
    flushed: u64,
    /// Whether a thread is at it.
    running: bool,
    /// How many wait.
    waiters: usize,
}

impl Later {
    /// Flushes through the scratch folder's knowledge of folders.
    pub fn new(scratch: Arc<Scratch>) -> Arc<Self> {
        Arc::new(Self { scratch, state: Mutex::default(), flushed: Condvar::new(), hurry: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a file flushed, and its name in a folder of the store. Blocks only where far too many wait.
    pub fn flush(self: &Arc<Self>, file: File, folder: PathBuf) {
        let mut state = self.lock();
        if state.waiting.len() >= MAX_WAITING {
            let until = state.handed_in;
            state = self.wait_for(state, until);
        }
        state.waiting.push((file, folder));
        state.handed_in += 1;
        if state.running {
            return;
        }
        state.running = true;
        drop(state);
        let later = self.clone();
        let started = std::thread::Builder::new().name("flush".to_owned()).spawn(move || later.run());
        if let Err(error) = started {
            tracing::warn!(%error, "no thread to flush on");
            self.run();
        }
    }

    /// Flushes until nothing waits.
    fn run(&self) {
        loop {
            let state = self.lock();
            let waited = self.hurry.wait_timeout_while(state, DELAY, |state| state.waiters == 0);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
            let now = std::mem::take(&mut state.waiting);
            if now.is_empty() {
                state.running = false;
                return;
            }
            drop(state);
            for (file, folder) in &now {
                if let Err(error) = self.flush_one(file, folder) {
                    tracing::error!(%error, "what was prepared may be lost in a crash; it is made again then");
                }
            }
            self.lock().flushed += now.len() as u64;
            self.flushed.notify_all();
        }
    }

    fn flush_one(&self, file: &File, folder: &Path) -> Result<(), StoreError> {
        file.sync_data().map_err(failed(format!("flushing a file in {}", folder.display())))?;
        self.scratch.flush_names(folder)
    }

    /// How many files wait, or are being flushed.
    #[cfg(test)]
    pub fn left(&self) -> u64 {
        let state = self.lock();
        state.handed_in - state.flushed
    }

    /// Waits until all that was handed in before is flushed.
    pub fn wait(&self) {
        let state = self.lock();
        let until = state.handed_in;
        drop(self.wait_for(state, until));
    }

    /// Waits until as many files are flushed.
    fn wait_for<'a>(&'a self, mut state: MutexGuard<'a, State>, until: u64) -> MutexGuard<'a, State> {
        state.waiters += 1;
        self.hurry.notify_all();
        while state.flushed < until {
            state = self.flushed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiters -= 1;
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_waits_for_what_was_handed_in() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tmp")).unwrap();
        let scratch = Arc::new(Scratch::open(folder.path()).unwrap());
        let later = Later::new(scratch.clone());
        later.wait();
        // As if a thread was at it.
        later.lock().running = true;
        let path = folder.path().join("records/x/y");
        later.flush(scratch.place(&path, b"text", 0o644).unwrap(), folder.path().join("records/x"));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| later.wait());
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(!waiting.is_finished());
            later.run();
        });
        let state = later.lock();
        assert_eq!((state.flushed, state.handed_in, state.running), (1, 1, false));
    }
}
