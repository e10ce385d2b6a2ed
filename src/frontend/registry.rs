//! The pull side of the OCI distribution specification (v1.1).

use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, LINK};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use percent_encoding::percent_decode_str;

use super::body::Body;
use super::error::{ApiError, OciCode};
use super::range;
use crate::factory::{Document, Factory, Repository};
use crate::types::{Digest, DigestError};
use crate::virtual_file::{NoBlobs, VirtualFile};

const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What a path below `/v2` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `/v2/` itself.
    Base,
    /// `<name>/manifests/<reference>`
    Manifest(String, String),
    /// `<name>/blobs/<digest>`
    Blob(String, String),
    /// `<name>/tags/list`
    Tags(String),
    /// `<name>/referrers/<digest>`
    Referrers(String, String),
    /// Nothing that a registry has.
    Unknown(String),
}

impl Target {
    /// Reads what follows `/v2`; one trailing slash does no harm.
    pub fn parse(rest: &str) -> Self {
        let path = rest.strip_prefix('/').unwrap_or(rest);
        let path = path.strip_suffix('/').unwrap_or(path);
        if path.is_empty() {
            return Self::Base;
        }
        let unknown = || Self::Unknown(rest.to_owned());
        let Ok(path) = percent_decode_str(path).decode_utf8() else { return unknown() };
        let words: Vec<&str> = path.split('/').collect();
        if words.iter().any(|word| word.is_empty()) || words.len() < 3 {
            return unknown();
        }
        let name = words[..words.len() - 2].join("/");
        let last = words[words.len() - 1].to_owned();
        match (words[words.len() - 2], last.as_str()) {
            ("manifests", _) => Self::Manifest(name, last),
            ("blobs", _) => Self::Blob(name, last),
            ("tags", "list") => Self::Tags(name),
            ("referrers", _) => Self::Referrers(name, last),
            _ => unknown(),
        }
    }

    /// The name of the route in metrics and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Base => "v2",
            Self::Manifest(..) => "v2-manifests",
            Self::Blob(..) => "v2-blobs",
            Self::Tags(_) => "v2-tags",
            Self::Referrers(..) => "v2-referrers",
            Self::Unknown(_) => "v2-unknown",
        }
    }
}

/// Answers a GET or HEAD below `/v2`.
pub async fn answer(factory: &Arc<Factory>, target: &Target, request: &Parts) -> Result<Response<Body>, ApiError> {
    let (query, headers) = (request.uri.query().unwrap_or_default(), &request.headers);
    let mut response = match target {
        Target::Base => json("application/json", "{}".to_owned()),
        Target::Unknown(path) => {
            return Err(ApiError::new(
                StatusCode::NOT_FOUND,
                OciCode::NameUnknown,
                format!("unknown registry path: {path:?}"),
            ));
        }
        Target::Manifest(name, reference) => {
            let repository = Repository::parse(name)?;
            let document = factory.manifest(&repository, reference).await?;
            document_response(headers, &document)
        }
        Target::Blob(name, digest) => blob(factory, name, digest, headers).await?,
        Target::Tags(name) => tags(factory, name, query).await?,
        Target::Referrers(name, digest) => referrers(factory, name, digest, query).await?,
    };
    response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    Ok(response)
}

fn json(kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CONTENT_LENGTH, text.len().into());
    *response.body_mut() = Body::full(text);
    response
}

fn digest(text: &str) -> Result<Digest, ApiError> {
    text.parse().map_err(|error: DigestError| {
        // A text without an algorithm is no digest at all: there is nothing under such a path.
        let status = if text.contains(':') { StatusCode::BAD_REQUEST } else { StatusCode::NOT_FOUND };
        ApiError::new(status, OciCode::DigestInvalid, error.to_string())
    })
}

fn digest_headers(digest: &Digest, kind: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(kind) {
        headers.insert(CONTENT_TYPE, value);
    }
    if let Ok(value) = HeaderValue::from_str(&digest.to_string()) {
        headers.insert(DOCKER_CONTENT_DIGEST, value);
    }
    headers
}

