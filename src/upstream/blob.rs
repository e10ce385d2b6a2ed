//! Downloads of blobs: streamed into the store's writer, resumed where they broke.

use std::io::{self, Write as _};

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_RANGE;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use url::Url;

use crate::store::{BlobWrite, StoreError};
use crate::types::Digest;

use super::body;
use super::error::{Place, UpstreamError};
use super::registry::Registry;
use super::retry::{Again, Failure};

/// Pieces that wait for the disk at most; one is what a socket gave, 400 KiB at most.
const QUEUE: usize = 4;
/// An attempt that brought this many bytes does not count as failed.
const PROGRESS: u64 = 4 << 20;

/// A blob's writer on a thread that may block. Dropped, it leaves nothing behind.
pub(super) struct Sink {
    queue: mpsc::Sender<Bytes>,
    thread: JoinHandle<io::Result<Box<dyn BlobWrite>>>,
    /// Bytes handed over so far.
    pub written: u64,
}

impl Sink {
    pub fn new(mut writer: Box<dyn BlobWrite>) -> Self {
        let (queue, mut pieces) = mpsc::channel::<Bytes>(QUEUE);
        let thread = spawn_blocking(move || {
            while let Some(piece) = pieces.blocking_recv() {
                writer.write_all(&piece)?;
            }
            Ok(writer)
        });
        Self { queue, thread, written: 0 }
    }

    /// Hands a piece over; false when the writer failed: [`Sink::commit`] then says why.
    pub async fn push(&mut self, piece: Bytes) -> bool {
        self.written += piece.len() as u64;
        self.queue.send(piece).await.is_ok()
    }

    pub async fn commit(self, expected: Digest) -> Result<(Digest, u64), StoreError> {
        drop(self.queue);
        let writer = flat(self.thread.await)?;
        flat(spawn_blocking(move || Ok(writer.commit(Some(&expected)))).await)?
    }
}

/// The result of a thread, its panic told as an error.
fn flat<T>(joined: Result<io::Result<T>, tokio::task::JoinError>) -> Result<T, StoreError> {
    let doing = || "writing a fetched blob".to_owned();
    match joined {
        Ok(result) => result.map_err(|source| StoreError::Io { doing: doing(), source }),
        Err(error) => Err(StoreError::Io { doing: doing(), source: io::Error::other(error) }),
    }
}

/// What is downloaded.
pub(super) struct Wanted<'a> {
    pub place: &'a Place,
    pub digest: Digest,
    /// The size that the manifest promised, in bytes.
    pub size: Option<u64>,
    /// No blob is larger, in bytes.
    pub max: u64,
}

/// Why an attempt ended.
enum Broken {
    /// The upstream's doing.
    Upstream(Failure),
    /// The upstream cannot resume: everything again, from the first byte.
    StartOver,
    /// The writer failed.
    Writer,
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Upstream(failure)
    }
}

impl From<UpstreamError> for Broken {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(error.into())
    }
}

