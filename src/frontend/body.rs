//! Bodies of answers: short texts, or ranges of virtual files read as the client takes them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::task::JoinHandle;

use crate::virtual_file::{Pieces, ReadBlob, ReadError, VirtualFile};

/// Bytes handed to a connection at a time: ranges of mapped files, for the most part. What takes memory comes in smaller
/// pieces.
const PIECE: u64 = 1 << 20;

type FilePieces = Pieces<Arc<dyn ReadBlob>>;

/// One range of a file, being sent.
enum Sending {
    /// Between two pieces.
    Ready(FilePieces),
    /// A piece is being read on a thread that may block.
    Reading(JoinHandle<(FilePieces, Option<Result<Bytes, ReadError>>)>),
    /// Nothing is left.
    Done,
}

/// The body of an answer.
pub struct Body {
    /// What comes before the file, or all there is.
    head: Bytes,
    sending: Sending,
    /// Bytes not yet handed out.
    remaining: u64,
}

impl Body {
    /// No bytes.
    pub fn empty() -> Self {
        Self::full(Bytes::new())
    }

    /// These bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let head = bytes.into();
        Self { remaining: head.len() as u64, head, sending: Sending::Done }
    }

    /// All bytes of a file.
    pub fn file(file: &VirtualFile, blobs: Arc<dyn ReadBlob>) -> Self {
        let pieces = file.pieces(0..file.len(), blobs, PIECE);
        Self { head: Bytes::new(), remaining: file.len(), sending: Sending::Ready(pieces) }
    }

    /// The same length with nothing to send: for answers to HEAD.
    #[must_use]
    pub fn without_content(self) -> Self {
        Self::empty()
    }

    /// Bytes not yet handed out.
    pub const fn remaining(&self) -> u64 {
        self.remaining
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = ReadError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ReadError>>> {
        if !self.head.is_empty() {
            let head = std::mem::take(&mut self.head);
            self.remaining -= head.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(head))));
        }
        loop {
            match std::mem::replace(&mut self.sending, Sending::Done) {
                Sending::Done => return Poll::Ready(None),
                Sending::Ready(mut pieces) => {
                    if pieces.remaining() == 0 {
                        return Poll::Ready(None);
                    }
                    if let Some(bytes) = pieces.next_ready() {
                        self.sending = Sending::Ready(pieces);
                        self.remaining -= bytes.len() as u64;
                        return Poll::Ready(Some(Ok(Frame::data(bytes))));
                    }
                    self.sending = Sending::Reading(tokio::task::spawn_blocking(move || {
                        let piece = pieces.next();
                        (pieces, piece)
                    }));
                }
                Sending::Reading(mut task) => {
                    let Poll::Ready(done) = Pin::new(&mut task).poll(cx) else {
                        self.sending = Sending::Reading(task);
                        return Poll::Pending;
                    };
                    // A thread that panicked or a runtime that stops: the answer ends short, and hyper closes the connection.
                    let Ok((pieces, piece)) = done else { return Poll::Ready(None) };
                    return Poll::Ready(match piece {
                        None => None,
                        Some(Ok(bytes)) => {
                            self.sending = Sending::Ready(pieces);
                            self.remaining -= bytes.len() as u64;
                            Some(Ok(Frame::data(bytes)))
                        }
                        Some(Err(error)) => Some(Err(error)),
                    });
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}
