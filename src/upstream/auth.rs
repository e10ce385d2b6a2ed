//! Authorization: answers a registry's challenge and remembers the answer per repository.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use http::header::{AUTHORIZATION, HeaderValue};
use reqwest::Client;
use serde::Deserialize;
use url::Url;

use super::body::{self, read_bounded};
use super::challenge::Challenge;
use super::credentials::{Credentials, Keychain};
use super::error::Place;
use super::name::shortened;
use super::retry::Failure;

/// The answer of a token server is at most this long, in bytes.
const MAX_TOKEN_ANSWER: u64 = 256 << 10;
/// How long a token lives whose server does not say ("Token Authentication Specification").
const DEFAULT_LIFE: u64 = 60;
/// No token is used for longer, whatever its server says.
const MAX_LIFE: u64 = 3600;
/// More remembered answers than this are never kept.
const MAX_REMEMBERED: usize = 4096;

/// Authorization for one registry.
pub(super) struct Auth {
    keychain: Keychain,
    /// Follows no redirect: neither a password nor a refresh token may go where a token server points.
    client: Client,
    remembered: Mutex<HashMap<String, Remembered>>,
}

#[derive(Clone)]
struct Remembered {
    header: HeaderValue,
    until: Option<Instant>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<f64>,
}

impl Auth {
    pub fn new(keychain: Keychain, client: Client) -> Self {
        Self { keychain, client, remembered: Mutex::default() }
    }

    /// The header that worked last for this repository, unless it has expired.
    pub fn remembered(&self, repository: &str) -> Option<HeaderValue> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let found = remembered.get(repository)?;
        found.until.is_none_or(|until| Instant::now() < until).then(|| found.header.clone())
    }

    fn remember(&self, repository: &str, header: &HeaderValue, until: Option<Instant>) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MAX_REMEMBERED {
            let now = Instant::now();
            remembered.retain(|_, old| old.until.is_some_and(|until| now < until));
            if remembered.len() >= MAX_REMEMBERED {
                remembered.clear();
            }
        }
        remembered.insert(repository.to_owned(), Remembered { header: header.clone(), until });
    }

    /// The header that answers the registry's challenges, fetched now. `plain` says that the registry speaks plain HTTP.
    pub async fn answer(&self, place: &Place, challenges: &[Challenge], plain: bool) -> Result<HeaderValue, Failure> {
        let refuse = |reason: String| Failure::from(place.unauthorized(reason));
        let credentials = self.keychain.find(&place.repository).await.map_err(|error| refuse(error.clone()))?;
        if let Some(Credentials::Registry(token)) = &credentials {
            return self.done(place, &format!("Bearer {token}"), None);
        }
        let bearer = challenges.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
        match (bearer.or(challenges.first()), credentials) {
            (None, _) => Err(refuse("it asks for authorization of a kind that is neither Basic nor Bearer".to_owned())),
            (Some(Challenge::Basic), Some(Credentials::Basic { username, password })) => {
                self.done(place, &basic(&username, &password), None)
            }
            (Some(Challenge::Basic), None) => {
                Err(refuse("it wants a name and password; none is configured".to_owned()))
            }
            (Some(Challenge::Basic), Some(_)) => {
                Err(refuse("it wants a name and password; a token is configured".to_owned()))
            }
            (Some(Challenge::Bearer { realm, service, scope }), credentials) => {
                let realm = realm_url(realm, plain).map_err(refuse)?;
                let default_scope = format!("repository:{}:pull", place.repository);
                let scope = scope.as_deref().unwrap_or(&default_scope);
                let answer = self.fetch(place, realm, service.as_deref(), scope, credentials).await?;
                let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
                let token = token.ok_or_else(|| refuse("the token server's answer holds no token".to_owned()))?;
                let life = (answer.expires_in.unwrap_or(0.0) as u64).min(MAX_LIFE);
                let life = if life == 0 { DEFAULT_LIFE } else { life };
                // A tenth earlier: the clock runs from the issue, and the request takes its time.
                let until = Instant::now() + Duration::from_secs(life).mul_f64(0.9);
                self.done(place, &format!("Bearer {token}"), Some(until))
            }
        }
    }

    fn done(&self, place: &Place, value: &str, until: Option<Instant>) -> Result<HeaderValue, Failure> {
        let mut header = HeaderValue::try_from(value)
            .map_err(|_| place.unauthorized("the credential holds characters that no header may hold"))?;
        header.set_sensitive(true);
        self.remember(&place.repository, &header, until);
        Ok(header)
    }

    /// Asks the token server: by GET with name and password, or by POST with a refresh token.
    async fn fetch(
        &self,
        place: &Place,
        mut realm: Url,
        service: Option<&str>,
        scope: &str,
        credentials: Option<Credentials>,
    ) -> Result<TokenAnswer, Failure> {
        let at = format!("token server {}", shortened(realm.host_str().unwrap_or_default()));
        let mut fields: Vec<(&str, &str)> = service.map(|service| ("service", service)).into_iter().collect();
        // Scopes for several resources are one parameter each.
        let scopes = scope.split(' ').filter(|scope| !scope.is_empty()).map(|scope| ("scope", scope));
        let request = match &credentials {
            Some(Credentials::Identity(token)) => {
                let oauth = [("grant_type", "refresh_token"), ("client_id", "image-factory"), ("refresh_token", token)];
                fields.extend(oauth);
                fields.push(("scope", scope));
                let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
                let post = self.client.post(realm).body(form);
                post.header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            }
            other => {
                realm.query_pairs_mut().extend_pairs(fields).extend_pairs(scopes);
                let get = self.client.get(realm);
                match other {
                    Some(Credentials::Basic { username, password }) => {
                        get.header(AUTHORIZATION, basic(username, password))
                    }
                    _ => get,
                }
            }
        };
        let response = request.send().await.map_err(|error| body::failed(place, &format!("{at}: "), &error))?;
        let status = response.status();
        if status.is_server_error() || status.as_u16() == 429 {
            return Err(body::unavailable(place, &response, &format!("{at} answered {status}")));
        }
        if !status.is_success() {
            let with = if credentials.is_some() { "the configured credentials" } else { "no credentials" };
            return Err(place.unauthorized(format!("{at} answered {status} to {with}")).into());
        }
        let bytes = read_bounded(place, response, MAX_TOKEN_ANSWER).await?;
        // The parser's own words could quote a token.
        serde_json::from_slice(&bytes)
            .map_err(|_| place.bad(format!("the answer of {at} is no JSON with a token")).into())
    }
}

fn basic(username: &str, password: &str) -> String {
    let pair = format!("{username}:{password}");
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

/// The token server's URL. A registry behind TLS must not make us show credentials in plain text.
fn realm_url(realm: &str, plain: bool) -> Result<Url, String> {
    let url =
        Url::parse(realm).map_err(|error| format!("its token realm {:?} is no URL: {error}", shortened(realm)))?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if plain => Ok(url),
        _ => Err(format!("its token realm {:?} is not an https URL", shortened(realm))),
    }
}

#[cfg(test)]
mod tests {
    use super::realm_url;

    #[test]
    fn a_registry_behind_tls_cannot_send_us_to_plain_text() {
        assert!(realm_url("https://t/token", false).is_ok());
        assert!(realm_url("http://t/token", true).is_ok());
        for (realm, plain) in [("http://t/token", false), ("ftp://t", true), ("/token", true), ("", true)] {
            assert!(realm_url(realm, plain).is_err(), "{realm}");
        }
    }
}
