//! The one place where errors become statuses.
//!
//! 400 what the caller got wrong, 404 what does not exist, 405 method, 413 too large, 501 what this machine cannot do,
//! 502 what the upstream got wrong (bad signatures and answers), 503 with `Retry-After` what may work later, 500 only our
//! own faults, whose cause is logged and not sent.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use super::body::Body;
use crate::factory::FactoryError;

/// Codes of errors in the OCI distribution specification, section "Error codes".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OciCode {
    /// The blob is not known to the registry.
    BlobUnknown,
    /// A text is no digest that can be served.
    DigestInvalid,
    /// The manifest is not known to the repository.
    ManifestUnknown,
    /// The repository's name is not well-formed, or no such image can be made.
    NameInvalid,
    /// The repository is not known.
    NameUnknown,
    /// Too many requests, or the upstream is not reachable.
    TooManyRequests,
    /// The operation is not supported.
    Unsupported,
}

impl OciCode {
    const fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unsupported => "UNSUPPORTED",
        }
    }
}

/// An error on its way to the client.
#[derive(Debug)]
pub struct ApiError {
    /// The status.
    pub status: StatusCode,
    /// One line for the client.
    pub text: String,
    /// The code on registry routes.
    pub code: OciCode,
    /// What is logged and not sent, if more than `text`.
    pub cause: Option<String>,
}

impl ApiError {
    /// An error whose text says all.
    pub fn new(status: StatusCode, code: OciCode, text: impl Into<String>) -> Self {
        Self { status, code, text: text.into(), cause: None }
    }

    /// No such route.
    pub fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, OciCode::NameUnknown, "404 page not found")
    }

    /// The answer on plain routes: one line of text.
    pub fn plain(&self) -> Response<Body> {
        let text: String =
            self.text.split('\n').map(str::trim_end).collect::<Vec<_>>().join(" ").trim().to_owned() + "\n";
        self.answer("text/plain; charset=utf-8", text)
    }

    /// The answer on registry routes: the specification's JSON.
    pub fn registry(&self) -> Response<Body> {
        let body = serde_json::json!({
            "errors": [{ "code": self.code.as_str(), "message": self.text, "detail": null }]
        });
        self.answer("application/json", format!("{body}\n"))
    }

    fn answer(&self, kind: &'static str, text: String) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CONTENT_LENGTH, text.len().into());
        headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
        if matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        *response.body_mut() = Body::full(text);
        response
    }
}

impl From<FactoryError> for ApiError {
    fn from(error: FactoryError) -> Self {
        let (status, code) = match &error {
            FactoryError::Invalid(_) => (StatusCode::BAD_REQUEST, OciCode::NameInvalid),
            FactoryError::NoSuchSchematic(_) | FactoryError::SchematicNotFound => {
                (StatusCode::NOT_FOUND, OciCode::NameUnknown)
            }
            FactoryError::NoSuchVersion(_) | FactoryError::NoSuchTag { .. } => {
                (StatusCode::NOT_FOUND, OciCode::ManifestUnknown)
            }
            FactoryError::NoSuchImage(_) => (StatusCode::NOT_FOUND, OciCode::NameUnknown),
            FactoryError::NoSuchManifest(_) | FactoryError::NoSuchReference(_) => {
                (StatusCode::NOT_FOUND, OciCode::ManifestUnknown)
            }
            FactoryError::BadDigest(_) => (StatusCode::BAD_REQUEST, OciCode::DigestInvalid),
            FactoryError::NoSuchBlob(_) => (StatusCode::NOT_FOUND, OciCode::BlobUnknown),
            FactoryError::NoSuchFile { .. } => (StatusCode::NOT_FOUND, OciCode::NameUnknown),
            FactoryError::Untrusted { .. } | FactoryError::BadSource { .. } => {
                (StatusCode::BAD_GATEWAY, OciCode::ManifestUnknown)
            }
            FactoryError::NoSandbox(_) => (StatusCode::NOT_IMPLEMENTED, OciCode::Unsupported),
            FactoryError::Unavailable(_) | FactoryError::NoRoom | FactoryError::Busy => {
                (StatusCode::SERVICE_UNAVAILABLE, OciCode::TooManyRequests)
            }
            FactoryError::Internal(cause) => {
                return Self {
                    status: StatusCode::INTERNAL_SERVER_ERROR,
                    code: OciCode::Unsupported,
                    text: "internal server error".to_owned(),
                    cause: Some(cause.clone()),
                };
            }
        };
        Self::new(status, code, error.to_string())
    }
}
