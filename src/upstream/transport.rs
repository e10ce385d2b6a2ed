//! Requests to one registry: scheme, authorization, time-outs. What is asked, and how often, is decided above.

use std::time::Duration;

use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, RANGE, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Response};
use tokio::sync::OnceCell;
use url::Url;

use super::UpstreamConfig;
use super::auth::Auth;
use super::body::{self, read_bounded};
use super::challenge;
use super::credentials::Keychain;
use super::error::{Place, UpstreamError};
use super::name::shortened;
use super::retry::Failure;

/// Redirects followed for one request.
const MAX_REDIRECTS: usize = 5;
/// How long the question takes at most whether an insecure registry speaks TLS.
const PROBE: Duration = Duration::from_secs(5);

/// The connection to one registry.
pub(super) struct Transport {
    client: Client,
    auth: Auth,
    /// Host and port that are called; Docker Hub's differ from its name.
    host: String,
    /// `https://host/` or, for an insecure registry that speaks no TLS, `http://host/`.
    base: OnceCell<Url>,
    request_timeout: Duration,
}

/// A whole answer to a small request.
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Where it came from, after redirects.
    pub url: Url,
    pub bytes: bytes::Bytes,
}

impl Answer {
    /// A header as text, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Transport {
    pub fn new(config: &UpstreamConfig) -> Result<Self, UpstreamError> {
        let registry = config.registry.as_str();
        let wrong = |reason: &str| UpstreamError::Config(format!("registry {:?}: {reason}", shortened(registry)));
        let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
        let url = Url::parse(&format!("https://{host}/")).map_err(|error| wrong(&error.to_string()))?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        if !bare || host.contains(['/', '\\', '@', '?', '#']) {
            return Err(wrong("a host with an optional port is wanted, or oci:<folder>"));
        }
        let insecure = config.insecure || is_loopback(&url);
        let built = |builder: ClientBuilder| {
            let builder = builder.user_agent(concat!("image-factory/", env!("CARGO_PKG_VERSION"))).referer(false);
            let builder = builder.connect_timeout(config.connect_timeout).read_timeout(config.idle_timeout);
            let client = builder.tls_danger_accept_invalid_certs(insecure).build();
            client.map_err(|error| UpstreamError::Config(format!("TLS: {error:?}")))
        };
        let keychain = Keychain {
            registry: registry.to_owned(),
            docker_config: config.docker_config.clone(),
            github_token: config.github_token.clone(),
        };
        let for_tokens = Client::builder().redirect(Policy::none()).timeout(config.request_timeout);
        Ok(Self {
            client: built(Client::builder().redirect(redirects()))?,
            auth: Auth::new(keychain, built(for_tokens)?),
            host: host.to_owned(),
            base: if insecure { OnceCell::new() } else { OnceCell::new_with(Some(url)) },
            request_timeout: config.request_timeout,
        })
    }

    /// Where the registry is. An insecure one is asked once whether it speaks TLS (then its certificate is not checked).
    async fn base(&self, place: &Place) -> Result<&Url, Failure> {
        let find = || async {
            let mut last = String::new();
            for scheme in ["https", "http"] {
                let url = Url::parse(&format!("{scheme}://{}/", self.host))
                    .map_err(|error| UpstreamError::Config(format!("registry {:?}: {error}", self.host)))?;
                let probe = url.join("v2/").map_err(|error| place.bad(error.to_string()))?;
                match self.client.get(probe).timeout(PROBE).send().await {
                    // So a TLS server answers plain HTTP.
                    Ok(response) if response.status() == StatusCode::BAD_REQUEST => last = "400".to_owned(),
                    Ok(_) => return Ok(url),
                    Err(error) => last = body::root_cause(&error),
                }
            }
            Err(Failure::passing(place.unavailable(format!("neither TLS nor plain HTTP is answered: {last}"))))
        };
        self.base.get_or_try_init(find).await
    }

    /// The URL of `path`, which starts behind the host and holds checked names only.
    pub async fn url(&self, place: &Place, path: &str) -> Result<Url, Failure> {
        self.base(place).await?.join(path).map_err(|error| place.bad(format!("{path:?}: {error}")).into())
    }

    /// Sends one GET and gives back the answer, whatever its status. A 401 is answered once with authorization.
    pub async fn send(&self, place: &Place, url: &Url, accept: &str, from: u64) -> Result<Response, Failure> {
        let mut authorization = self.auth.remembered(&place.repository);
        let mut tried = false;
        loop {
            let mut request = self.client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
            if !accept.is_empty() {
                request = request.header(ACCEPT, accept);
            }
            if from > 0 {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            if let Some(authorization) = &authorization {
                request = request.header(AUTHORIZATION, authorization);
            }
            let response = request.send().await.map_err(|error| body::failed(place, "", &error))?;
            // Only the registry's own 401 is answered: not that of a host to which it redirected us.
            if response.status() != StatusCode::UNAUTHORIZED || tried || response.url().origin() != url.origin() {
                return Ok(response);
            }
            tried = true;
            let headers = response.headers().get_all(WWW_AUTHENTICATE).iter();
            let texts = headers.filter_map(|value| value.to_str().ok()).take(16);
            let challenges: Vec<_> = texts.flat_map(challenge::parse).collect();
            let plain = url.scheme() == "http";
            authorization = Some(self.auth.answer(place, &challenges, plain).await?);
        }
    }

    /// Sends one GET and reads the whole answer: a success, or one of the statuses in `also`.
    pub async fn fetch(
        &self,
        place: &Place,
        url: &Url,
        accept: &str,
        max: u64,
        also: &[u16],
    ) -> Result<Answer, Failure> {
        let whole = async {
            let response = self.send(place, url, accept, 0).await?;
            let status = response.status();
            let (headers, url) = (response.headers().clone(), response.url().clone());
            if also.contains(&status.as_u16()) {
                return Ok(Answer { status, headers, url, bytes: bytes::Bytes::new() });
            }
            if status != StatusCode::OK {
                return Err(body::refused(place, response).await);
            }
            let bytes = read_bounded(place, response, max).await?;
            Ok(Answer { status, headers, url, bytes })
        };
        match tokio::time::timeout(self.request_timeout, whole).await {
            Ok(result) => result,
            Err(_) => {
                let reason = format!("no whole answer within {} s", self.request_timeout.as_secs_f32());
                Err(Failure::passing(place.unavailable(reason)))
            }
        }
    }
}

/// Follows a few redirects, none from TLS to plain text. `Authorization` is left out by the client when host, port or
/// scheme change.
fn redirects() -> Policy {
    Policy::custom(|attempt| {
        let from_tls = attempt.previous().iter().any(|url| url.scheme() == "https");
        if attempt.previous().len() > MAX_REDIRECTS {
            attempt.error(format!("more than {MAX_REDIRECTS} redirects"))
        } else if from_tls && attempt.url().scheme() != "https" {
            attempt.error("from TLS to plain text")
        } else {
            attempt.follow()
        }
    })
}

/// Loopback registries count as insecure, as container tools have it.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
