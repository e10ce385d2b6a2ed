//! Conditional and range requests: what is answered lies inside the file, is what was asked for, and as long as promised.
//!
//! The input is the file's length (1 byte how, 8 bytes), then lines: Range, If-Range, If-Match, If-None-Match.
#![no_main]

use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use fuzz::{Blobs, Input, bytes};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::Body as _;
use image_factory::frontend::{Body, respond};
use image_factory::types::Digest;
use image_factory::virtual_file::{Endian, VirtualFile, Width};

const ETAG: &str = "\"etag\"";
const KIND: &str = "application/x-fuzz";
/// Bytes of a body that are compared.
const COMPARED: u64 = 1 << 18;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let (how, number) = (input.number(1), input.number(8));
    let len = number >> 2 >> (how & 63);
    let width = Width::new(8).expect("it is possible");
    let file = match how >> 6 {
        0 => VirtualFile::blob(Digest::of(b"a"), len),
        1 => VirtualFile::concat([
            VirtualFile::inline(&b"inline"[..]),
            VirtualFile::repeat(&b"abc"[..], len / 8),
            VirtualFile::blob(Digest::of(b"a"), len / 8),
            VirtualFile::count(0, 7, width, Endian::Big, len / 64),
        ]),
        2 => VirtualFile::inline(vec![b'x'; (len % 5000) as usize]),
        _ => VirtualFile::count(3, 1, width, Endian::Little, len / 8),
    };
    let mut request = HeaderMap::new();
    let lines = data.get(9..).unwrap_or_default().split(|byte| *byte == b'\n');
    for (name, line) in [RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH].into_iter().zip(lines) {
        if let (Ok(value), false) = (HeaderValue::from_bytes(line), line.is_empty()) {
            request.insert(name, value);
        }
    }
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(KIND))]);
    let response = respond(&request, headers, ETAG, &file, Arc::new(Blobs));
    let asked = request.get(RANGE).and_then(|header| parts(header.to_str().ok()?, file.len()));
    let conditions = request.len() - usize::from(request.contains_key(RANGE));
    let promised = text(&response, CONTENT_LENGTH).map(|len| len.parse::<u64>().expect("a number"));
    let body = Content::of(response.body().remaining());
    match response.status().as_u16() {
        200 => {
            assert_eq!(promised, Some(file.len()));
            assert!(conditions > 0 || asked.is_none_or(|asked| total(&asked) > file.len().into() || asked.len() > 32));
            body.take(response).is(&file);
        }
        206 => {
            let asked = asked.expect("an answer in parts to a request for parts");
            let asked: Vec<_> = asked.into_iter().filter(|range| !range.is_empty()).collect();
            assert!(total(&asked) <= file.len().into() && asked.len() <= 32);
            assert_eq!(promised, Some(response.body().remaining()));
            if let [range] = asked.as_slice() {
                assert_eq!(text(&response, CONTENT_RANGE), Some(content_range(range, &file)));
                assert_eq!(promised, Some(range.end - range.start));
                return body.take(response).is(&file.slice(range.clone()));
            }
            let kind = text(&response, CONTENT_TYPE).expect("a type");
            let boundary = kind.strip_prefix("multipart/byteranges; boundary=").expect("the type of several parts");
            let mut pieces = Vec::new();
            for range in &asked {
                let head = format!(
                    "\r\n--{boundary}\r\nContent-Type: {KIND}\r\nContent-Range: {}\r\n\r\n",
                    content_range(range, &file)
                );
                // No line end in front of the first boundary.
                pieces.push(VirtualFile::inline(head.as_bytes()[if pieces.is_empty() { 2 } else { 0 }..].to_vec()));
                pieces.push(file.slice(range.clone()));
            }
            pieces.push(VirtualFile::inline(format!("\r\n--{boundary}--\r\n")));
            let expected = VirtualFile::concat(pieces);
            assert_eq!(promised, Some(expected.len()));
            body.take(response).is(&expected);
        }
        304 => assert!(body.0 == 0 && request.contains_key(IF_NONE_MATCH) && promised.is_none()),
        412 => assert!(body.0 == 0 && request.contains_key(IF_MATCH) && promised.is_none()),
        416 => {
            assert!(asked.is_some_and(|asked| asked.iter().all(Range::is_empty)));
            assert_eq!(text(&response, CONTENT_RANGE), Some(format!("bytes */{}", file.len())));
            assert_eq!(promised, Some(body.0));
        }
        other => panic!("status {other}"),
    }
});

/// The ranges of a well-formed header as RFC 9110, section 14.1.2, has it, cut to the file; `None` for any other.
fn parts(header: &str, len: u64) -> Option<Vec<Range<u64>>> {
    let list = header.trim().strip_prefix("bytes=")?;
    let number = |digits: &str| -> Option<u128> {
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().unwrap_or(u128::MAX))
    };
    let mut ranges = Vec::new();
    for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let (first, last) = item.split_once('-').map(|(first, last)| (first.trim(), last.trim()))?;
        let len = u128::from(len);
        let (from, to) = match (first, last) {
            ("", "") => return None,
            ("", suffix) => (len.saturating_sub(number(suffix)?), len),
            (first, "") => (number(first)?, len),
            (first, last) => (number(first)?, number(last)?.saturating_add(1)),
        };
        // Beyond 64 bits all positions are alike, so that 2^64 to 2^65 and back are both possible.
        if !last.is_empty() && !first.is_empty() && from.min(u64::MAX.into()) >= to && to <= u64::MAX.into() {
            return None;
        }
        ranges.push(from.min(len) as u64..to.min(len) as u64);
    }
    (!ranges.is_empty()).then_some(ranges)
}

fn total(ranges: &[Range<u64>]) -> u128 {
    ranges.iter().map(|range| u128::from(range.end - range.start)).sum()
}

fn content_range(range: &Range<u64>, file: &VirtualFile) -> String {
    format!("bytes {}-{}/{}", range.start, range.end - 1, file.len())
}

fn text(response: &Response<Body>, name: HeaderName) -> Option<String> {
    response.headers().get(name).map(|value| value.to_str().expect("plain text").to_owned())
}

/// Length and first bytes of a body.
struct Content(u64, Vec<u8>);

impl Content {
    const fn of(len: u64) -> Self {
        Self(len, Vec::new())
    }

    /// Takes the first bytes out of the answer; all of a small one.
    fn take(mut self, response: Response<Body>) -> Self {
        let mut body = std::pin::pin!(response.into_body());
        while (self.1.len() as u64) < self.0.min(COMPARED) {
            match body.as_mut().poll_frame(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Some(Ok(frame))) => self.1.extend(frame.into_data().expect("data")),
                other => panic!("no data: {other:?}"),
            }
        }
        assert!(self.0 > COMPARED || body.is_end_stream());
        self
    }

    fn is(self, file: &VirtualFile) {
        assert_eq!(self.0, file.len());
        assert!(self.1 == bytes(&file.slice(0..self.1.len() as u64)), "other bytes than the file's");
    }
}
