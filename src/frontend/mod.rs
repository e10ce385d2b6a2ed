//! Doors: the registry and the plain HTTP routes; the only room that maps errors to statuses.

mod assets;
mod body;
mod cors;
mod disposition;
mod error;
mod http;
mod range;
mod record;
mod registry;
mod routes;

use std::sync::Arc;

use ::http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, SERVER};
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as HttpBody;

use crate::factory::Factory;
use crate::telemetry::Metrics;

pub use body::Body;
pub use disposition::attachment;
pub use range::respond;
pub use record::Recorded;
pub use routes::{Found, Route, find};

use error::{ApiError, OciCode};
use record::Record;

/// Name and echo of the request ID.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the `Server` header says.
const SERVER_NAME: &str = concat!("Image Factory v", env!("CARGO_PKG_VERSION"));

/// The address of whoever sent a request, among the request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub std::net::IpAddr);

/// All doors over one factory.
pub struct Frontend {
    factory: Arc<Factory>,
    metrics: Arc<Metrics>,
    cors: cors::Policy,
    server: HeaderValue,
}

impl Frontend {
    /// Doors over `factory`, open to browsers from `allowed_origins`.
    pub fn new(factory: Arc<Factory>, metrics: Arc<Metrics>, allowed_origins: &[String]) -> Self {
        Self {
            factory,
            metrics,
            cors: cors::Policy::new(allowed_origins),
            server: HeaderValue::from_static(SERVER_NAME),
        }
    }

    /// Answers one request. Every answer has a request ID, and one line in the log when its last byte is out.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Recorded>
    where
        B: HttpBody + Send + Unpin,
        B::Data: Send,
        B::Error: std::fmt::Display,
    {
        let id = request_id(request.headers());
        let (method, origin) = (request.method().clone(), request.headers().get("origin").cloned());
        let path = request.uri().path().to_owned();
        let mut record = Record::start(self.metrics.clone(), &request, &id);
        let found = routes::find(&path);
        record.route(found.name());
        let mut response = match self.cors.preflight(&request) {
            Some(answer) => answer,
            None => match self.dispatch(found, request, &path).await {
                Ok(response) => response,
                Err(error) => {
                    record.cause(&error);
                    if path == "/v2" || path.starts_with("/v2/") { error.registry() } else { error.plain() }
                }
            },
        };
        let headers = response.headers_mut();
        headers.insert(SERVER, self.server.clone());
        if let Ok(id) = HeaderValue::from_str(&id) {
            headers.insert(REQUEST_ID, id);
        }
        self.cors.decorate(origin.as_ref(), headers);
        if method == Method::HEAD {
            response = response.map(Body::without_content);
        }
        record.answer(&response);
        response.map(|body| Recorded::new(body, record))
    }

    async fn dispatch<B>(&self, found: Found, request: Request<B>, path: &str) -> Result<Response<Body>, ApiError>
    where
        B: HttpBody + Send + Unpin,
        B::Data: Send,
        B::Error: std::fmt::Display,
    {
        let route = match found {
            Found::Route(route) => route,
            Found::Moved(to) => return Ok(moved(&to, request.method())),
            Found::Nothing => return Err(ApiError::no_route()),
        };
        let allowed = route.methods();
        if *request.method() == Method::OPTIONS {
            return Ok(options(allowed));
        }
        if !allowed.contains(request.method()) {
            let mut response = method_not_allowed(path, request.method());
            response.headers_mut().insert(ALLOW, allow(allowed));
            return Ok(response);
        }
        match route {
            Route::Registry(target) => registry::answer(&self.factory, &target, &request.into_parts().0).await,
            Route::Image(schematic, version, path) => {
                assets::image(&self.factory, (&schematic, &version, &path), &request.into_parts().0).await
            }
            Route::Pxe(schematic, version, path) => {
                assets::pxe(&self.factory, (&schematic, &version, &path), &request.into_parts().0).await
            }
            other => http::answer(&self.factory, other, request).await,
        }
    }
}

/// The request's own ID where it is short and plain, otherwise a new one.
fn request_id(headers: &HeaderMap) -> String {
    headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| !id.is_empty() && id.len() <= 256)
        .map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned)
}

fn allow(methods: &[Method]) -> HeaderValue {
    let names: Vec<&str> = methods.iter().map(Method::as_str).chain(["OPTIONS"]).collect();
    HeaderValue::from_str(&names.join(", ")).unwrap_or_else(|_| HeaderValue::from_static("OPTIONS"))
}

fn options(methods: &[Method]) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(ALLOW, allow(methods));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    response
}

fn method_not_allowed(path: &str, method: &Method) -> Response<Body> {
    let error = ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        OciCode::Unsupported,
        format!("Method Not Allowed: {method} is not possible on {path}"),
    );
    if path.starts_with("/v2") { error.registry() } else { error.plain() }
}

/// 301 or 307 to a path that exists; relative, so that proxies in front keep their scheme and host.
fn moved(to: &str, method: &Method) -> Response<Body> {
    let text = format!("<a href=\"{to}\">Moved Permanently</a>.\n\n");
    let mut response = Response::new(Body::empty());
    // Other methods must not become a GET on the way.
    let plain = matches!(*method, Method::GET | Method::HEAD);
    *response.status_mut() = if plain { StatusCode::MOVED_PERMANENTLY } else { StatusCode::TEMPORARY_REDIRECT };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response.headers_mut().insert(CONTENT_LENGTH, text.len().into());
    if let Ok(value) = HeaderValue::from_str(to) {
        response.headers_mut().insert(LOCATION, value);
    }
    *response.body_mut() = Body::full(text);
    response
}
