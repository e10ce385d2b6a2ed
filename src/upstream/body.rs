//! Reading answers: bounded bodies, and what failures mean.

use std::error::Error as _;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use http::header::RETRY_AFTER;
use reqwest::Response;
use serde::Deserialize;

use super::error::{Place, UpstreamError};
use super::name::shortened;
use super::retry::{Again, Failure, retry_after};

/// At most this much of an error's body is read, in bytes.
const MAX_ERROR: u64 = 16 << 10;

/// All of a body, at most `max` bytes.
pub(super) async fn read_bounded(place: &Place, mut response: Response, max: u64) -> Result<Bytes, Failure> {
    if let Some(length) = response.content_length()
        && length > max
    {
        return Err(place.bad(format!("it announces {length} bytes; at most {max} are accepted")).into());
    }
    let mut all = BytesMut::new();
    while let Some(piece) = next(place, &mut response, all.len() as u64).await? {
        if all.len() as u64 + piece.len() as u64 > max {
            return Err(place.bad(format!("it goes on after {max} bytes; no more are accepted")).into());
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}

/// The next piece of a body, of which `had` bytes came before.
pub(super) async fn next(place: &Place, response: &mut Response, had: u64) -> Result<Option<Bytes>, Failure> {
    let announced = response.content_length().map(|rest| had + rest);
    response.chunk().await.map_err(|error| {
        if error.is_timeout() {
            return Failure::passing(place.unavailable(format!("no more came after {had} bytes: timed out")));
        }
        let of = announced.map(|length| format!(" of {length}")).unwrap_or_default();
        Failure::passing(place.bad(format!("cut short after {had}{of} bytes: {}", root_cause(&error))))
    })
}

/// What a request that got no answer means.
pub(super) fn failed(place: &Place, at: &str, error: &reqwest::Error) -> Failure {
    if error.is_redirect() {
        return place.bad(format!("{at}redirect refused: {}", root_cause(error))).into();
    }
    if error.is_builder() {
        return place.bad(format!("{at}{}", root_cause(error))).into();
    }
    let what = if error.is_timeout() { "timed out".to_owned() } else { root_cause(error) };
    Failure::passing(place.unavailable(format!("{at}{what}")))
}

/// The innermost cause: "connection refused" says more than "error sending request".
pub(super) fn root_cause(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    shortened(&text)
}

/// An answer that may be better later, and when.
pub(super) fn unavailable(place: &Place, response: &Response, reason: &str) -> Failure {
    let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let asked = header.and_then(|value| retry_after(value, SystemTime::now()));
    let place = Box::new(place.clone());
    Failure {
        error: UpstreamError::Unavailable { place, reason: reason.to_owned(), retry_after: asked },
        again: asked.map_or(Again::Backoff, Again::After),
    }
}

/// What an answer other than a success means.
pub(super) async fn refused(place: &Place, response: Response) -> Failure {
    let status = response.status();
    if status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429) {
        return unavailable(place, &response, &format!("it answered {status}"));
    }
    let bytes = read_bounded(place, response, MAX_ERROR).await.unwrap_or_default();
    let reason = match message(&bytes) {
        Some(message) => format!("it answered {status}: {message}"),
        None => format!("it answered {status}"),
    };
    match status.as_u16() {
        401 | 403 => place.unauthorized(reason).into(),
        404 => place.not_found(reason).into(),
        _ => place.bad(reason).into(),
    }
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<OneError>,
}

#[derive(Deserialize)]
struct OneError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The first error of a body as the distribution specification writes it ("Error Codes").
fn message(bytes: &[u8]) -> Option<String> {
    let errors: Errors = serde_json::from_slice(bytes).ok()?;
    let first = errors.errors.first()?;
    Some(shortened(&format!("{} {}", first.code, first.message)))
}

#[cfg(test)]
mod tests {
    use super::message;

    #[test]
    fn the_first_error_is_told_in_one_line() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no\nentry","detail":{}},{"code":"X"}]}"#;
        assert_eq!(message(body).as_deref(), Some("DENIED no entry"));
        assert_eq!(message(b"<html>"), None);
        assert_eq!(message(br#"{"errors":[]}"#), None);
    }
}
