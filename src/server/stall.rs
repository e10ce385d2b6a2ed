//! A stream that gives up on a peer that neither sends nor takes anything.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Counts the requests of a connection whose answers are being made: a peer that waits for one may be silent.
#[derive(Clone, Debug, Default)]
pub struct Busy(Arc<AtomicUsize>);

/// One such request, until dropped.
#[derive(Debug)]
pub struct Making(Busy);

impl Busy {
    /// Begins one more.
    pub fn begin(&self) -> Making {
        self.0.fetch_add(1, Ordering::Relaxed);
        Making(self.clone())
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Wraps a stream with two clocks: one for a peer that is silent while nothing is being sent to it or made for it, one for
/// a peer that takes none of the bytes we have for it.
pub struct Guarded<S> {
    stream: S,
    idle: Duration,
    stall: Duration,
    busy: Busy,
    /// Runs while a read waits; put off by every byte in either direction.
    silent: Pin<Box<Sleep>>,
    /// Runs while a write waits.
    blocked: Option<Pin<Box<Sleep>>>,
}

impl<S> Guarded<S> {
    /// Guards `stream`.
    pub fn new(stream: S, idle: Duration, stall: Duration, busy: Busy) -> Self {
        Self { stream, idle, stall, busy, silent: Box::pin(sleep(idle)), blocked: None }
    }

    fn progress(&mut self) {
        let later = Instant::now() + self.idle;
        self.silent.as_mut().reset(later);
        self.blocked = None;
    }

    /// Notes whether a write got on; an error when it has been waiting for too long.
    fn written<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.progress();
            return polled;
        }
        let stall = self.stall;
        let blocked = self.blocked.get_or_insert_with(|| Box::pin(sleep(stall)));
        match blocked.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes no bytes"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(done) => {
                self.progress();
                Poll::Ready(done)
            }
            // A peer that is being sent something may be silent: the other clock watches it.
            Poll::Pending if self.blocked.is_some() => Poll::Pending,
            Poll::Pending => loop {
                match self.silent.as_mut().poll(cx) {
                    Poll::Ready(()) if self.busy.0.load(Ordering::Relaxed) > 0 => self.progress(),
                    Poll::Ready(()) => {
                        return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer is silent")));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            },
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.written(polled, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::time::timeout;

    use super::*;

    const IDLE: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn a_peer_is_let_go_when_it_is_silent_but_not_while_its_answer_is_made() {
        let (_peer, ours) = tokio::io::duplex(64);
        let busy = Busy::default();
        let mut ours = Guarded::new(ours, IDLE, IDLE, busy.clone());
        let making = busy.begin();
        assert!(timeout(5 * IDLE, ours.read_u8()).await.is_err(), "the peer waits for an answer");
        drop(making);
        let error = timeout(50 * IDLE, ours.read_u8()).await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the peer is silent");
    }
}