fn document_response(request: &HeaderMap, document: &Document) -> Response<Body> {
    let headers = digest_headers(&document.digest, &document.media_type);
    let etag = format!("\"{}\"", document.digest);
    range::respond(request, headers, &etag, &VirtualFile::inline(document.bytes.clone()), Arc::new(NoBlobs))
}

async fn blob(factory: &Arc<Factory>, name: &str, text: &str, request: &HeaderMap) -> Result<Response<Body>, ApiError> {
    let repository = Repository::parse(name)?;
    let digest = digest(text)?;
    let file = factory.blob(&repository, &digest).await?;
    let mut headers = digest_headers(&digest, "application/octet-stream");
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    Ok(range::respond(request, headers, &format!("\"{digest}\""), &file, factory.blobs()))
}

/// A parameter of the query string, decoded.
fn parameter(query: &str, name: &str) -> Option<String> {
    url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

async fn tags(factory: &Arc<Factory>, name: &str, query: &str) -> Result<Response<Body>, ApiError> {
    let repository = Repository::parse(name)?;
    let count = parameter(query, "n").map(|text| text.parse::<usize>()).transpose().map_err(|_| {
        ApiError::new(StatusCode::BAD_REQUEST, OciCode::Unsupported, "parameter n: a whole number is expected")
    })?;
    let mut tags = factory.tags(&repository).await?;
    tags.sort_unstable();
    if let Some(last) = parameter(query, "last") {
        tags.retain(|tag| *tag > last);
    }
    let more = count.is_some_and(|count| tags.len() > count);
    if let Some(count) = count {
        tags.truncate(count);
    }
    let body = serde_json::json!({ "name": name, "tags": tags });
    let mut response = json("application/json", body.to_string());
    if let (true, Some(count), Some(last)) = (more, count, tags.last()) {
        let last: String = url::form_urlencoded::byte_serialize(last.as_bytes()).collect();
        let link = format!("</v2/{name}/tags/list?n={count}&last={last}>; rel=\"next\"");
        if let Ok(value) = HeaderValue::from_str(&link) {
            response.headers_mut().insert(LINK, value);
        }
    }
    Ok(response)
}

async fn referrers(factory: &Arc<Factory>, name: &str, text: &str, query: &str) -> Result<Response<Body>, ApiError> {
    let repository = Repository::parse(name)?;
    let digest = text.parse::<Digest>().map_err(|error| {
        ApiError::new(StatusCode::BAD_REQUEST, OciCode::DigestInvalid, format!("referrers: {error}"))
    })?;
    let mut found = factory.referrers(&repository, &digest).await?;
    let filter = parameter(query, "artifactType");
    if let Some(wanted) = &filter {
        found.retain(|descriptor| descriptor.get("artifactType").and_then(|kind| kind.as_str()) == Some(wanted));
    }
    let body = serde_json::json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": found });
    let mut response = json(INDEX, body.to_string());
    if filter.is_some() {
        response.headers_mut().insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_below_v2_name_what_the_specification_says() {
        let manifest = |name: &str, reference: &str| Target::Manifest(name.to_owned(), reference.to_owned());
        assert_eq!(Target::parse(""), Target::Base);
        assert_eq!(Target::parse("/"), Target::Base);
        assert_eq!(Target::parse("//"), Target::Base);
        assert_eq!(Target::parse("/installer/ab/manifests/v1"), manifest("installer/ab", "v1"));
        assert_eq!(Target::parse("/installer/ab/manifests/v1/"), manifest("installer/ab", "v1"));
        assert_eq!(Target::parse("/a/b/tags/list"), Target::Tags("a/b".to_owned()));
        for unknown in
            ["/installer", "/installer//ab/manifests/v1", "/a/b/tags/other", "/a/blobs/uploads/", "/_catalog"]
        {
            let blobs = Target::Blob("a".to_owned(), "uploads".to_owned());
            let found = Target::parse(unknown);
            assert!(found == Target::Unknown(unknown.to_owned()) || found == blobs, "{unknown}: {found:?}");
        }
    }
}
