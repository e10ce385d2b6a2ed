//! The plain routes: schematics, catalog, tools, keys, health.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;

use super::body::Body;
use super::error::{ApiError, OciCode};
use super::range;
use super::routes::Route;
use crate::factory::Factory;

/// Longest schematic that is read, in bytes.
const MAX_SCHEMATIC: usize = 1 << 20;

/// How much of a body that is too long is read all the same, so that the client comes to read our answer.
const MAX_READ: usize = 8 << 20;

/// The media type of plain text.
pub const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// What this service is, for programs that read prose.
const LLMS: &str = include_str!("llms.txt");

/// Answers every route but the registry's.
pub async fn answer<B>(factory: &Arc<Factory>, route: Route, request: Request<B>) -> Result<Response<Body>, ApiError>
where
    B: HttpBody + Send + Unpin,
    B::Data: Send,
    B::Error: std::fmt::Display,
{
    match route {
        Route::Health => Ok(fixed(StatusCode::OK, TEXT, Bytes::new())),
        Route::Ready => ready(factory),
        Route::Llms => Ok(fixed(StatusCode::OK, TEXT, Bytes::from_static(LLMS.as_bytes()))),
        Route::Schematics => create_schematic(factory, request).await,
        Route::Schematic(id) => {
            let canonical = factory.schematic_text(&id).await?;
            Ok(fixed(StatusCode::OK, "application/yaml", canonical))
        }
        Route::Versions => {
            let broken = request.uri().query().is_some_and(|query| {
                url::form_urlencoded::parse(query.as_bytes()).any(|(name, value)| name == "broken" && value == "true")
            });
            let versions = if broken { factory.broken_versions() } else { factory.versions().await? };
            json_response(&versions.iter().map(ToString::to_string).collect::<Vec<_>>())
        }
        Route::Extensions(version) => json_response(factory.extensions(&version).await?.as_ref()),
        Route::Overlays(version) => json_response(&*factory.overlays(&version).await?),
        Route::Talosctl(version) => json_response(&factory.talosctl_urls(&version).await?),
        Route::TalosctlFile(version, name) => {
            let (digest, file) = factory.talosctl(&version, &name).await?;
            let mut headers = HeaderMap::new();
            let kind = if name.ends_with(".exe") {
                "application/vnd.microsoft.portable-executable"
            } else {
                "application/octet-stream"
            };
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=86400"));
            if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
                headers.insert(CONTENT_DISPOSITION, value);
            }
            Ok(range::respond(request.headers(), headers, &format!("\"{digest}\""), &file, factory.blobs()))
        }
        Route::SigningKey => Ok(fixed(StatusCode::OK, "application/x-pem-file", factory.signing_key_pem().to_owned())),
        Route::Image(..) | Route::Pxe(..) | Route::Registry(_) => Err(ApiError::no_route()),
    }
}

/// An answer whose bytes are at hand.
pub fn fixed(status: StatusCode, kind: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let bytes = bytes.into();
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    if !bytes.is_empty() {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    response.headers_mut().insert(CONTENT_LENGTH, bytes.len().into());
    *response.body_mut() = Body::full(bytes);
    response
}

/// JSON with a final newline, escaped as Go's default encoder does, so that clients see the same bytes.
fn json_text(value: &(impl Serialize + ?Sized)) -> Result<String, ApiError> {
    let text = serde_json::to_string(value).map_err(|error| ApiError {
        cause: Some(error.to_string()),
        ..ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, OciCode::Unsupported, "internal server error")
    })?;
    let mut out = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            other => out.push(other),
        }
    }
    out.push('\n');
    Ok(out)
}

fn json_response(value: &(impl Serialize + ?Sized)) -> Result<Response<Body>, ApiError> {
    Ok(fixed(StatusCode::OK, JSON, json_text(value)?))
}

fn ready(factory: &Factory) -> Result<Response<Body>, ApiError> {
    match factory.not_ready() {
        None => Ok(fixed(StatusCode::OK, TEXT, Bytes::new())),
        Some(reason) => Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            OciCode::TooManyRequests,
            format!("not ready: {reason}"),
        )),
    }
}

/// The answer to a posted schematic.
#[derive(Serialize)]
struct Created {
    id: String,
    schematic: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

async fn create_schematic<B>(factory: &Arc<Factory>, request: Request<B>) -> Result<Response<Body>, ApiError>
where
    B: HttpBody + Send + Unpin,
    B::Data: Send,
    B::Error: std::fmt::Display,
{
    let too_large = || {
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            OciCode::Unsupported,
            format!("a schematic may have {MAX_SCHEMATIC} bytes at most"),
        )
    };
    let body = Limited::new(request.into_body().map_err(|e| e.to_string()), MAX_READ);
    let body = body.collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            too_large()
        } else {
            ApiError::new(
                StatusCode::BAD_REQUEST,
                OciCode::Unsupported,
                format!("the request's body broke off: {error}"),
            )
        }
    })?;
    let body = body.to_bytes();
    if body.len() > MAX_SCHEMATIC {
        return Err(too_large());
    }
    let created = factory.create_schematic(body).await?;
    let answer = Created { id: created.id.to_string(), schematic: created.canonical, warnings: created.warnings };
    Ok(fixed(StatusCode::CREATED, JSON, json_text(&answer)?))
}
