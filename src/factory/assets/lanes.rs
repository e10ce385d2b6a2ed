//! Places for long jobs, shared fairly: who asks for many waits behind who asks for one.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// A bounded number of places. Those who wait are served a client at a time, in turn.
pub struct Lanes {
    state: Mutex<State>,
    max_waiting: usize,
}

struct State {
    free: usize,
    waiting: usize,
    /// A queue a client; the client at the front is served next.
    queues: VecDeque<(IpAddr, VecDeque<oneshot::Sender<Place>>)>,
}

/// A place that is taken; free again when dropped.
pub struct Place(Option<Arc<Lanes>>);

/// Too many wait already.
#[derive(Debug, PartialEq, Eq)]
pub struct Busy;

impl Lanes {
    /// `places` at once, and `max_waiting` who wait for one.
    pub fn new(places: usize, max_waiting: usize) -> Arc<Self> {
        let state = State { free: places, waiting: 0, queues: VecDeque::new() };
        Arc::new(Self { state: Mutex::new(state), max_waiting })
    }

    /// Gets in line for a place on behalf of a client; the answer is the place, or what it comes through.
    ///
    /// # Errors
    /// [`Busy`]
    pub fn enter(self: &Arc<Self>, client: IpAddr) -> Result<oneshot::Receiver<Place>, Busy> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        if state.free > 0 {
            state.free -= 1;
            drop(state);
            // If nobody receives it, it is free again.
            let _ = sender.send(Place(Some(self.clone())));
            return Ok(receiver);
        }
        if state.waiting >= self.max_waiting {
            return Err(Busy);
        }
        state.waiting += 1;
        match state.queues.iter_mut().find(|(of, _)| *of == client) {
            Some((_, queue)) => queue.push_back(sender),
            None => state.queues.push_back((client, VecDeque::from([sender]))),
        }
        Ok(receiver)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next one in line, or the place becomes free.
    fn next(&self) -> Option<oneshot::Sender<Place>> {
        let mut state = self.lock();
        let Some((client, mut queue)) = state.queues.pop_front() else {
            state.free += 1;
            return None;
        };
        state.waiting -= 1;
        let next = queue.pop_front();
        if !queue.is_empty() {
            state.queues.push_back((client, queue));
        }
        next
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(lanes) = self.0.take() else { return };
        while let Some(next) = lanes.next() {
            match next.send(Self(Some(lanes.clone()))) {
                Ok(()) => return,
                // Who waited went away: the next one.
                Err(mut place) => drop(place.0.take()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, n])
    }

    #[tokio::test]
    async fn clients_take_turns() {
        let lanes = Lanes::new(1, 10);
        let first = lanes.enter(client(1)).unwrap().await.unwrap();
        let greedy: Vec<_> = (0..3).map(|_| lanes.enter(client(1)).unwrap()).collect();
        let mut modest = lanes.enter(client(2)).unwrap();
        let mut greedy = greedy.into_iter();
        drop(first);
        let second = greedy.next().unwrap().await.unwrap();
        assert!(modest.try_recv().is_err());
        drop(second);
        drop(modest.await.unwrap());
        for waiting in greedy {
            drop(waiting.await.unwrap());
        }
        assert_eq!(lanes.lock().free, 1);
    }

    #[tokio::test]
    async fn who_goes_away_takes_no_place() {
        let lanes = Lanes::new(1, 2);
        let place = lanes.enter(client(1)).unwrap().await.unwrap();
        let gone = lanes.enter(client(2)).unwrap();
        let stays = lanes.enter(client(3)).unwrap();
        assert_eq!(lanes.enter(client(4)).err(), Some(Busy));
        drop(gone);
        drop(place);
        drop(stays.await.unwrap());
        drop(lanes.enter(client(5)).unwrap());
        let state = lanes.lock();
        assert_eq!((state.free, state.waiting), (1, 0));
    }
}
