//! Small answers that are wrong, late, or too large.

use std::time::{Duration, Instant};

use image_factory::types::Digest;
use image_factory::upstream::{Reference, Upstream, UpstreamConfig, UpstreamError};

use crate::support::layout::{INDEX, MANIFEST};
use crate::support::peer::{Asked, Peer, Reply, head, ok, reply};
use crate::support::{client, config, hasty};

/// The smallest index.
const EMPTY_INDEX: &[u8] = br#"{"schemaVersion":2,"manifests":[]}"#;

fn latest() -> Reference {
    Reference::Tag("latest".to_owned())
}

/// Asks a peer that gives every request the same answer for a manifest; gives the error and how often it was asked.
async fn refused(answer: impl Fn() -> Reply + Send + Sync + 'static) -> (UpstreamError, usize) {
    let peer = Peer::start(move |_, _| answer());
    let error = client(&peer.host()).manifest("a/b", &latest()).await.err().unwrap();
    let text = error.to_string();
    assert!(text.contains(&format!("{}/a/b:latest", peer.host())), "{text}");
    (error, peer.asked().len())
}

fn bad(error: &UpstreamError, reason: &str) {
    assert!(matches!(error, UpstreamError::BadAnswer { .. }) && error.to_string().contains(reason), "{error}");
}

