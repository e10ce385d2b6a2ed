//! What was made by reading all of a file, in memory: digests and checksums that stand inside images.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::types::Digest;
use crate::virtual_file::ReadError;

/// How many are kept.
const CAPACITY: u64 = 1 << 16;

/// Sums by what stands for their file and their kind.
#[derive(Clone)]
pub struct Sums(moka::sync::Cache<Digest, Bytes>);

impl Default for Sums {
    fn default() -> Self {
        Self(moka::sync::Cache::new(CAPACITY))
    }
}

impl Sums {
    /// The sum under `key`, made by one of those who ask at the same time; the others block until it is there. What
    /// failed is made anew for the next one who asks.
    pub fn get(&self, key: &Digest, make: &mut dyn FnMut() -> Result<Bytes, ReadError>) -> Result<Bytes, ReadError> {
        self.0.try_get_with(*key, make).map_err(|error: Arc<ReadError>| match &*error {
            ReadError::Missing(digest) => ReadError::Missing(*digest),
            ReadError::Damaged(digest) => ReadError::Damaged(*digest),
            ReadError::OutOfRange { digest, range } => ReadError::OutOfRange { digest: *digest, range: range.clone() },
            ReadError::Io { digest, source } => {
                ReadError::Io { digest: *digest, source: io::Error::new(source.kind(), source.to_string()) }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_makes_it_for_all_and_failures_are_made_anew() {
        let (sums, key, made) = (Sums::default(), Digest::of(b"key"), AtomicUsize::new(0));
        let fails = sums.get(&key, &mut || Err(ReadError::Missing(key)));
        assert!(matches!(fails, Err(ReadError::Missing(missing)) if missing == key));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let sum = sums.get(&key, &mut || {
                        made.fetch_add(1, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(50));
                        Ok(Bytes::from_static(b"sum"))
                    });
                    assert_eq!(sum.unwrap(), "sum");
                });
            }
        });
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }
}
