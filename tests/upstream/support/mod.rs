//! What the tests of the upstream client stand on.

pub mod layout;
pub mod peer;
pub mod registry;

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use image_factory::store::{BlobWrite, StoreError};
use image_factory::types::Digest;
use image_factory::upstream::{Upstream, UpstreamConfig, UpstreamError};

/// A client with short waits.
pub fn client(registry: &str) -> Upstream {
    Upstream::new(config(registry)).unwrap()
}

pub fn config(registry: &str) -> UpstreamConfig {
    UpstreamConfig {
        registry: registry.to_owned(),
        attempts: 3,
        backoff: Duration::from_millis(2),
        max_backoff: Duration::from_secs(2),
        ..UpstreamConfig::default()
    }
}

/// Settings for peers that fall silent.
pub fn hasty(registry: &str) -> UpstreamConfig {
    UpstreamConfig { idle_timeout: Duration::from_millis(250), ..config(registry) }
}

/// Writers into memory: what was committed, and how many were asked for.
#[derive(Clone, Default)]
pub struct Memory {
    pub committed: Arc<Mutex<Vec<Vec<u8>>>>,
    pub writers: Arc<AtomicUsize>,
    /// Writers that are neither committed nor dropped.
    pub alive: Arc<AtomicUsize>,
    /// Writing fails once a writer holds this many bytes.
    pub room: Option<usize>,
}

impl Memory {
    pub fn writer(&self) -> Result<Box<dyn BlobWrite>, StoreError> {
        self.writers.fetch_add(1, Ordering::SeqCst);
        self.alive.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(MemoryWriter { memory: self.clone(), bytes: Vec::new() }))
    }

    pub async fn fetch(
        &self,
        upstream: &Upstream,
        digest: &Digest,
        size: Option<u64>,
    ) -> Result<(Digest, u64), UpstreamError> {
        let result = upstream.blob("a/b", digest, size, || self.writer()).await;
        // A thread that lost its future needs a moment to notice.
        for _ in 0..200 {
            if self.alive.load(Ordering::SeqCst) == 0 {
                return result;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("a writer was neither committed nor dropped");
    }

    pub fn count(&self) -> usize {
        self.writers.load(Ordering::SeqCst)
    }

    pub fn is_empty(&self) -> bool {
        self.committed.lock().unwrap().is_empty()
    }

    pub fn only(&self) -> Vec<u8> {
        let committed = self.committed.lock().unwrap();
        assert_eq!(committed.len(), 1, "one blob is committed");
        committed[0].clone()
    }
}

struct MemoryWriter {
    memory: Memory,
    bytes: Vec<u8>,
}

impl Write for MemoryWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.memory.room.is_some_and(|room| self.bytes.len() + bytes.len() > room) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobWrite for MemoryWriter {
    fn commit(mut self: Box<Self>, expected: Option<&Digest>) -> Result<(Digest, u64), StoreError> {
        let found = Digest::of(&self.bytes);
        if let Some(expected) = expected.filter(|expected| **expected != found) {
            return Err(StoreError::Mismatch { expected: *expected, found });
        }
        let length = self.bytes.len() as u64;
        self.memory.committed.lock().unwrap().push(std::mem::take(&mut self.bytes));
        Ok((found, length))
    }
}

impl Drop for MemoryWriter {
    fn drop(&mut self) {
        self.memory.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Bytes that do not repeat within a blob.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(length)
    .collect()
}
