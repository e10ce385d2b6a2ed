//! Conditional and range requests over a file of known length (RFC 9110, sections 13 and 14).

use std::ops::Range;
use std::sync::Arc;

use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::body::Body;
use crate::virtual_file::{ReadBlob, VirtualFile};

/// Ranges in one request; more than this and the whole file is sent instead.
const MAX_RANGES: usize = 32;

/// What a Range header asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// All of it: no header, or one that is to be ignored.
    Everything,
    /// These parts, none empty, all inside the file.
    Parts(Vec<Range<u64>>),
    /// Nothing that exists.
    Unsatisfiable,
}

/// Reads a Range header for a file of `len` bytes. Other units than bytes and malformed headers are ignored, as RFC 9110 asks.
fn parse(header: &str, len: u64) -> Wanted {
    let Some(list) = header.trim().strip_prefix("bytes=") else { return Wanted::Everything };
    let (mut parts, mut asked) = (Vec::new(), 0);
    for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        asked += 1;
        let Some((first, last)) = item.split_once('-') else { return Wanted::Everything };
        let number = |text: &str| -> Option<u64> {
            // A number beyond 64 bits is beyond every file.
            (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().unwrap_or(u64::MAX))
        };
        let range = match (number(first.trim()), number(last.trim())) {
            (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(len),
            (Some(first), None) if last.trim().is_empty() => first..len,
            (None, Some(suffix)) if first.trim().is_empty() => len.saturating_sub(suffix)..len,
            _ => return Wanted::Everything,
        };
        if range.start < range.end {
            parts.push(range);
        }
    }
    match (asked, parts.len()) {
        (0, _) => Wanted::Everything,
        (n, _) if n > MAX_RANGES => Wanted::Everything,
        (_, 0) => Wanted::Unsatisfiable,
        // Parts that overlap or together exceed the file: the whole is shorter.
        _ if parts.iter().map(|part| u128::from(part.end - part.start)).sum::<u128>() > u128::from(len) => {
            Wanted::Everything
        }
        _ => Wanted::Parts(parts),
    }
}

/// Whether a list of entity tags names `etag`; weak comparison where `weak`.
fn names(list: &HeaderValue, etag: &str, weak: bool) -> bool {
    let Ok(list) = list.to_str() else { return false };
    list.split(',')
        .map(str::trim)
        .any(|tag| tag == "*" || tag == etag || (weak && tag.strip_prefix("W/") == Some(etag)))
}

/// The answer to a GET or HEAD for `file`, whose strong entity tag is `etag` (with its quotes): 200, 206, 304, 412 or 416.
///
/// Content type and further headers of a 200 are taken from `headers`. HEAD is answered like GET; the caller drops the body.
pub fn respond(
    request: &HeaderMap,
    headers: HeaderMap,
    etag: &str,
    file: &VirtualFile,
    blobs: Arc<dyn ReadBlob>,
) -> Response<Body> {
    let len = file.len();
    let mut response = Response::new(Body::empty());
    *response.headers_mut() = headers;
    if let Ok(value) = HeaderValue::from_str(etag) {
        response.headers_mut().insert(ETAG, value);
    }
    response.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if request.get(IF_MATCH).is_some_and(|list| !names(list, etag, false)) {
        *response.status_mut() = StatusCode::PRECONDITION_FAILED;
        response.headers_mut().remove(CONTENT_TYPE);
        return response;
    }
    if request.get(IF_NONE_MATCH).is_some_and(|list| names(list, etag, true)) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response.headers_mut().remove(CONTENT_TYPE);
        return response;
    }
    let same = request.get(IF_RANGE).is_none_or(|tag| tag.as_bytes() == etag.as_bytes());
    let wanted = match request.get(RANGE).and_then(|header| header.to_str().ok()) {
        Some(header) if same => parse(header, len),
        _ => Wanted::Everything,
    };
    match wanted {
        Wanted::Everything => {
            *response.body_mut() = Body::file(file, blobs);
            response.headers_mut().insert(CONTENT_LENGTH, len.into());
        }
        Wanted::Unsatisfiable => {
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            let text = format!("the file has {len} bytes; none of them are in the range asked for\n");
            insert(&mut response, CONTENT_RANGE, &format!("bytes */{len}"));
            insert(&mut response, CONTENT_TYPE, "text/plain; charset=utf-8");
            response.headers_mut().insert(CONTENT_LENGTH, text.len().into());
            *response.body_mut() = Body::full(text);
        }
        Wanted::Parts(parts) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let body = match parts.as_slice() {
                [part] => {
                    insert(&mut response, CONTENT_RANGE, &content_range(part, len));
                    file.slice(part.clone())
                }
                _ => {
                    let boundary = boundary(etag);
                    let kind = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
                    let body = multipart(file, &parts, kind, &boundary);
                    insert(&mut response, CONTENT_TYPE, &format!("multipart/byteranges; boundary={boundary}"));
                    body
                }
            };
            response.headers_mut().insert(CONTENT_LENGTH, body.len().into());
            *response.body_mut() = Body::file(&body, blobs);
        }
    }
    response
}

fn insert(response: &mut Response<Body>, name: http::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn content_range(part: &Range<u64>, len: u64) -> String {
    format!("bytes {}-{}/{len}", part.start, part.end - 1)
}

/// A boundary that is the same for the same file and cannot be guessed to stand in it by accident.
fn boundary(etag: &str) -> String {
    crate::types::Digest::of(etag.as_bytes()).hex()[..32].to_owned()
}

/// A `multipart/byteranges` body: again a virtual file.
fn multipart(file: &VirtualFile, parts: &[Range<u64>], kind: &str, boundary: &str) -> VirtualFile {
    let mut pieces = Vec::with_capacity(parts.len() * 2 + 1);
    for (n, part) in parts.iter().enumerate() {
        let start = if n == 0 { "" } else { "\r\n" };
        let head = format!(
            "{start}--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {}\r\n\r\n",
            content_range(part, file.len())
        );
        pieces.push(VirtualFile::inline(head));
        pieces.push(file.slice(part.clone()));
    }
    pieces.push(VirtualFile::inline(format!("\r\n--{boundary}--\r\n")));
    VirtualFile::concat(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_read_as_rfc_9110_says() {
        let parts = |list: &[(u64, u64)]| Wanted::Parts(list.iter().map(|(from, to)| *from..*to).collect());
        for (header, want) in [
            ("bytes=0-0", parts(&[(0, 1)])),
            ("bytes=5-", parts(&[(5, 10)])),
            ("bytes=-3", parts(&[(7, 10)])),
            ("bytes=-99", parts(&[(0, 10)])),
            ("bytes=8-99", parts(&[(8, 10)])),
            ("bytes=0-1, 4-5", parts(&[(0, 2), (4, 6)])),
            ("bytes=0-1,50-60", parts(&[(0, 2)])),
            ("bytes=10-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=99999999999999999999-", Wanted::Unsatisfiable),
            ("bytes=3-2", Wanted::Everything),
            ("bytes=", Wanted::Everything),
            ("bytes=a-b", Wanted::Everything),
            ("bytes=0-9,0-9", Wanted::Everything),
            ("items=0-1", Wanted::Everything),
        ] {
            assert_eq!(parse(header, 10), want, "{header}");
        }
        let twice_more_than_can_be_counted = "bytes=0-18446744073709551614,1-18446744073709551614";
        assert_eq!(parse(twice_more_than_can_be_counted, u64::MAX), Wanted::Everything);
    }
}