impl Registry {
    pub async fn blob(
        &self,
        wanted: &Wanted<'_>,
        writer: impl Fn() -> Result<Box<dyn BlobWrite>, StoreError>,
    ) -> Result<(Digest, u64), UpstreamError> {
        let place = wanted.place;
        let url = self.url(place, &format!("v2/{}/blobs/{}", place.repository, wanted.digest)).await?;
        let mut sink = Sink::new(writer()?);
        let (mut failed, mut resumed, mut may_resume) = (0, false, true);
        loop {
            if !may_resume && sink.written > 0 {
                sink = Sink::new(writer()?);
            }
            let before = sink.written;
            resumed |= before > 0;
            match self.attempt(wanted, &url, &mut sink).await {
                Ok(()) => match sink.commit(wanted.digest).await {
                    Err(StoreError::Mismatch { .. }) if resumed && may_resume => {
                        tracing::debug!(%place, "the pieces of a resumed download do not fit; starting over");
                        (may_resume, resumed) = (false, false);
                        sink = Sink::new(writer()?);
                    }
                    Err(StoreError::Mismatch { found, .. }) => {
                        return Err(place.bad(format!("the blob has digest {found}")));
                    }
                    done => return Ok(done?),
                },
                Err(Broken::StartOver) if may_resume => may_resume = false,
                Err(Broken::StartOver) => return Err(place.bad("it answers a request for all bytes with a part")),
                Err(Broken::Writer) => {
                    sink.commit(wanted.digest).await?;
                    return Err(place.unavailable("the writer ended early"));
                }
                Err(Broken::Upstream(failure)) => {
                    // Without resumption every attempt starts at nothing: however far it came, it failed.
                    let progress = may_resume && sink.written.saturating_sub(before) >= PROGRESS;
                    failed = if progress { 1 } else { failed + 1 };
                    let Some(wait) = self.retry.wait(failed, failure.again) else { return Err(failure.error) };
                    tracing::debug!(%place, error = %failure.error, at = sink.written, "resuming a download");
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// One request, from where the sink stands to the end.
    async fn attempt(&self, wanted: &Wanted<'_>, url: &Url, sink: &mut Sink) -> Result<(), Broken> {
        let (place, from) = (wanted.place, sink.written);
        if wanted.size.is_some_and(|size| size == from && size > 0) {
            return Ok(());
        }
        let mut response = self.transport.send(place, url, "", from).await?;
        match response.status() {
            StatusCode::OK if from == 0 => {}
            // Range was ignored: what comes is the whole blob again.
            StatusCode::OK | StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => return Err(Broken::StartOver),
            StatusCode::PARTIAL_CONTENT if from == 0 => return Err(Broken::StartOver),
            StatusCode::PARTIAL_CONTENT => {
                let header = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
                if !header.is_some_and(|text| continues(text, from, wanted.size)) {
                    return Err(Broken::StartOver);
                }
            }
            _ => return Err(body::refused(place, response).await.into()),
        }
        let most = wanted.size.unwrap_or(wanted.max);
        if let Some(rest) = response.content_length() {
            let total = from.saturating_add(rest);
            if let Some(size) = wanted.size.filter(|size| *size != total) {
                return Err(place.bad(format!("it announces {total} bytes; the manifest says {size}")).into());
            }
            if total > most {
                return Err(place.bad(format!("it announces {total} bytes; at most {most} are accepted")).into());
            }
        }
        while let Some(piece) = body::next(place, &mut response, sink.written).await? {
            if sink.written + piece.len() as u64 > most {
                return Err(place.bad(format!("it goes on after {most} bytes; no more are expected")).into());
            }
            if !sink.push(piece).await {
                return Err(Broken::Writer);
            }
        }
        match wanted.size {
            Some(size) if sink.written < size => {
                let error = place.bad(format!("cut short after {} of {size} bytes", sink.written));
                Err(Failure { error, again: Again::Backoff }.into())
            }
            _ => Ok(()),
        }
    }
}

/// Whether `Content-Range: bytes <first>-<last>/<total>` (RFC 9110, section 14.4) goes on at `from`, to the end.
fn continues(header: &str, from: u64, size: Option<u64>) -> bool {
    let fields = || {
        let (range, total) = header.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let total: Option<u64> = if total == "*" { None } else { Some(total.parse().ok()?) };
        Some((first.trim().parse::<u64>().ok()?, last.trim().parse::<u64>().ok()?, total))
    };
    let Some((first, last, total)) = fields() else { return false };
    let Some(end) = last.checked_add(1) else { return false };
    let fits = |whole: Option<u64>| whole.is_none_or(|whole| end == whole);
    first == from && end > first && fits(total) && fits(size) && (size.is_none() || total.is_none() || size == total)
}

#[cfg(test)]
mod tests {
    use super::continues;

    #[test]
    fn a_content_range_must_go_on_where_we_stopped_and_reach_the_end() {
        assert!(continues("bytes 5-9/10", 5, Some(10)));
        assert!(continues("bytes 5-9/*", 5, Some(10)));
        assert!(continues("bytes 5-9/10", 5, None));
        for wrong in ["", "bytes", "bytes 4-9/10", "bytes 5-8/10", "bytes 5-9/11", "bytes 5-4/5", "items 5-9/10"] {
            assert!(!continues(wrong, 5, Some(10)), "{wrong}");
        }
        assert!(!continues("bytes 5-18446744073709551615/*", 5, None));
    }
}