#[tokio::test]
async fn html_and_other_documents_are_bad_answers_and_asked_for_once() {
    let (error, asked) = refused(|| ok("text/html", b"<!DOCTYPE html><html></html>")).await;
    bad(&error, "text/html");
    assert_eq!(asked, 1);
    bad(&refused(|| ok(INDEX, b"")).await.0, "not a manifest");
    bad(&refused(|| ok(INDEX, b"{}")).await.0, "schemaVersion");
    bad(&refused(|| ok(MANIFEST, EMPTY_INDEX)).await.0, "announced as");
    let v1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    bad(&refused(move || ok(v1, br#"{"schemaVersion":1}"#)).await.0, "schema 1");
    let (error, asked) = refused(|| reply("418 I'm a teapot", "", b"")).await;
    bad(&error, "418");
    assert_eq!(asked, 1);
}

#[tokio::test]
async fn a_wrong_digest_is_a_bad_answer() {
    let other = Digest::of(b"other");
    let (error, _) = refused(move || {
        reply("200 OK", &format!("Content-Type: {INDEX}\r\nDocker-Content-Digest: {other}\r\n"), EMPTY_INDEX)
    })
    .await;
    bad(&error, &other.to_string());
    bad(&error, &Digest::of(EMPTY_INDEX).to_string());
    let peer = Peer::start(|_, _| ok(INDEX, EMPTY_INDEX));
    let upstream = client(&peer.host());
    bad(&upstream.manifest("a/b", &other.into()).await.err().unwrap(), "digest");
    bad(&upstream.small_blob("a/b", &other, 100).await.err().unwrap(), "digest");
    assert!(upstream.manifest("a/b", &Digest::of(EMPTY_INDEX).into()).await.is_ok());
}

#[tokio::test]
async fn a_body_is_never_read_beyond_the_limit() {
    let start = Instant::now();
    let (error, asked) = refused(|| Reply::Endless(head("200 OK", &format!("Content-Type: {INDEX}\r\n"), b""))).await;
    bad(&error, "goes on");
    assert_eq!(asked, 1);
    let announce =
        |length: &'static str| move || Reply::Stall(head("200 OK", &format!("Content-Length: {length}\r\n"), b"{"));
    bad(&refused(announce("99999999999999")).await.0, "announces 99999999999999");
    // A length that is no number breaks the connection; it never becomes an allocation.
    refused(announce("99999999999999999999999999")).await;
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let peer = Peer::start(|_, _| ok(INDEX, EMPTY_INDEX));
    let upstream = client(&peer.host());
    bad(&upstream.small_blob("a/b", &Digest::of(EMPTY_INDEX), 5).await.err().unwrap(), "at most 5");
}

#[tokio::test]
async fn a_body_that_is_cut_short_is_asked_for_again_and_then_a_bad_answer() {
    let (error, asked) = refused(|| Reply::Raw(head("200 OK", "Content-Length: 1000\r\n", EMPTY_INDEX))).await;
    bad(&error, "cut short after 34 of 1000 bytes");
    assert_eq!(asked, 3);
}

#[tokio::test]
async fn a_silent_upstream_is_unavailable() {
    for sent in [Vec::new(), head("200 OK", "Content-Length: 9\r\n", b"{")] {
        let peer = Peer::start(move |_, _| Reply::Stall(sent.clone()));
        let error = Upstream::new(hasty(&peer.host())).unwrap().manifest("a/b", &latest()).await.err().unwrap();
        assert!(matches!(error, UpstreamError::Unavailable { .. }), "{error}");
        assert!(error.to_string().contains("timed out"), "{error}");
        assert_eq!(peer.asked().len(), 3);
    }
    // Drop by drop is no silence; the whole has an end, too.
    let peer = Peer::start(|_, _| Reply::Dripping(head("200 OK", "Content-Length: 999999\r\n", b"{")));
    let patient = UpstreamConfig { request_timeout: Duration::from_millis(150), ..config(&peer.host()) };
    let error = Upstream::new(patient).unwrap().manifest("a/b", &latest()).await.err().unwrap();
    assert!(matches!(error, UpstreamError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("no whole answer within"), "{error}");
}

#[tokio::test]
async fn failures_that_pass_are_waited_out() {
    for status in ["500 Oops", "503 Busy", "429 Slow Down", "408 Timeout"] {
        let peer = Peer::start(move |_, n| if n < 2 { reply(status, "", b"") } else { ok(INDEX, EMPTY_INDEX) });
        client(&peer.host()).manifest("a/b", &latest()).await.unwrap();
        assert_eq!(peer.asked().len(), 3);
    }
    let (error, asked) = refused(|| reply("502 Bad Gateway", "", b"")).await;
    assert!(matches!(error, UpstreamError::Unavailable { .. }) && error.to_string().contains("502"), "{error}");
    assert_eq!(asked, 3);
    for (status, name) in [("403 Forbidden", "refused"), ("404 Not Found", "not found")] {
        let (error, asked) = refused(move || reply(status, "", b"")).await;
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(asked, 1);
    }
}

#[tokio::test]
async fn retry_after_is_kept_and_given_up_when_too_long() {
    let busy = |seconds: &'static str| {
        Peer::start(move |_, n| match n {
            0 => reply("429 Slow Down", &format!("Retry-After: {seconds}\r\n"), b""),
            _ => ok(INDEX, EMPTY_INDEX),
        })
    };
    let peer = busy("1");
    let start = Instant::now();
    client(&peer.host()).manifest("a/b", &latest()).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
    let peer = busy("3600");
    match client(&peer.host()).manifest("a/b", &latest()).await {
        Err(UpstreamError::Unavailable { retry_after, .. }) => assert_eq!(retry_after, Some(Duration::from_secs(3600))),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn tags_are_gathered_from_all_pages() {
    let peer = Peer::start(|asked, _| match asked.path.as_str() {
        "/v2/a/b/tags/list?n=1000" => {
            reply("200 OK", "Link: </v2/a/b/tags/list?n=1000&last=v2>; rel=\"next\"\r\n", br#"{"tags":["v1","v2"]}"#)
        }
        "/v2/a/b/tags/list?n=1000&last=v2" => ok("application/json", br#"{"tags":["v3"]}"#),
        _ => reply("404 Not Found", "", b""),
    });
    assert_eq!(client(&peer.host()).tags("a/b").await.unwrap(), ["v1", "v2", "v3"]);
}

#[tokio::test]
async fn pages_of_tags_lead_nowhere_else_and_end() {
    let page = |link: String| move |_: &Asked, _: usize| reply("200 OK", &link, br#"{"name":"a/b","tags":["x"]}"#);
    let peer = Peer::start(page("Link: <http://127.0.0.2:1/v2/a/b/tags/list?last=x>; rel=\"next\"\r\n".to_owned()));
    bad(&client(&peer.host()).tags("a/b").await.err().unwrap(), "another host");
    let peer = Peer::start(page("Link: </v2/a/b/tags/list?n=1000>; rel=next\r\n".to_owned()));
    bad(&client(&peer.host()).tags("a/b").await.err().unwrap(), "same page");
    let peer = Peer::start(|_, n| {
        reply("200 OK", &format!("Link: <?last={n}>; rel=next\r\n"), br#"{"name":"a/b","tags":["x"]}"#)
    });
    bad(&client(&peer.host()).tags("a/b").await.err().unwrap(), "pages");
    let peer = Peer::start(|_, _| ok("application/json", br#"{"name":"a/b","tags":null}"#));
    assert!(client(&peer.host()).tags("a/b").await.unwrap().is_empty());
    let peer = Peer::start(|_, _| ok("application/json", br#"{"tags":["v1","a/../b","","\n"]}"#));
    assert_eq!(client(&peer.host()).tags("a/b").await.unwrap(), ["v1"]);
}

#[tokio::test]
async fn referrers_come_by_the_api_page_by_page() {
    let entry = |name: &str| {
        let digest = Digest::of(name.as_bytes());
        format!(r#"{{"mediaType":"{MANIFEST}","digest":"{digest}","size":1,"artifactType":"t","new":{{}}}}"#)
    };
    let (first, second) = (entry("1"), entry("2"));
    let peer = Peer::start(move |asked, _| {
        let next = if asked.path.ends_with("?page=2") { "" } else { "Link: <?page=2>; rel=\"next\"\r\n" };
        let entries = if next.is_empty() { second.clone() } else { format!(r#"{{"digest":"md5:0"}},{first}"#) };
        let body = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{entries}]}}"#);
        reply("200 OK", &format!("{next}Content-Type: {INDEX}\r\n"), body.as_bytes())
    });
    let found = client(&peer.host()).referrers("a/b", &Digest::of(b"x")).await.unwrap();
    assert_eq!(found.iter().map(|entry| entry.digest).collect::<Vec<_>>(), [Digest::of(b"1"), Digest::of(b"2")]);
    assert_eq!(found[0].artifact_type.as_deref(), Some("t"));
}

#[tokio::test]
async fn without_a_referrers_api_the_fallback_tag_is_asked() {
    let subject = Digest::of(b"x");
    for no_api in ["404 Not Found", "405 Not Allowed", "400 Bad", "200 OK", "303 See Other"] {
        let peer = Peer::start(move |asked, _| match asked.path.as_str() {
            path if path.contains("/referrers/") => {
                reply(no_api, "Location: /page\r\nContent-Type: text/html\r\n", b"<html>")
            }
            "/page" => ok("text/html", b"<html>"),
            path => {
                assert_eq!(path, format!("/v2/a/b/manifests/sha256-{}", subject.hex()));
                let entry = format!(r#"{{"mediaType":"{MANIFEST}","digest":"{subject}","size":1}}"#);
                ok(INDEX, format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#).as_bytes())
            }
        });
        assert_eq!(client(&peer.host()).referrers("a/b", &subject).await.unwrap().len(), 1, "{no_api}");
    }
    // A registry that is down is no registry without signatures.
    let peer = Peer::start(|_, _| reply("503 Busy", "", b""));
    let error = client(&peer.host()).referrers("a/b", &subject).await.err().unwrap();
    assert!(matches!(error, UpstreamError::Unavailable { .. }), "{error}");
    let peer = Peer::start(|asked, _| match asked.path.contains("/referrers/") {
        true => reply("404 Not Found", "", b""),
        false => ok("text/html", b"<html>"),
    });
    bad(&client(&peer.host()).referrers("a/b", &subject).await.err().unwrap(), "not a manifest");
}

#[tokio::test]
async fn redirects_end() {
    let (error, _) = refused(|| reply("302 Found", "Location: /v2/a/b/manifests/latest\r\n", b"")).await;
    bad(&error, "redirect");
}

#[test]
fn what_cannot_work_is_refused_at_the_start() {
    let wrong: [fn(&mut UpstreamConfig); 9] = [
        |c| c.registry = String::new(),
        |c| c.registry = "https://ghcr.io".to_owned(),
        |c| c.registry = "ghcr.io/siderolabs".to_owned(),
        |c| c.registry = "user@ghcr.io".to_owned(),
        |c| c.registry = "ghcr.io:99999".to_owned(),
        |c| c.registry = "oci:".to_owned(),
        |c| c.namespace = "/x".to_owned(),
        |c| c.max_parallel = 0,
        |c| c.idle_timeout = Duration::ZERO,
    ];
    for (number, change) in wrong.iter().enumerate() {
        let mut config = config("ghcr.io");
        change(&mut config);
        assert!(matches!(Upstream::new(config), Err(UpstreamError::Config(_))), "case {number}");
    }
    let config = UpstreamConfig { github_token: Some("s3cret".to_owned()), ..config("ghcr.io") };
    assert!(!format!("{config:?}").contains("s3cret"));
}
