//! Where credentials for a registry come from: Docker's config file, then a GitHub token.
//!
//! The file is that of `docker login` (`~/.docker/config.json`) or of `podman login` (`auth.json`). Credential helpers
//! are programs; we do not run them.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;

/// A config file larger than this is refused, in bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// What to show a registry or its token server.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    /// A name and a password or personal token.
    Basic { username: String, password: String },
    /// An OAuth2 refresh token, exchanged at the token server.
    Identity(String),
    /// A bearer token that the registry itself takes.
    Registry(String),
}

/// Finds credentials for one registry.
pub(super) struct Keychain {
    /// `ghcr.io`, `127.0.0.1:5000`.
    pub registry: String,
    pub docker_config: Option<PathBuf>,
    pub github_token: Option<String>,
}

impl Keychain {
    /// The credentials for a repository, if there are any. The file is read anew each time: it may be a mounted secret
    /// that is rotated.
    ///
    /// # Errors
    /// What is wrong with the file; one that does not exist holds no credentials.
    pub async fn find(&self, repository: &str) -> Result<Option<Credentials>, String> {
        if let Some(path) = &self.docker_config {
            let config = read(path).await.map_err(|error| format!("{}: {error}", path.display()))?;
            let found = config.map(|bytes| in_config(&bytes, &self.registry, repository)).transpose();
            if let Some(found) = found.map_err(|error| format!("{}: {error}", path.display()))?.flatten() {
                return Ok(Some(found));
            }
        }
        match &self.github_token {
            Some(token) if self.registry == "ghcr.io" && !token.is_empty() => {
                // GitHub reads the token only; the name must not be empty.
                Ok(Some(Credentials::Basic { username: "token".to_owned(), password: token.clone() }))
            }
            _ => Ok(None),
        }
    }
}

async fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut bytes = Vec::new();
    file.take(MAX_CONFIG + 1).read_to_end(&mut bytes).await.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_CONFIG { Err(format!("larger than {MAX_CONFIG} bytes")) } else { Ok(Some(bytes)) }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ConfigFile {
    auths: serde_json::Map<String, Value>,
    cred_helpers: serde_json::Map<String, Value>,
    creds_store: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// The credentials in a config file for `registry`; the entry for the longest path above `repository` wins.
fn in_config(bytes: &[u8], registry: &str, repository: &str) -> Result<Option<Credentials>, String> {
    // The parser's own words could quote a secret: only the place is told.
    let unreadable = |error: serde_json::Error| {
        format!("not a Docker config file: wrong at line {} column {}", error.line(), error.column())
    };
    let config: ConfigFile = serde_json::from_slice(bytes).map_err(unreadable)?;
    let full = format!("{registry}/{repository}");
    let mut best: Option<(usize, &String, &Value)> = None;
    for (key, value) in &config.auths {
        let scope = plain(key);
        let above = full.strip_prefix(scope).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if above && best.is_none_or(|(length, ..)| scope.len() > length) {
            best = Some((scope.len(), key, value));
        }
    }
    if let Some((_, key, value)) = best {
        let entry =
            Entry::deserialize(value).map_err(|_| format!("the entry of {key:?} has a field that is no text"))?;
        if let Some(found) = entry.credentials().map_err(|reason| format!("the entry of {key:?}: {reason}"))? {
            return Ok(Some(found));
        }
    }
    if config.cred_helpers.contains_key(registry) || !config.creds_store.is_empty() {
        tracing::debug!(registry, "the Docker config names a credential helper; helpers are not run");
    }
    Ok(None)
}

/// A key of `auths` as `host[:port][/path]`: tools write it with and without scheme and API version.
fn plain(key: &str) -> &str {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let bare = bare.trim_end_matches('/');
    let bare = bare.strip_suffix("/v1").or_else(|| bare.strip_suffix("/v2")).unwrap_or(bare);
    if bare == "index.docker.io" { "docker.io" } else { bare }
}

impl Entry {
    fn credentials(self) -> Result<Option<Credentials>, String> {
        if !self.registrytoken.is_empty() {
            return Ok(Some(Credentials::Registry(self.registrytoken)));
        }
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credentials::Identity(self.identitytoken)));
        }
        let (username, password) = if self.auth.is_empty() {
            (self.username, self.password)
        } else {
            let decoded = base64::engine::general_purpose::STANDARD.decode(self.auth.trim());
            let text = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let text = text.ok_or("\"auth\" is not base64 of \"name:password\"")?;
            let (name, password) = text.split_once(':').ok_or("\"auth\" is not base64 of \"name:password\"")?;
            (name.to_owned(), password.trim_end_matches('\0').to_owned())
        };
        Ok(match username.as_str() {
            "" => None,
            "<token>" => Some(Credentials::Identity(password)),
            _ => Some(Credentials::Basic { username, password }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(username: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::Basic { username: username.to_owned(), password: password.to_owned() })
    }

    fn check(config: &str, registry: &str, repository: &str, expected: Option<Credentials>) {
        assert!(in_config(config.as_bytes(), registry, repository).unwrap() == expected, "{config} {registry}");
    }

    #[test]
    fn every_form_of_entry_is_read() {
        check(r#"{"auths":{"ghcr.io":{"auth":"dTpwOnE="}}}"#, "ghcr.io", "a/b", basic("u", "p:q"));
        check(r#"{"auths":{"https://ghcr.io/v2/":{"username":"u","password":"p"}}}"#, "ghcr.io", "a", basic("u", "p"));
        check(r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"}}}"#, "docker.io", "a/b", basic("u", "p"));
        let identity = || Some(Credentials::Identity("t".to_owned()));
        check(r#"{"auths":{"h:5000":{"auth":"dTpw","identitytoken":"t"}}}"#, "h:5000", "a", identity());
        check(r#"{"auths":{"h":{"username":"<token>","password":"t"}}}"#, "h", "a", identity());
        check(r#"{"auths":{"h":{"registrytoken":"t"}}}"#, "h", "a", Some(Credentials::Registry("t".to_owned())));
        check(r#"{"auths":{"h":{}},"credsStore":"pass"}"#, "h", "a", None);
        check(r#"{"auths":{"ghcr.io.evil":{"auth":"dTpw"}}}"#, "ghcr.io", "a", None);
        check("{}", "h", "a", None);
    }

    #[test]
    fn the_longest_path_wins() {
        let config = r#"{"auths":{"h":{"auth":"YTox"},"h/x/y":{"auth":"YToz"},"h/x":{"auth":"YToy"}}}"#;
        check(config, "h", "x/y/z", basic("a", "3"));
        check(config, "h", "x/yy", basic("a", "2"));
        check(config, "h", "w", basic("a", "1"));
    }

    #[test]
    fn a_broken_file_is_told_without_its_secrets() {
        for config in
            [r#"{"auths":"s3cret"}"#, r#"{"auths":{"h":{"auth":"s3cret!"}}}"#, r#"{"auths":{"h":{"auth":["s3cret"]}}}"#]
        {
            let error = in_config(config.as_bytes(), "h", "a").err().unwrap();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[tokio::test]
    async fn the_github_token_goes_to_github_only_and_after_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let keychain = |registry: &str| Keychain {
            registry: registry.to_owned(),
            docker_config: Some(path.clone()),
            github_token: Some("gh".to_owned()),
        };
        assert!(keychain("ghcr.io").find("a").await.unwrap() == basic("token", "gh"));
        assert!(keychain("quay.io").find("a").await.unwrap().is_none());
        std::fs::write(&path, r#"{"auths":{"ghcr.io":{"auth":"dTpw"}}}"#).unwrap();
        assert!(keychain("ghcr.io").find("a").await.unwrap() == basic("u", "p"));
        std::fs::write(&path, vec![b' '; (1 << 20) + 1]).unwrap();
        assert!(keychain("ghcr.io").find("a").await.err().unwrap().contains("larger"));
    }
}
