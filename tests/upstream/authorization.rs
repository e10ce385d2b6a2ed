//! Who gets to see which credentials.

use std::path::Path;
use std::sync::Arc;

use image_factory::types::Digest;
use image_factory::upstream::{Reference, Upstream, UpstreamConfig, UpstreamError};
use serde_json::json;

use crate::support::layout::INDEX;
use crate::support::peer::{Asked, Peer, Reply, ok, reply};
use crate::support::{Memory, client, config};

const EMPTY_INDEX: &[u8] = br#"{"schemaVersion":2,"manifests":[]}"#;
/// Base64 of `user:pass`.
const BASIC: &str = "Basic dXNlcjpwYXNz";

fn latest() -> Reference {
    Reference::Tag("latest".to_owned())
}

/// A registry that wants `Bearer <token>`, and says that the token is to be had at `realm`.
fn registry(realm: String, token: &'static str) -> Peer {
    Peer::start(move |asked, _| match asked.header("authorization") {
        Some(shown) if shown == format!("Bearer {token}") => ok(INDEX, EMPTY_INDEX),
        _ => {
            let challenge = format!("Bearer realm=\"{realm}\",service=\"s\",scope=\"repository:a/b:pull\"");
            reply("401 Unauthorized", &format!("WWW-Authenticate: {challenge}\r\n"), b"")
        }
    })
}

/// A client with a Docker config file that holds `entry` for the registry.
fn with_entry(folder: &Path, registry: &Peer, entry: &serde_json::Value) -> Upstream {
    let path = folder.join("config.json");
    std::fs::write(&path, json!({"auths": {registry.host(): entry}}).to_string()).unwrap();
    Upstream::new(UpstreamConfig { docker_config: Some(path), ..config(&registry.host()) }).unwrap()
}

fn unauthorized(error: &UpstreamError, reason: &str) {
    assert!(matches!(error, UpstreamError::Unauthorized { .. }) && error.to_string().contains(reason), "{error}");
}

