//! Refreshing the trusted root over TUF, from a repository of our own on the loopback.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod pki;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ed25519_dalek::{Signer as _, SigningKey};
use image_factory::types::Digest;
use image_factory::verify::*;
use pki::{Order, Pki};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const EXPIRES: &str = "2099-01-01T00:00:00Z";

/// Canonical JSON as TUF signs it; our texts need no escapes.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            let fields = sorted.iter().map(|(key, value)| format!("\"{key}\":{}", canonical(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

fn signed(key: &SigningKey, body: Value) -> Vec<u8> {
    let signature = hex::encode(key.sign(canonical(&body).as_bytes()).to_bytes());
    json!({"signed": body, "signatures": [{"keyid": "k", "sig": signature}]}).to_string().into_bytes()
}

/// A TUF repository with one target, `trusted_root.json`: its files by path, and the root that it is trusted from.
fn repository(trusted_root: &str) -> (BTreeMap<String, Vec<u8>>, Vec<u8>) {
    let key = SigningKey::from_bytes(&[3; 32]);
    let body = |kind: &str, more: Value| {
        let mut body = json!({"_type": kind, "spec_version": "1.0.31", "version": 1, "expires": EXPIRES});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        signed(&key, body)
    };
    let public = hex::encode(key.verifying_key().as_bytes());
    let role = json!({"keyids": ["k"], "threshold": 1});
    let root = body(
        "root",
        json!({
            "consistent_snapshot": false,
            "keys": {"k": {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": public}}},
            "roles": {"root": role, "timestamp": role, "snapshot": role, "targets": role},
        }),
    );
    let hashes = json!({"sha256": Digest::of(trusted_root.as_bytes()).hex()});
    let target = json!({"length": trusted_root.len(), "hashes": hashes});
    let files = [
        ("/timestamp.json", body("timestamp", json!({"meta": {"snapshot.json": {"version": 1}}}))),
        ("/snapshot.json", body("snapshot", json!({"meta": {"targets.json": {"version": 1}}}))),
        ("/targets.json", body("targets", json!({"targets": {"trusted_root.json": target}}))),
        ("/targets/trusted_root.json", trusted_root.as_bytes().to_vec()),
    ];
    (files.map(|(path, bytes)| (path.to_owned(), bytes)).into(), root)
}

/// Serves files over HTTP until the test ends; without files it takes connections and says nothing.
async fn serve(files: Option<BTreeMap<String, Vec<u8>>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let Some(files) = &files else {
                silent.push(stream);
                continue;
            };
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default();
            let (status, body) = files.get(path).map_or(("404 Not Found", &[][..]), |body| ("200 OK", body));
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
        }
    });
    url
}

fn source(url: String, root: &[u8]) -> TufSource {
    let short = Duration::from_millis(500);
    TufSource { url, root: root.to_vec(), cache: None, connect_timeout: short, timeout: short }
}

/// A log that the test can read.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn lines(&self) -> Vec<String> {
        String::from_utf8(self.0.lock().unwrap().drain(..).collect()).unwrap().lines().map(str::to_owned).collect()
    }

    /// Everything at level INFO and above on this thread, whoever says it, until the guard is dropped.
    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).finish();
        tracing::subscriber::set_default(subscriber)
    }
}

fn verifier() -> Verifier {
    Verifier::new(Policy::from_config(&PolicyConfig::default()).unwrap(), TrustedRoot::embedded().unwrap())
}

#[tokio::test]
async fn a_refreshed_root_is_used_from_then_on() {
    let (pki, image) = (Pki::new(1), Digest::of(b"image"));
    let order = Order::of(pki::payload(&image, "cosign container image signature"));
    let annotations = pki.sign(&order);
    let verifier = verifier();
    let verify = || verify_simple_signing(&order.payload, &annotations, &image, verifier.policy(), &verifier.root());
    verify().unwrap_err();
    let (files, root) = repository(&pki.trusted_root());
    let url = serve(Some(files)).await;
    let cache = tempfile::tempdir().unwrap();
    let (log, before) = (Log::default(), verifier.id());
    let listening = log.listen();
    for _ in 0..2 {
        verifier.refresh(&TufSource { cache: Some(cache.path().join("tuf")), ..source(url.clone(), &root) }).await;
        assert_eq!(log.lines(), Vec::<String>::new());
        verify().unwrap();
    }
    drop(listening);
    assert_eq!(verifier.id(), before, "verdicts outlive a refresh");
    assert!(cache.path().join("tuf/timestamp.json").is_file());
}

#[tokio::test]
async fn a_failed_refresh_is_one_quick_warning() {
    let pki = Pki::new(1);
    let (files, root) = repository(&pki.trusted_root());
    let mut touched = files.clone();
    touched.get_mut("/targets/trusted_root.json").unwrap()[100] ^= 1;
    let (nonsense, nonsense_root) = repository("{}");
    let strange_root = String::from_utf8(root.clone()).unwrap().replace(EXPIRES, "2098-01-01T00:00:00Z").into_bytes();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let cases = [
        ("unreachable", source(format!("http://{gone}"), &root)),
        ("silent", source(serve(None).await, &root)),
        ("empty", source(serve(Some(BTreeMap::new())).await, &root)),
        ("touched", source(serve(Some(touched)).await, &root)),
        ("nonsense", source(serve(Some(nonsense)).await, &nonsense_root)),
        ("not signed by its root", source(serve(Some(files)).await, &strange_root)),
    ];
    let (log, verifier) = (Log::default(), verifier());
    let _listening = log.listen();
    for (what, source) in cases {
        let (before, began) = (verifier.root(), Instant::now());
        verifier.refresh(&source).await;
        assert!(began.elapsed() < Duration::from_secs(3), "{what}: {:?}", began.elapsed());
        assert!(Arc::ptr_eq(&before, &verifier.root()), "{what}");
        let lines = log.lines();
        assert!(lines.len() == 1 && lines[0].contains("WARN") && lines[0].contains(&source.url), "{what}: {lines:#?}");
    }
}

#[tokio::test]
async fn an_operators_file_is_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("root.json");
    std::fs::write(&file, Pki::new(2).trusted_root()).unwrap();
    let policy = Policy::from_config(&PolicyConfig::default()).unwrap();
    let verifier = Verifier::new(policy.clone(), TrustedRoot::from_file(&file).unwrap());
    let (before, log) = (verifier.root(), Log::default());
    let _listening = log.listen();
    verifier.refresh(&source("http://127.0.0.1:1".to_owned(), b"{}")).await;
    assert!(Arc::ptr_eq(&before, &verifier.root()) && log.lines().is_empty());
    // Another file is another policy.
    let other = TrustedRoot::from_json(&Pki::new(3).trusted_root()).unwrap();
    assert_ne!(policy.id(&other), verifier.id());
    let embedded = TrustedRoot::embedded().unwrap();
    assert_ne!(policy.id(&embedded), verifier.id());
    for bad in ["", "{}", "[]", r#"{"mediaType":"x","tlogs":[{}]}"#] {
        std::fs::write(&file, bad).unwrap();
        let error = TrustedRoot::from_file(&file).err().unwrap();
        assert!(error.to_string().contains("root.json"), "{bad}: {error}");
    }
    let error = TrustedRoot::from_file(&folder.path().join("missing.json")).err().unwrap();
    assert!(error.to_string().contains("missing.json"), "{error}");
}
