//! Checksums of whole assets: computed once, by bounded jobs, and remembered.
//!
//! A job is a task of its own with many readers. It goes on while somebody waits for it, and for a while after that.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256, Sha512};
use tokio::sync::watch;

use super::lanes::{Lanes, Place};
use crate::factory::{FactoryError, blocking};
use crate::store::{BlobStore, RecordKind};
use crate::telemetry::Metrics;
use crate::types::Digest;
use crate::virtual_file::VirtualFile;

/// Jobs that wait for their turn at most.
const MAX_WAITING: usize = 256;
/// How long a job goes on when nobody waits for it.
const ABANDONED: Duration = Duration::from_secs(60);
/// Bytes hashed between two looks at whether anybody still waits.
const STRIDE: u64 = 32 << 20;
/// Bytes read at a time.
const PIECE: u64 = 1 << 20;

/// The checksums that assets have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        })
    }
}

impl Algorithm {
    /// Length of a checksum in bytes.
    pub const fn checksum_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    fn hasher(self) -> Hasher {
        match self {
            Self::Sha256 => Hasher::Sha256(Sha256::new()),
            Self::Sha512 => Hasher::Sha512(Sha512::new()),
        }
    }
}

enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    fn finish(self) -> Checksum {
        match self {
            Self::Sha256(hasher) => hasher.finalize().as_slice().into(),
            Self::Sha512(hasher) => hasher.finalize().as_slice().into(),
        }
    }
}

/// The raw bytes of a checksum.
pub type Checksum = Arc<[u8]>;
/// The digest of an asset's extent list, and what is computed over its bytes.
type Key = (Digest, Algorithm);
type Answer = Option<Result<Checksum, FactoryError>>;

/// Computes and remembers checksums.
pub struct Checksums {
    store: Arc<dyn BlobStore>,
    metrics: Arc<Metrics>,
    lanes: Arc<Lanes>,
    running: Mutex<HashMap<Key, Arc<Job>>>,
    known: moka::sync::Cache<Key, Checksum>,
}

struct Job {
    answer: watch::Receiver<Answer>,
    audience: Mutex<Audience>,
}

/// Who waits for a job.
struct Audience {
    waiting: usize,
    /// When the last one went away.
    left: Instant,
}

/// Somebody who waits for a job.
struct Waiting(Arc<Job>);

impl Waiting {
    fn on(job: Arc<Job>) -> Self {
        lock(&job.audience).waiting += 1;
        Self(job)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut audience = lock(&self.0.audience);
        audience.waiting -= 1;
        audience.left = Instant::now();
    }
}