#[tokio::test]
async fn an_anonymous_token_is_fetched_once_and_used_again() {
    let server = Arc::new(Peer::start(|_, _| ok("application/json", br#"{"token":"t","expires_in":300}"#)));
    let peer = registry(format!("http://{}/token?x=1", server.host()), "t");
    let upstream = client(&peer.host());
    for _ in 0..3 {
        upstream.manifest("a/b", &latest()).await.unwrap();
    }
    let asked = server.asked();
    assert_eq!((asked.len(), peer.asked().len()), (1, 4));
    assert_eq!(asked[0].path, "/token?x=1&service=s&scope=repository%3Aa%2Fb%3Apull");
    assert_eq!(asked[0].header("authorization"), None);
}

#[tokio::test]
async fn an_expired_token_is_fetched_anew() {
    let server = Peer::start(|_, _| ok("application/json", br#"{"access_token":"t","expires_in":1}"#));
    let peer = registry(format!("http://{}/", server.host()), "t");
    let upstream = client(&peer.host());
    upstream.manifest("a/b", &latest()).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(950)).await;
    upstream.manifest("a/b", &latest()).await.unwrap();
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn a_token_that_is_refused_is_fetched_anew_once() {
    let server = Peer::start(|_, n| {
        let token = if n == 1 { "t" } else { "stale" };
        ok("application/json", json!({"token": token}).to_string().as_bytes())
    });
    let peer = registry(format!("http://{}/", server.host()), "t");
    let upstream = client(&peer.host());
    unauthorized(&upstream.manifest("a/b", &latest()).await.unwrap_err(), "401");
    upstream.manifest("a/b", &latest()).await.unwrap();
    assert_eq!((server.asked().len(), peer.asked().len()), (2, 4));
}

#[tokio::test]
async fn a_password_and_a_refresh_token_go_to_the_token_server_only() {
    let folder = tempfile::tempdir().unwrap();
    let server = Arc::new(Peer::start(|asked, _| match (asked.method.as_str(), asked.header("authorization")) {
        ("GET", Some(BASIC)) => ok("application/json", br#"{"token":"t"}"#),
        ("POST", None)
            if asked.body.contains("grant_type=refresh_token") && asked.body.contains("refresh_token=r%2Bt") =>
        {
            ok("application/json", br#"{"access_token":"t"}"#)
        }
        _ => reply("401 Unauthorized", "", b""),
    }));
    let peer = registry(format!("http://{}/", server.host()), "t");
    for entry in [json!({"auth": "dXNlcjpwYXNz"}), json!({"identitytoken": "r+t"})] {
        with_entry(folder.path(), &peer, &entry).manifest("a/b", &latest()).await.unwrap();
    }
    for asked in peer.asked() {
        assert!(matches!(asked.header("authorization"), None | Some("Bearer t")), "{asked:?}");
    }
    let refused = with_entry(folder.path(), &peer, &json!({"username": "user", "password": "hunter2"}));
    let error = refused.manifest("a/b", &latest()).await.unwrap_err();
    unauthorized(&error, "token server 127.0.0.1 answered 401");
    assert!(!error.to_string().contains("hunter2"));
}

#[tokio::test]
async fn a_registry_token_is_shown_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let peer = registry("http://127.0.0.1:1/".to_owned(), "t");
    with_entry(folder.path(), &peer, &json!({"registrytoken": "t"})).manifest("a/b", &latest()).await.unwrap();
}

#[tokio::test]
async fn broken_token_servers_are_told_apart() {
    let ask = |answer: fn(&Asked, usize) -> Reply| async move {
        let server = Peer::start(answer);
        let peer = registry(format!("http://{}/", server.host()), "t");
        let error = client(&peer.host()).manifest("a/b", &latest()).await.unwrap_err();
        (error, server.asked().len())
    };
    let (error, asked) = ask(|_, _| reply("503 Busy", "", b"")).await;
    assert!(matches!(error, UpstreamError::Unavailable { .. }) && asked == 3, "{error} {asked}");
    let (error, asked) = ask(|_, _| ok("text/html", b"<html>")).await;
    assert!(matches!(error, UpstreamError::BadAnswer { .. }) && asked == 1, "{error} {asked}");
    let (error, _) = ask(|_, _| Reply::Endless(b"HTTP/1.1 200 OK\r\n\r\n".to_vec())).await;
    assert!(matches!(error, UpstreamError::BadAnswer { .. }), "{error}");
    unauthorized(&ask(|_, _| ok("application/json", b"{}")).await.0, "no token");
    unauthorized(&ask(|_, _| ok("application/json", br#"{"token":"a\nb"}"#)).await.0, "characters");
    unauthorized(&ask(|_, _| reply("302 Found", "Location: http://127.0.0.1:1/\r\n", b"")).await.0, "302");
}

#[tokio::test]
async fn challenges_that_cannot_be_met_are_told() {
    let ask = |challenge: &'static str| async move {
        let peer = Peer::start(move |_, _| reply("401 Unauthorized", challenge, b""));
        client(&peer.host()).manifest("a/b", &latest()).await.unwrap_err()
    };
    unauthorized(&ask("").await, "neither Basic nor Bearer");
    unauthorized(&ask("WWW-Authenticate: Negotiate\r\n").await, "neither Basic nor Bearer");
    unauthorized(&ask("WWW-Authenticate: Basic realm=\"x\"\r\n").await, "none is configured");
    unauthorized(&ask("WWW-Authenticate: Bearer realm=\"/token\"\r\n").await, "/token");
    unauthorized(&ask("WWW-Authenticate: Bearer realm=\"file:///etc/passwd\"\r\n").await, "not an https URL");
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_to_another_host() {
    let folder = tempfile::tempdir().unwrap();
    let content = b"the blob";
    let digest = Digest::of(content);
    let elsewhere = Arc::new(Peer::start(move |_, _| ok("x/y", content)));
    let target = elsewhere.host();
    let peer = Peer::start(move |asked, _| match (asked.header("authorization"), asked.path.as_str()) {
        (Some(BASIC), "/here") => ok("x/y", content),
        (Some(BASIC), path) if path.contains("/manifests/") => {
            reply("307 Temporary Redirect", "Location: /here\r\n", b"")
        }
        (Some(BASIC), _) => reply("307 Temporary Redirect", &format!("Location: http://{target}/cdn\r\n"), b""),
        _ => reply("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", b""),
    });
    let upstream = with_entry(folder.path(), &peer, &json!({"auth": "dXNlcjpwYXNz"}));
    Memory::default().fetch(&upstream, &digest, Some(content.len() as u64)).await.unwrap();
    assert_eq!(upstream.small_blob("a/b", &digest, 100).await.unwrap(), &content[..]);
    assert_eq!(elsewhere.asked().len(), 2);
    for asked in elsewhere.asked() {
        assert_eq!((asked.path.as_str(), asked.header("authorization")), ("/cdn", None), "{asked:?}");
        assert!(!format!("{asked:?}").contains("dXNlcjpwYXNz"));
    }
    // On the registry's own host they do: "/here" answers with the blob's text, which is no manifest.
    let error = upstream.manifest("a/b", &latest()).await.unwrap_err();
    assert!(matches!(error, UpstreamError::BadAnswer { .. }), "{error}");
}

#[tokio::test]
async fn another_hosts_challenge_is_not_answered() {
    let folder = tempfile::tempdir().unwrap();
    let thief = Arc::new(Peer::start(|_, _| reply("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", b"")));
    let target = thief.host();
    let peer = Peer::start(move |_, _| reply("302 Found", &format!("Location: http://{target}/x\r\n"), b""));
    let upstream = with_entry(folder.path(), &peer, &json!({"auth": "dXNlcjpwYXNz"}));
    unauthorized(&upstream.manifest("a/b", &latest()).await.unwrap_err(), "401");
    assert_eq!(thief.asked().len(), 1);
    assert_eq!(thief.asked()[0].header("authorization"), None);
}
