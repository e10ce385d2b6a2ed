//! Doing something once for many who ask at the same time.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// What a task that broke off is turned into.
pub trait BrokeOff {
    /// The error of a task that ended without an answer, for the reason given.
    fn broke_off(reason: String) -> Self;
}

type Answer<V, E> = Option<Result<V, E>>;
type Running<K, V, E> = HashMap<K, watch::Receiver<Answer<V, E>>>;

/// Runs a task once a key; who asks while it runs waits for the same answer.
///
/// The task is one of its own: a caller that goes away neither stops nor repeats it. Good answers are not kept here;
/// errors are, for as long as [`SingleFlight::new`] says.
pub struct SingleFlight<K, V, E> {
    running: Arc<Mutex<Running<K, V, E>>>,
    failed: Arc<Mutex<HashMap<K, (Instant, E)>>>,
    negative_ttl: Option<Duration>,
}

/// Errors remembered at most.
const MAX_FAILED: usize = 10_000;

impl<K, V, E> SingleFlight<K, V, E>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: BrokeOff + Clone + Send + Sync + 'static,
{
    /// Errors are remembered for `negative_ttl`, or not at all.
    pub fn new(negative_ttl: Option<Duration>) -> Self {
        Self { running: Arc::default(), failed: Arc::default(), negative_ttl }
    }

    /// The answer for `key`: of the task that runs, or of the one that `make` starts now.
    ///
    /// # Errors
    /// That of the task, shared by all who waited, or [`BrokeOff`] if it panicked.
    pub async fn run<F>(&self, key: K, make: impl FnOnce() -> F) -> Result<V, E>
    where
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        if let Some(error) = self.remembered(&key) {
            return Err(error);
        }
        let mut receiver = {
            let mut running = lock(&self.running);
            match running.get(&key) {
                Some(receiver) => receiver.clone(),
                None => {
                    // First of all, while nobody waits for the key: it may panic.
                    let task = make();
                    let (sender, receiver) = watch::channel(None);
                    self.start(key.clone(), task, sender);
                    running.insert(key, receiver.clone());
                    receiver
                }
            }
        };
        let answer = match receiver.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone(),
            Err(_) => None,
        };
        answer.unwrap_or_else(|| Err(E::broke_off("the task that should have answered broke off".to_owned())))
    }

    fn start<F>(&self, key: K, task: F, sender: watch::Sender<Answer<V, E>>)
    where
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let (running, failed, keep) = (self.running.clone(), self.failed.clone(), self.negative_ttl);
        tokio::spawn(async move {
            // The key is free again however the task ends, by a panic too.
            let _free = Free { running, key: key.clone() };
            let answer = task.await;
            if let (Err(error), Some(ttl)) = (&answer, keep) {
                let mut failed = lock(&failed);
                if failed.len() >= MAX_FAILED {
                    failed.retain(|_, (until, _)| *until > Instant::now());
                }
                if failed.len() < MAX_FAILED {
                    failed.insert(key, (Instant::now() + ttl, error.clone()));
                }
            }
            sender.send_replace(Some(answer));
        });
    }

    fn remembered(&self, key: &K) -> Option<E> {
        self.negative_ttl?;
        let mut failed = lock(&self.failed);
        match failed.get(key) {
            Some((until, error)) if *until > Instant::now() => Some(error.clone()),
            Some(_) => {
                failed.remove(key);
                None
            }
            None => None,
        }
    }
}

/// Frees a key when it is dropped.
struct Free<K: Eq + Hash, V, E> {
    running: Arc<Mutex<Running<K, V, E>>>,
    key: K,
}

impl<K: Eq + Hash, V, E> Drop for Free<K, V, E> {
    fn drop(&mut self) {
        lock(&self.running).remove(&self.key);
    }
}

/// Nothing here panics while it holds a lock; one that is poisoned all the same is as good as before.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    impl BrokeOff for String {
        fn broke_off(reason: String) -> Self {
            reason
        }
    }

    type Flight = SingleFlight<u8, usize, String>;

    #[tokio::test]
    async fn many_callers_share_one_task() {
        let (flight, runs) = (Arc::new(Flight::new(None)), Arc::new(AtomicUsize::new(0)));
        let calls = (0..100).map(|_| {
            let (flight, runs) = (flight.clone(), runs.clone());
            tokio::spawn(async move {
                flight
                    .run(1, || async move {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        Ok(runs.fetch_add(1, Ordering::SeqCst))
                    })
                    .await
            })
        });
        for answer in futures::future::join_all(calls).await {
            assert_eq!(answer.unwrap(), Ok(0));
        }
        assert_eq!(flight.run(1, || async { Ok(7) }).await, Ok(7));
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_stops_nothing() {
        let flight = Arc::new(Flight::new(None));
        let (done, mut finished) = watch::channel(false);
        let first = flight.run(1, || async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            done.send_replace(true);
            Ok(1)
        });
        assert!(tokio::time::timeout(Duration::from_millis(5), first).await.is_err());
        assert_eq!(flight.run(1, || async { Ok(2) }).await, Ok(1));
        assert!(finished.wait_for(|done| *done).await.is_ok());
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_frees_the_key() {
        let flight = Flight::new(None);
        let broken = flight.run(1, || async { panic!("on purpose") }).await;
        assert!(broken.unwrap_err().contains("broke off"));
        assert_eq!(flight.run(1, || async { Ok(3) }).await, Ok(3));
    }

    #[tokio::test]
    async fn a_panic_before_there_is_a_task_leaves_the_key_free() {
        let flight = Arc::new(Flight::new(None));
        let broken = flight.clone();
        let make = || -> std::future::Ready<Result<usize, String>> { panic!("on purpose") };
        assert!(tokio::spawn(async move { broken.run(1, make).await }).await.is_err());
        assert_eq!(flight.run(1, || async { Ok(3) }).await, Ok(3));
    }

    #[tokio::test]
    async fn errors_are_remembered_for_a_while() {
        let flight = Flight::new(Some(Duration::from_millis(40)));
        assert_eq!(flight.run(1, || async { Err("no".to_owned()) }).await, Err("no".to_owned()));
        assert_eq!(flight.run(1, || async { Ok(1) }).await, Err("no".to_owned()));
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert_eq!(flight.run(1, || async { Ok(1) }).await, Ok(1));
    }
}
