//! What is done to the store while it serves: reading it through for damage, and writing down what is used.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::seq::SliceRandom as _;

use super::maps::{CHUNK, Identity, read_checks};
use super::{BLOBS, FileStore, Shared, entries, failed};
use crate::store::StoreError;
use crate::telemetry::Metrics;
use crate::types::Digest;

/// How scrubbing goes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Bytes read in a second at most.
    pub rate: u64,
    /// From the beginning of a pass to that of the next.
    pub every: Duration,
    /// How often uses are written down.
    pub write_down: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { rate: 32 << 20, every: Duration::from_secs(24 * 3600), write_down: Duration::from_secs(60) }
    }
}

/// A thread that keeps the store in order; it ends when this is dropped.
pub struct Keeper {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Stop {
    stopped: Mutex<bool>,
    told: Condvar,
}

impl Stop {
    /// Waits; says whether to stop.
    fn wait(&self, time: Duration) -> bool {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.told.wait_timeout_while(stopped, time, |stopped| !*stopped);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        *self.stop.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.told.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl FileStore {
    /// Starts a thread that reads all real blobs through once a day, at most 32 MiB a second, and drops what is damaged;
    /// it also writes down for the next start which blobs are used.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn keep(&self, metrics: Arc<Metrics>) -> Result<Keeper, StoreError> {
        self.keep_at(Pace::default(), metrics)
    }

    /// The same at another pace.
    pub(super) fn keep_at(&self, pace: Pace, metrics: Arc<Metrics>) -> Result<Keeper, StoreError> {
        let (stop, shared) = (Arc::new(Stop::default()), self.shared.clone());
        let told = stop.clone();
        let run = move || while !round(&shared, pace, &metrics, &told) {};
        let thread = std::thread::Builder::new().name("scrub".to_owned()).spawn(run);
        Ok(Keeper { stop, thread: Some(thread.map_err(failed("starting a thread"))?) })
    }
}

/// One pass, and the wait until the next; says whether to stop.
fn round(shared: &Shared, pace: Pace, metrics: &Metrics, stop: &Stop) -> bool {
    let (began, mut written_down) = (Instant::now(), Instant::now());
    let mut write_down = || {
        if written_down.elapsed() >= pace.write_down {
            shared.recency.write_down(|digest| shared.blob(digest));
            written_down = Instant::now();
        }
    };
    // What was just started has other things to do.
    if stop.wait(pace.write_down) {
        return true;
    }
    let mut blobs = entries(&shared.root.join(BLOBS)).unwrap_or_else(|error| {
        tracing::warn!(%error, "scrubbing");
        Vec::new()
    });
    // A process that never lives for a whole pass still comes to every blob some day.
    blobs.shuffle(&mut rand::rng());
    for path in blobs {
        let Some(digest) = path.file_name().and_then(|name| name.to_str()).and_then(|name| Digest::from_hex(name).ok())
        else {
            continue;
        };
        write_down();
        match blob(shared, &digest, &path, pace.rate, stop) {
            Ok(None) => return true,
            Ok(Some(good)) => {
                metrics.scrubbed_blobs.inc();
                if !good {
                    metrics.scrubbed_bad_blobs.inc();
                }
            }
            // Dropped a moment ago.
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%digest, %error, "scrubbing"),
        }
    }
    while began.elapsed() < pace.every {
        write_down();
        if stop.wait(pace.write_down.min(pace.every.saturating_sub(began.elapsed()))) {
            return true;
        }
    }
    false
}

/// Reads a blob through; says whether it was good, or nothing when told to stop.
fn blob(shared: &Shared, digest: &Digest, path: &Path, rate: u64, stop: &Stop) -> Result<Option<bool>, StoreError> {
    let reading = || failed(format!("reading {}", path.display()));
    let file = File::open(path).map_err(reading())?;
    let metadata = file.metadata().map_err(reading())?;
    let (identity, len) = (Identity::of(&metadata), metadata.len());
    let Some(checks) = read_checks(shared, digest, len)? else { return shared.judge(digest, identity).map(Some) };
    let mut buffer = Vec::new();
    for (at, check) in (0..).step_by(CHUNK as usize).zip(checks) {
        let began = Instant::now();
        buffer.resize((len - at).min(CHUNK) as usize, 0);
        file.read_exact_at(&mut buffer, at).map_err(reading())?;
        if crc32c::crc32c(&buffer) != check {
            return shared.judge(digest, identity).map(Some);
        }
        let pause = Duration::from_secs_f64(buffer.len() as f64 / rate as f64).saturating_sub(began.elapsed());
        if stop.wait(pause) {
            return Ok(None);
        }
    }
    Ok(Some(true))
}
