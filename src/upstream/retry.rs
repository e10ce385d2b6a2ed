//! When to ask again, and how long to wait before.

use std::future::Future;
use std::time::{Duration, SystemTime};

use super::error::UpstreamError;

/// How often and how patiently to ask again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    /// Attempts in all; at least 1 is made.
    pub attempts: u32,
    /// The longest wait before the second attempt; doubles with each.
    pub base: Duration,
    /// No wait is longer. An upstream that asks for more is given up.
    pub cap: Duration,
}

/// Whether a failed attempt may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// No: the answer would be the same.
    No,
    /// Yes, after a while.
    Backoff,
    /// Yes, not before this long.
    After(Duration),
}

/// A failed attempt.
#[derive(Debug)]
pub(super) struct Failure {
    pub error: UpstreamError,
    pub again: Again,
}

impl From<UpstreamError> for Failure {
    fn from(error: UpstreamError) -> Self {
        Self { error, again: Again::No }
    }
}

impl Failure {
    /// A failure that may pass.
    pub fn passing(error: UpstreamError) -> Self {
        Self { error, again: Again::Backoff }
    }
}

impl Retry {
    /// How long to wait after `failed` attempts (at least 1) that ended with `again`; `None`: give up.
    ///
    /// Exponential backoff with full jitter: any time between nothing and the doubled base.
    pub fn wait(&self, failed: u32, again: Again) -> Option<Duration> {
        if failed >= self.attempts {
            return None;
        }
        let longest = self.base.saturating_mul(1 << failed.saturating_sub(1).min(16)).min(self.cap);
        let jitter = rand::random_range(Duration::ZERO..=longest);
        match again {
            Again::No => None,
            Again::Backoff => Some(jitter),
            Again::After(asked) if asked > self.cap => None,
            Again::After(asked) => Some(asked + jitter),
        }
    }

    /// Runs `attempt` until it succeeds, fails for good, or was made often enough.
    pub async fn run<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T, UpstreamError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut failed = 0;
        loop {
            let failure = match attempt().await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            failed += 1;
            let Some(wait) = self.wait(failed, failure.again) else { return Err(failure.error) };
            tracing::debug!(attempt = failed, wait_ms = wait.as_millis() as u64, error = %failure.error, "asking the upstream again");
            tokio::time::sleep(wait).await;
        }
    }
}

/// Reads a `Retry-After` header: seconds, or a date (RFC 9110, section 10.2.3).
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value.trim()).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Retry = Retry { attempts: 4, base: Duration::from_millis(100), cap: Duration::from_millis(300) };

    #[test]
    fn waits_grow_to_the_cap_and_end() {
        for (failed, most) in [(1, 100), (2, 200), (3, 300)] {
            for _ in 0..50 {
                assert!(RETRY.wait(failed, Again::Backoff).unwrap() <= Duration::from_millis(most));
            }
        }
        assert_eq!(RETRY.wait(4, Again::Backoff), None);
        assert_eq!(RETRY.wait(1, Again::No), None);
    }

    #[test]
    fn a_wait_that_was_asked_for_is_kept_unless_it_is_too_long() {
        let asked = Duration::from_millis(200);
        assert!(RETRY.wait(1, Again::After(asked)).unwrap() >= asked);
        assert_eq!(RETRY.wait(1, Again::After(Duration::from_secs(1))), None);
        // Absurd numbers do not overflow.
        assert_eq!(RETRY.wait(1, Again::After(Duration::MAX)), None);
        assert!(Retry { attempts: u32::MAX, base: Duration::MAX, ..RETRY }.wait(900, Again::Backoff).is_some());
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(retry_after(" 7 ", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:47 GMT", now), Some(Duration::from_secs(10)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:07 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
    }
}
