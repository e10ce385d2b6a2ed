//! Cross-origin requests (the Fetch standard, section "CORS protocol").

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, CONTENT_LENGTH, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};

use super::body::Body;

const METHODS: &[&str] = &["GET", "HEAD", "POST", "OPTIONS"];
const REQUEST_HEADERS: &[&str] = &["cache-control", "content-type", "range"];
const EXPOSED: &str = "Content-Disposition, Content-Length, Content-Type";

/// Which origins may read our answers.
pub struct Policy {
    any: bool,
    origins: Vec<String>,
}

impl Policy {
    /// `*` allows every origin; otherwise exact origins such as `https://example.com`.
    pub fn new(origins: &[String]) -> Self {
        Self { any: origins.iter().any(|origin| origin == "*"), origins: origins.to_vec() }
    }

    /// The value that allows `origin`, if it is allowed.
    fn allow(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        if self.any {
            return Some(HeaderValue::from_static("*"));
        }
        self.origins.iter().any(|known| known.as_bytes() == origin.as_bytes()).then(|| origin.clone())
    }

    /// The answer to a preflight request, if it is one. What is not allowed is left out of the answer.
    pub fn preflight<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        if *request.method() != Method::OPTIONS {
            return None;
        }
        let origin = request.headers().get("origin")?;
        let method = request.headers().get(ACCESS_CONTROL_REQUEST_METHOD)?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        let asked = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS);
        let known_method = METHODS.iter().any(|known| known.as_bytes() == method.as_bytes());
        let known_headers = asked.is_none_or(|list| {
            list.to_str().is_ok_and(|list| {
                list.split(',')
                    .map(|name| name.trim().to_ascii_lowercase())
                    .all(|name| name.is_empty() || REQUEST_HEADERS.contains(&name.as_str()))
            })
        });
        if let (Some(allow), true, true) = (self.allow(origin), known_method, known_headers) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allow);
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, method.clone());
            if let Some(asked) = asked {
                headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
            }
        }
        Some(response)
    }

    /// Adds what every answer carries.
    pub fn decorate(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        headers.append(VARY, HeaderValue::from_static("Origin"));
        if headers.contains_key(ACCESS_CONTROL_ALLOW_METHODS) {
            return;
        }
        if let Some(allow) = origin.and_then(|origin| self.allow(origin)) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allow);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
    }
}
