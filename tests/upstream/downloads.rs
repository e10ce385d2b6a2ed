//! Blobs over lines that break, from servers that cannot count.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use image_factory::types::Digest;
use image_factory::upstream::{Upstream, UpstreamConfig, UpstreamError};

use crate::support::peer::{Asked, Peer, Reply, head, ok, reply};
use crate::support::{Memory, client, config, hasty, noise};

const SIZE: usize = 200_000;

struct Blob {
    bytes: Arc<Vec<u8>>,
    digest: Digest,
}

fn blob() -> Blob {
    let bytes = Arc::new(noise(SIZE));
    Blob { digest: Digest::of(&bytes), bytes }
}

/// The first byte that was asked for.
fn start(asked: &Asked) -> usize {
    let range = asked.header("range").and_then(|text| text.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    range.unwrap_or(0)
}

/// The rest of a blob as a right server sends it, cut short after `most` bytes.
fn rest(asked: &Asked, bytes: &[u8], most: usize) -> Reply {
    let from = start(asked);
    let body = &bytes[from..];
    let length = format!("Content-Length: {}\r\n", body.len());
    let sent = &body[..body.len().min(most)];
    Reply::Raw(match from {
        0 => head("200 OK", &length, sent),
        _ => {
            let range = format!("Content-Range: bytes {from}-{}/{}\r\n", bytes.len() - 1, bytes.len());
            head("206 Partial Content", &(range + &length), sent)
        }
    })
}

/// Fetches from a peer that gives every request the same answer; gives the error. Nothing is committed.
async fn refused(size: Option<u64>, answer: impl Fn(&[u8]) -> Reply + Send + Sync + 'static) -> (UpstreamError, Peer) {
    let Blob { bytes, digest } = blob();
    let peer = Peer::start(move |_, _| answer(&bytes));
    let memory = Memory::default();
    let error = memory.fetch(&client(&peer.host()), &digest, size).await.unwrap_err();
    assert!(memory.is_empty());
    assert!(error.to_string().contains(&format!("{}/a/b@{digest}", peer.host())), "{error}");
    (error, peer)
}

fn bad(error: &UpstreamError, reason: &str) {
    assert!(matches!(error, UpstreamError::BadAnswer { .. }) && error.to_string().contains(reason), "{error}");
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_stopped() {
    for size in [Some(SIZE as u64), None] {
        let Blob { bytes, digest } = blob();
        let sent = Arc::clone(&bytes);
        let peer = Peer::start(move |asked, _| rest(asked, &sent, 90_000));
        let memory = Memory::default();
        assert_eq!(memory.fetch(&client(&peer.host()), &digest, size).await.unwrap(), (digest, SIZE as u64));
        assert_eq!(memory.only(), *bytes);
        assert_eq!(memory.count(), 1, "the writer is kept");
        let starts: Vec<usize> = peer.asked().iter().map(start).collect();
        // A connection that is reset may lose the last bytes that were sent.
        assert!(starts.len() >= 3 && starts[0] == 0 && starts.is_sorted() && starts[1] > 0, "{starts:?}");
    }
}

#[tokio::test]
async fn a_download_behind_a_redirect_goes_on_too() {
    let Blob { bytes, digest } = blob();
    let sent = Arc::clone(&bytes);
    let store = Peer::start(move |asked, _| rest(asked, &sent, 150_000));
    let target = store.host();
    let peer = Peer::start(move |_, n| {
        reply("307 Temporary Redirect", &format!("Location: http://{target}/blob?signed={n}\r\n"), b"")
    });
    let memory = Memory::default();
    memory.fetch(&client(&peer.host()), &digest, Some(SIZE as u64)).await.unwrap();
    assert_eq!((memory.only() == *bytes, memory.count()), (true, 1));
    // Each part is asked for where the registry points then: a signed address may have expired.
    let asked = store.asked();
    assert_eq!((asked[1].path.as_str(), start(&asked[1]) > 0), ("/blob?signed=1", true));
}

#[tokio::test]
async fn without_a_length_an_early_end_is_noticed_by_the_promised_size() {
    let Blob { bytes, digest } = blob();
    let sent = Arc::clone(&bytes);
    let peer = Peer::start(move |asked, n| match n {
        0 => Reply::Raw(head("200 OK", "", &sent[..1000])),
        _ => rest(asked, &sent, SIZE),
    });
    let memory = Memory::default();
    memory.fetch(&client(&peer.host()), &digest, Some(SIZE as u64)).await.unwrap();
    assert_eq!((start(&peer.asked()[1]), memory.count()), (1000, 1));
}

#[tokio::test]
async fn a_server_that_ignores_range_makes_us_start_over() {
    let Blob { bytes, digest } = blob();
    let sent = Arc::clone(&bytes);
    let peer = Peer::start(move |_, n| {
        let most = if n == 0 { 90_000 } else { SIZE };
        Reply::Raw(head("200 OK", &format!("Content-Length: {SIZE}\r\n"), &sent[..most]))
    });
    let memory = Memory::default();
    memory.fetch(&client(&peer.host()), &digest, Some(SIZE as u64)).await.unwrap();
    assert_eq!((memory.only() == *bytes, memory.count()), (true, 2));
}

#[tokio::test]
async fn a_part_that_does_not_fit_makes_us_start_over() {
    for lie in ["bytes 0-199999/200000", "bytes 5-6/7", "nonsense"] {
        let Blob { bytes, digest } = blob();
        let sent = Arc::clone(&bytes);
        let peer = Peer::start(move |asked, n| match start(asked) {
            0 => rest(asked, &sent, if n == 0 { 90_000 } else { SIZE }),
            _ => reply("206 Partial Content", &format!("Content-Range: {lie}\r\n"), &sent[..]),
        });
        let memory = Memory::default();
        memory.fetch(&client(&peer.host()), &digest, Some(SIZE as u64)).await.unwrap();
        assert_eq!((memory.only() == *bytes, memory.count()), (true, 2));
    }
    // The right range, the wrong bytes: once again from the start.
    let Blob { bytes, digest } = blob();
    let sent = Arc::clone(&bytes);
    let peer = Peer::start(move |asked, n| match start(asked) {
        0 => rest(asked, &sent, if n == 0 { 90_000 } else { SIZE }),
        _ => rest(asked, &vec![0; SIZE], SIZE),
    });
    let memory = Memory::default();
    memory.fetch(&client(&peer.host()), &digest, Some(SIZE as u64)).await.unwrap();
    assert_eq!((memory.only() == *bytes, memory.count()), (true, 2));
}

#[tokio::test]
async fn a_line_that_always_breaks_is_given_up() {
    let (error, peer) = refused(Some(SIZE as u64), |bytes| {
        Reply::Raw(head("200 OK", &format!("Content-Length: {SIZE}\r\n"), &bytes[..10]))
    })
    .await;
    bad(&error, "cut short");
    assert!(peer.asked().len() <= 6, "{}", peer.asked().len());
    let (error, _) = refused(None, |_| reply("503 Busy", "", b"")).await;
    assert!(matches!(error, UpstreamError::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn failures_that_pass_are_waited_out() {
    let Blob { bytes, digest } = blob();
    let sent = Arc::clone(&bytes);
    let peer = Peer::start(move |asked, n| match n {
        0 => reply("503 Busy", "", b""),
        1 => reply("429 Slow Down", "Retry-After: 0\r\n", b""),
        _ => rest(asked, &sent, SIZE),
    });
    Memory::default().fetch(&client(&peer.host()), &digest, None).await.unwrap();
    assert_eq!(peer.asked().len(), 3);
}

#[tokio::test]
async fn wrong_bytes_and_wrong_sizes_are_bad_answers() {
    bad(&refused(None, |_| ok("application/octet-stream", b"something else")).await.0, "digest");
    bad(&refused(Some(10), |bytes| ok("x/y", bytes)).await.0, "announces 200000 bytes; the manifest says 10");
    let huge = |_: &[u8]| Reply::Stall(head("200 OK", "Content-Length: 9999999999999999\r\n", b"x"));
    bad(&refused(None, huge).await.0, "announces 9999999999999999");
    bad(&refused(Some(SIZE as u64), |bytes| Reply::Endless(head("200 OK", "", bytes))).await.0, "goes on after 200000");
    bad(&refused(None, |_| reply("206 Partial Content", "", b"x")).await.0, "part");
    bad(&refused(Some(5 << 30), |_| panic!("nothing is asked for")).await.0, "at most");
    let empty = Digest::of(b"");
    let peer = Peer::start(|_, _| ok("x/y", b""));
    assert_eq!(Memory::default().fetch(&client(&peer.host()), &empty, Some(0)).await.unwrap(), (empty, 0));
}

#[tokio::test]
async fn an_endless_blob_ends_at_the_limit_and_a_dripping_one_in_time() {
    let Blob { bytes, digest } = blob();
    let peer = Peer::start(move |_, _| Reply::Endless(head("200 OK", "", &bytes)));
    let small = Upstream::new(UpstreamConfig { max_blob: 1 << 20, ..config(&peer.host()) }).unwrap();
    bad(&Memory::default().fetch(&small, &digest, None).await.unwrap_err(), "goes on after 1048576");
    let peer = Peer::start(|_, _| Reply::Stall(head("200 OK", "Content-Length: 9\r\n", b"1")));
    let upstream = Upstream::new(hasty(&peer.host())).unwrap();
    let error = Memory::default().fetch(&upstream, &digest, Some(9)).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Unavailable { .. }) && error.to_string().contains("timed out"), "{error}");
    let peer = Peer::start(|_, _| Reply::Dripping(head("200 OK", "Content-Length: 999999\r\n", b"1")));
    let patient = UpstreamConfig { blob_timeout: Duration::from_millis(300), ..config(&peer.host()) };
    let error = Memory::default().fetch(&Upstream::new(patient).unwrap(), &digest, None).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Unavailable { .. }) && error.to_string().contains("not whole"), "{error}");
}

#[tokio::test]
async fn a_full_store_is_the_stores_error() {
    let Blob { bytes, digest } = blob();
    let peer = Peer::start(move |asked, _| rest(asked, &bytes, SIZE));
    let memory = Memory { room: Some(1000), ..Memory::default() };
    match memory.fetch(&client(&peer.host()), &digest, None).await {
        Err(UpstreamError::Store(error)) => assert!(error.is_full(), "{error}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(peer.asked().len(), 1, "the upstream is not asked again");
}

#[tokio::test]
async fn no_more_downloads_than_allowed_are_under_way() {
    let Blob { bytes, digest } = blob();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counter, top) = (Arc::clone(&now), Arc::clone(&most));
    let peer = Peer::start(move |asked, _| {
        top.fetch_max(counter.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        counter.fetch_sub(1, Ordering::SeqCst);
        rest(asked, &bytes, SIZE)
    });
    let upstream = Upstream::new(UpstreamConfig { max_parallel: 2, ..config(&peer.host()) }).unwrap();
    let memory = Memory::default();
    let fetch = || upstream.blob("a/b", &digest, None, || memory.writer());
    let results = futures::future::join_all((0..10).map(|_| fetch())).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_download_that_is_dropped_leaves_nothing_behind() {
    let Blob { digest, .. } = blob();
    let peer = Peer::start(|_, _| Reply::Stall(head("200 OK", "Content-Length: 9\r\n", b"1")));
    let (upstream, memory) = (client(&peer.host()), Memory::default());
    let fetch = upstream.blob("a/b", &digest, Some(9), || memory.writer());
    assert!(tokio::time::timeout(Duration::from_millis(100), fetch).await.is_err());
    for _ in 0..200 {
        if memory.alive.load(Ordering::SeqCst) == 0 {
            assert_eq!((memory.count(), memory.is_empty()), (1, true));
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the writer is still alive");
}

/// Callers spawn these futures.
#[tokio::test]
async fn futures_can_be_spawned() {
    let Blob { bytes, digest } = blob();
    let peer = Peer::start(move |asked, _| rest(asked, &bytes, SIZE));
    let upstream = Arc::new(client(&peer.host()));
    let task = tokio::spawn(async move {
        let memory = Memory::default();
        upstream.blob("a/b", &digest, None, || memory.writer()).await?;
        upstream.small_blob("a/b", &digest, SIZE as u64).await
    });
    assert_eq!(task.await.unwrap().unwrap().len(), SIZE);
}
