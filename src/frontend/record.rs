//! One line in the log and one count in the metrics for every request, when the last byte of its answer is out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::body::Body;
use super::error::ApiError;
use crate::telemetry::{KindLabels, Metrics, RequestLabels};
use crate::virtual_file::ReadError;

/// What is known of a request so far.
pub struct Record {
    metrics: Arc<Metrics>,
    started: Instant,
    id: String,
    method: Method,
    path: String,
    agent: String,
    route: &'static str,
    status: u16,
    sent: u64,
    cause: Option<String>,
}

impl Record {
    /// Begins when the request's head was read.
    pub fn start<B>(metrics: Arc<Metrics>, request: &Request<B>, id: &str) -> Self {
        metrics.in_flight.inc();
        let agent = request.headers().get("user-agent").and_then(|value| value.to_str().ok()).unwrap_or_default();
        Self {
            metrics,
            started: Instant::now(),
            id: id.to_owned(),
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            agent: agent.to_owned(),
            route: "none",
            status: 0,
            sent: 0,
            cause: None,
        }
    }

    /// Notes the route's name.
    pub const fn route(&mut self, name: &'static str) {
        self.route = name;
    }

    /// Notes why the request failed.
    pub fn cause(&mut self, error: &ApiError) {
        self.cause = Some(error.cause.clone().unwrap_or_else(|| error.text.clone()));
    }

    /// Notes the answer's status.
    pub fn answer<B>(&mut self, response: &Response<B>) {
        self.status = response.status().as_u16();
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let elapsed = self.started.elapsed();
        self.metrics.in_flight.dec();
        self.metrics.sent_bytes.inc_by(self.sent);
        self.metrics.duration.get_or_create(&KindLabels { kind: self.route }).observe(elapsed.as_secs_f64());
        let method = match self.method {
            Method::GET | Method::HEAD | Method::POST | Method::OPTIONS => self.method.to_string(),
            _ => "other".to_owned(),
        };
        let labels = RequestLabels { route: self.route, method, status: self.status };
        self.metrics.requests.get_or_create(&labels).inc();
        let milliseconds = elapsed.as_secs_f64() * 1000.0;
        if self.status >= 500 {
            tracing::error!(
                request_id = %self.id, method = %self.method, path = %self.path, status = self.status, bytes = self.sent,
                ms = milliseconds, agent = %self.agent, cause = self.cause.as_deref().unwrap_or_default(), "request"
            );
        } else {
            tracing::info!(
                request_id = %self.id, method = %self.method, path = %self.path, status = self.status, bytes = self.sent,
                ms = milliseconds, agent = %self.agent, cause = self.cause.as_deref().unwrap_or_default(), "request"
            );
        }
    }
}

/// A body that finishes its request's record when it ends or is dropped.
pub struct Recorded {
    body: Body,
    record: Record,
}

impl Recorded {
    /// Joins a body and its record.
    pub const fn new(body: Body, record: Record) -> Self {
        Self { body, record }
    }
}

impl HttpBody for Recorded {
    type Data = Bytes;
    type Error = ReadError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ReadError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.record.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            Poll::Ready(Some(Err(error))) => self.record.cause = Some(format!("the answer was cut short: {error}")),
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
