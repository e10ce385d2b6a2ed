//! How much of an answer waits in the kernel for a client to take what came before it.
//!
//! By default that would be megabytes: a few hundred slow clients would fill the memory that the kernel has for all
//! connections, and slow all others down. Little of it, on the other hand, makes a fast client wait for us again and
//! again. So a connection begins with little, and has more for as long as its client is fast.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes that wait at most (`TCP_NOTSENT_LOWAT`), for a slow client and a fast one.
const SLOW: u32 = 256 << 10;
const FAST: u32 = 1 << 20;

/// A client is fast that takes so many bytes in such a time: 200 MB a second.
const STRETCH: usize = 8 << 20;
const TIME: Duration = Duration::from_millis(40);

/// A connection that is watched for how fast its client is.
pub struct Paced {
    stream: TcpStream,
    /// Bytes written since.
    written: usize,
    since: Instant,
    fast: bool,
}

impl Paced {
    /// Watches `stream`.
    pub fn new(stream: TcpStream) -> Self {
        let paced = Self { stream, written: 0, since: Instant::now(), fast: false };
        paced.limit();
        paced
    }

    fn limit(&self) {
        // Only a bound on memory: without it an answer goes out all the same.
        let _ = SockRef::from(&self.stream).set_tcp_notsent_lowat(if self.fast { FAST } else { SLOW });
    }

    fn count(&mut self, polled: &Poll<io::Result<usize>>) {
        let Poll::Ready(Ok(written)) = polled else { return };
        self.written += written;
        if self.written < STRETCH {
            return;
        }
        let now = Instant::now();
        let fast = now.duration_since(self.since) < TIME;
        (self.written, self.since) = (0, now);
        if fast != self.fast {
            self.fast = fast;
            self.limit();
        }
    }
}

impl AsyncRead for Paced {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Paced {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.count(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.count(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_fast_client_is_found_and_a_slow_one_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut ours = Paced::new(listener.accept().await.unwrap().0);
        let unsent = |ours: &Paced| SockRef::from(&ours.stream).tcp_notsent_lowat().unwrap();
        assert_eq!(unsent(&ours), SLOW);
        let reading = tokio::spawn(async move {
            let (mut buffer, mut read) = (vec![0; 1 << 20], 0);
            while read < 2 * STRETCH {
                read += client.read(&mut buffer).await.unwrap();
            }
        });
        // As if the clock stood still, and then as if much time had passed.
        for (since, limit) in [(Instant::now() + Duration::from_secs(3600), FAST), (Instant::now() - TIME, SLOW)] {
            ours.since = since;
            ours.write_all(&vec![0; STRETCH]).await.unwrap();
            assert_eq!(unsent(&ours), limit);
        }
        reading.await.unwrap();
    }
}