impl Job {
    fn is_abandoned(&self) -> bool {
        let audience = lock(&self.audience);
        audience.waiting == 0 && audience.left.elapsed() >= ABANDONED
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Checksums {
    /// Checksums kept in `store`; `places` jobs at once.
    pub fn new(store: Arc<dyn BlobStore>, metrics: Arc<Metrics>, places: usize) -> Self {
        Self {
            store,
            metrics,
            lanes: Lanes::new(places, MAX_WAITING),
            running: Mutex::default(),
            known: moka::sync::Cache::new(50_000),
        }
    }

    /// The checksum of the file with this extent list, if it is in memory.
    pub fn known(&self, extents: &Digest, algorithm: Algorithm) -> Option<Checksum> {
        self.known.get(&(*extents, algorithm))
    }

    /// The checksum of `file`, whose extent list has the digest `extents`, on behalf of a client.
    ///
    /// # Errors
    /// [`FactoryError::Busy`] when too many jobs wait already; or when a blob under the file cannot be read.
    pub async fn of(
        self: &Arc<Self>,
        file: &VirtualFile,
        extents: &Digest,
        algorithm: Algorithm,
        client: IpAddr,
    ) -> Result<Checksum, FactoryError> {
        let key = (*extents, algorithm);
        if let Some(known) = self.known.get(&key) {
            self.metrics.count_hit("checksum");
            return Ok(known);
        }
        if let Some(stored) = self.stored(key).await? {
            self.known.insert(key, stored.clone());
            return Ok(stored);
        }
        let waiting = self.join(key, file, client)?;
        let mut answer = waiting.0.answer.clone();
        let answer = match answer.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone(),
            Err(_) => None,
        };
        answer.unwrap_or_else(|| Err(FactoryError::Internal("a checksum's job broke off".to_owned())))
    }

    /// Waits with those who wait for a job, or starts it.
    fn join(self: &Arc<Self>, key: Key, file: &VirtualFile, client: IpAddr) -> Result<Waiting, FactoryError> {
        let mut running = lock(&self.running);
        if let Some(job) = running.get(&key) {
            return Ok(Waiting::on(job.clone()));
        }
        let place = self.lanes.enter(client).map_err(|_| FactoryError::Busy)?;
        let (sender, answer) = watch::channel(None);
        let audience = Mutex::new(Audience { waiting: 0, left: Instant::now() });
        let job = Arc::new(Job { answer, audience });
        running.insert(key, job.clone());
        let (checksums, file, watched) = (self.clone(), file.clone(), job.clone());
        tokio::spawn(async move {
            let _free = Free { checksums: checksums.clone(), key };
            let made = match place.await {
                Ok(place) => checksums.compute(key, &file, &watched, place).await,
                Err(_) => Err(FactoryError::Internal("the line for a checksum's job broke off".to_owned())),
            };
            if let Ok(checksum) = &made {
                checksums.known.insert(key, checksum.clone());
            }
            sender.send_replace(Some(made));
        });
        Ok(Waiting::on(job))
    }

    async fn compute(&self, key: Key, file: &VirtualFile, job: &Job, place: Place) -> Result<Checksum, FactoryError> {
        let (mut hasher, mut at) = (key.1.hasher(), 0);
        while at < file.len() {
            if job.is_abandoned() {
                return Err(FactoryError::Busy);
            }
            let (store, part) = (self.store.clone(), file.slice(at..at.saturating_add(STRIDE)));
            let len = part.len();
            hasher = blocking(move || {
                for piece in part.pieces(0..len, store, PIECE) {
                    hasher.update(&piece?);
                }
                Ok::<_, FactoryError>(hasher)
            })
            .await?;
            at += len;
            self.metrics.hashed_bytes.inc_by(len);
        }
        drop(place);
        self.metrics.count_made("checksum");
        let checksum = hasher.finish();
        let (store, name, bytes) = (self.store.clone(), record(key), checksum.clone());
        blocking(move || store.put_record(RecordKind::Prepared, &name, &bytes)).await?;
        Ok(checksum)
    }

    async fn stored(&self, key: Key) -> Result<Option<Checksum>, FactoryError> {
        let store = self.store.clone();
        let found = blocking(move || store.record(RecordKind::Prepared, &record(key))).await?;
        Ok(found.filter(|bytes| bytes.len() == key.1.checksum_len()).map(|bytes| bytes.as_ref().into()))
    }
}

/// Where a checksum is kept.
fn record((extents, algorithm): Key) -> String {
    format!("{algorithm}/{}", extents.hex())
}

/// Frees a job's key however the job ends.
struct Free {
    checksums: Arc<Checksums>,
    key: Key,
}

impl Drop for Free {
    fn drop(&mut self) {
        lock(&self.checksums.running).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn checksums(store: &Arc<dyn BlobStore>) -> Arc<Checksums> {
        Arc::new(Checksums::new(store.clone(), Arc::default(), 1))
    }

    #[tokio::test]
    async fn a_checksum_is_computed_once_and_kept() {
        let store: Arc<dyn BlobStore> = Arc::new(MemoryStore::default());
        let first = checksums(&store);
        let file = VirtualFile::zeros(STRIDE + 3);
        let extents = Digest::of(&file.encode());
        let want: Checksum = Sha256::digest(vec![0; file.len() as usize]).as_slice().into();
        assert_eq!(first.known(&extents, Algorithm::Sha256), None);
        let asked = (0..8).map(|_| first.of(&file, &extents, Algorithm::Sha256, CLIENT));
        for answer in futures::future::join_all(asked).await {
            assert_eq!(answer.unwrap(), want);
        }
        assert_eq!(first.metrics.hashed_bytes.get(), file.len());
        let restarted = checksums(&store);
        assert_eq!(restarted.of(&file, &extents, Algorithm::Sha256, CLIENT).await.unwrap(), want);
        assert_eq!(restarted.metrics.hashed_bytes.get(), 0);
        let long = restarted.of(&file, &extents, Algorithm::Sha512, CLIENT).await.unwrap();
        assert_eq!(long[..], Sha512::digest(vec![0; file.len() as usize])[..]);
    }

    #[tokio::test]
    async fn a_blob_that_is_missing_is_an_error_and_is_asked_for_again() {
        let store: Arc<dyn BlobStore> = Arc::new(MemoryStore::default());
        let sums = checksums(&store);
        let file = VirtualFile::blob(Digest::of(b"content"), 7);
        let extents = Digest::of(&file.encode());
        let missing = sums.of(&file, &extents, Algorithm::Sha256, CLIENT).await;
        assert!(matches!(missing, Err(FactoryError::Unavailable(_))), "{missing:?}");
        store.put(b"content", None).unwrap();
        let found = sums.of(&file, &extents, Algorithm::Sha256, CLIENT).await.unwrap();
        assert_eq!(found[..], *Digest::of(b"content").raw());
    }

    #[tokio::test]
    async fn too_many_jobs_are_refused() {
        let store: Arc<dyn BlobStore> = Arc::new(MemoryStore::default());
        let sums = Arc::new(Checksums { lanes: Lanes::new(0, 1), ..Checksums::new(store, Arc::default(), 1) });
        let file = VirtualFile::inline("x");
        let first = sums.join((Digest::of(b"1"), Algorithm::Sha256), &file, CLIENT);
        assert!(first.is_ok());
        let again = sums.join((Digest::of(b"1"), Algorithm::Sha256), &file, CLIENT);
        assert!(again.is_ok(), "who waits for the same job needs no place");
        let other = sums.join((Digest::of(b"2"), Algorithm::Sha256), &file, CLIENT);
        assert!(matches!(other.err(), Some(FactoryError::Busy)));
    }
}
