//! Holds the verifier against signatures by the real cosign, in a real registry.
//!
//! Needs `docker-registry` and `openssl` (Debian packages), and cosign, a Go module: from `COSIGN` or the path.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod pki;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use image_factory::types::Digest;
use image_factory::verify::*;
use serde_json::{Value, json};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The tools, or `None` (with a note) when one is missing.
fn cosign() -> Option<PathBuf> {
    let cosign = std::env::var_os("COSIGN").map_or_else(|| PathBuf::from("cosign"), PathBuf::from);
    for (tool, argument) in
        [(cosign.as_path(), "version"), ("docker-registry".as_ref(), "--version"), ("openssl".as_ref(), "version")]
    {
        let found = Command::new(tool).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            assert_ne!(
                std::env::var("CI").as_deref(),
                Ok("true"),
                "{} cannot be run: install Debian's docker-registry and openssl, build cosign \
                 (go install github.com/sigstore/cosign/v3/cmd/cosign@latest) and name it in COSIGN",
                tool.display()
            );
            println!("skipped: {} cannot be run", tool.display());
            return None;
        }
    }
    Some(cosign)
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A registry of Debian's, ended when dropped, and what was read from it as signatures.
struct Registry {
    process: Child,
    address: String,
    client: reqwest::Client,
    read: Arc<Mutex<Vec<Bytes>>>,
    folder: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn failed(error: reqwest::Error) -> SourceError {
    SourceError(Arc::new(error))
}

impl Registry {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let root = folder.path().join("registry");
        let config = json!({
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": root}},
            "http": {"addr": address},
        });
        let file = folder.path().join("registry.yml");
        fs::write(&file, config.to_string()).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self { process, address, client: reqwest::Client::new(), read: Arc::default(), folder };
        for _ in 0..100 {
            if registry.client.get(registry.url("")).send().await.is_ok() {
                return registry;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("docker-registry does not answer at {}", registry.address);
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/v2/{path}", self.address)
    }

    async fn push_blob(&self, repository: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes).to_string();
        let begun = self.client.post(self.url(&format!("{repository}/blobs/uploads/"))).send().await.unwrap();
        let mut place = url::Url::parse(begun.headers()["location"].to_str().unwrap()).unwrap();
        place.query_pairs_mut().append_pair("digest", &digest);
        let put = self.client.put(place).header("content-type", "application/octet-stream").body(bytes.to_vec());
        put.send().await.unwrap().error_for_status().unwrap();
        json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": bytes.len()})
    }

    /// Pushes an image of no layers, unique by its repository's name.
    async fn push_image(&self, repository: &str) -> Digest {
        let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}});
        let config = self.push_blob(repository, config.to_string().as_bytes()).await;
        let annotations = json!({"org.opencontainers.image.title": repository});
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [],
            "annotations": annotations});
        self.push_manifest(repository, "v1", &manifest).await
    }

    async fn push_manifest(&self, repository: &str, tag: &str, manifest: &Value) -> Digest {
        let manifest = manifest.to_string();
        let put = self.client.put(self.url(&format!("{repository}/manifests/{tag}"))).header("content-type", MANIFEST);
        put.body(manifest.clone()).send().await.unwrap().error_for_status().unwrap();
        Digest::of(manifest.as_bytes())
    }

    async fn get(&self, path: &str) -> Result<Option<Bytes>, SourceError> {
        let request = self.client.get(self.url(path)).header("accept", MANIFEST).header("accept", INDEX);
        let answer = request.send().await.map_err(failed)?;
        if answer.status() == 404 {
            return Ok(None);
        }
        Ok(Some(answer.error_for_status().map_err(failed)?.bytes().await.map_err(failed)?))
    }

    /// Makes a key with openssl, hands it to cosign, and gives the policy that trusts it and no other.
    fn key(&self, cosign: &Path, name: &str, algorithm: &[&str]) -> Policy {
        let pem = self.folder.path().join(format!("{name}.pem"));
        run(Command::new("openssl").arg("genpkey").args(algorithm).arg("-out").arg(&pem));
        let mut import = Command::new(cosign);
        import.args(["import-key-pair", "--yes", "--key"]).arg(&pem).args(["--output-key-prefix", name]);
        run(import.env("COSIGN_PASSWORD", "").current_dir(self.folder.path()));
        let file = self.folder.path().join(format!("{name}.pub"));
        Policy::from_config(&PolicyConfig { public_key_file: Some(file), ..PolicyConfig::default() }).unwrap()
    }

    /// Signs with cosign, without a log, a timestamp or any network but this registry.
    fn sign(&self, cosign: &Path, key: &str, form: Form, repository: &str, digest: &Digest) {
        let mut sign = Command::new(cosign);
        sign.args(["sign", "--yes", "--tlog-upload=false", "--use-signing-config=false", "--allow-http-registry"]);
        sign.arg(format!("--new-bundle-format={}", form == Form::Bundle));
        sign.args(["--key", &format!("{key}.key")]).arg(format!("{}/{repository}@{digest}", self.address));
        run(sign.env("COSIGN_PASSWORD", "").current_dir(self.folder.path()));
    }

    /// What was read as signature since the last call.
    fn last_read(&self) -> Bytes {
        self.read.lock().unwrap().drain(..).next_back().expect("a signature was read")
    }
}

impl SignatureSource for Registry {
    async fn manifest_by_tag(&self, repository: &str, tag: &str) -> Result<Option<Bytes>, SourceError> {
        self.get(&format!("{repository}/manifests/{tag}")).await
    }

    async fn manifest(&self, repository: &str, digest: &Digest) -> Result<Bytes, SourceError> {
        Ok(self.get(&format!("{repository}/manifests/{digest}")).await?.expect("listed manifests are there"))
    }

    async fn referrers(&self, repository: &str, digest: &Digest) -> Result<Vec<Referrer>, SourceError> {
        // This registry has no referrers API; cosign then keeps the list at the fallback tag.
        let Some(index) = self.get(&format!("{repository}/manifests/sha256-{}", digest.hex())).await? else {
            return Ok(Vec::new());
        };
        let index: Value = serde_json::from_slice(&index).unwrap();
        let entry = |entry: &Value| Referrer {
            digest: entry["digest"].as_str().unwrap().parse().unwrap(),
            artifact_type: entry["artifactType"].as_str().map(str::to_owned),
            annotations: BTreeMap::new(),
        };
        Ok(index["manifests"].as_array().unwrap().iter().map(entry).collect())
    }

    async fn small_blob(&self, repository: &str, digest: &Digest, max: u64) -> Result<Bytes, SourceError> {
        let blob = self.get(&format!("{repository}/blobs/{digest}")).await?.expect("listed blobs are there");
        assert!(blob.len() as u64 <= max);
        self.read.lock().unwrap().push(blob.clone());
        Ok(blob)
    }
}

const KEYS: &[(&str, &[&str], &str)] = &[
    ("p256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "ECDSA P-256 with sha256"),
    ("p384", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"], "ECDSA P-384 with sha384"),
    ("rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"], "RSA PKCS#1 v1.5 with sha256"),
    ("ed25519", &["-algorithm", "ED25519"], "Ed25519ph"),
];

fn root() -> TrustedRoot {
    TrustedRoot::embedded().unwrap()
}

#[tokio::test]
async fn keys_of_every_kind_sign_in_both_forms() {
    let Some(cosign) = cosign() else { return };
    let registry = Registry::start().await;
    let policies: Vec<_> = KEYS.iter().map(|(name, algorithm, _)| registry.key(&cosign, name, algorithm)).collect();
    for (at, ((name, _, scheme), policy)) in KEYS.iter().zip(&policies).enumerate() {
        let good = Verifier::new(policy.clone(), root());
        let wrong = Verifier::new(policies[(at + 1) % KEYS.len()].clone(), root());
        for form in [Form::Bundle, Form::SimpleSigning] {
            let repository = format!("{name}/{}", if form == Form::Bundle { "bundle" } else { "simple" });
            let digest = registry.push_image(&repository).await;
            let error = good.verify_image(&registry, &repository, &digest).await.unwrap_err();
            assert!(matches!(error, VerifyError::Unsigned { .. }), "{repository}: {error}");

            registry.sign(&cosign, name, form, &repository, &digest);
            let (findings, verdict) = good.explain_image(&registry, &repository, &digest).await;
            let verdict = verdict.unwrap_or_else(|error| panic!("{repository}: {error}"));
            assert_eq!((verdict.form, verdict.digest), (form, digest));
            assert_eq!((verdict.identity, verdict.issuer, verdict.time), (None, None, None));
            let Policy::PublicKey(key) = policy else { panic!("not by key") };
            assert_eq!(verdict.key, Some(key.fingerprint()));
            let report = findings.last().unwrap().result.as_ref().unwrap();
            let signature = report.checks.iter().find(|check| check.name == names::SIGNATURE).unwrap();
            assert!(signature.detail.starts_with(scheme), "{repository}: {signature}");

            let error = wrong.verify_image(&registry, &repository, &digest).await.unwrap_err();
            let VerifyError::NoneValid { candidates, .. } = &error else { panic!("{repository}: {error}") };
            assert!(candidates.len() == 1 && candidates[0].reason.starts_with("signature: "), "{error}");
            let keyless = Verifier::new(Policy::from_config(&PolicyConfig::default()).unwrap(), root());
            let error = keyless.verify_image(&registry, &repository, &digest).await.unwrap_err();
            assert!(matches!(error, VerifyError::NoneValid { .. }), "{repository}: {error}");

            let bytes = registry.last_read();
            match form {
                Form::Bundle => flip_bundle(&bytes, &digest, policy),
                _ => flip_payload(&registry, &bytes, &repository, &digest, policy).await,
            }
        }
    }
}

/// Some bits of something long, every bit of something short.
fn some_bits(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let stride = (bytes.len() * 8 / 96).max(1);
    (0..bytes.len() * 8).step_by(stride).map(move |bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    })
}

/// A bit of the signed payload or of the signature refuses; another image does, too.
fn flip_bundle(bytes: &[u8], digest: &Digest, policy: &Policy) {
    let bundle: Value = serde_json::from_slice(bytes).unwrap();
    let root = root();
    verify_bundle_for_image(bundle.to_string().as_bytes(), digest, policy, &root).unwrap();
    for at in ["/dsseEnvelope/payload", "/dsseEnvelope/signatures/0/sig"] {
        let value = STANDARD.decode(bundle.pointer(at).unwrap().as_str().unwrap()).unwrap();
        for flipped in some_bits(&value) {
            let mut other = bundle.clone();
            *other.pointer_mut(at).unwrap() = STANDARD.encode(&flipped).into();
            let error = verify_bundle_for_image(other.to_string().as_bytes(), digest, policy, &root).unwrap_err();
            assert!(matches!(error, VerifyError::Refused { check: names::SIGNATURE, .. }), "{at}: {error}");
        }
    }
    for other in some_bits(digest.raw()) {
        let other = Digest::from_raw(other.try_into().unwrap());
        let error = verify_bundle_for_image(bytes, &other, policy, &root).unwrap_err();
        assert!(matches!(error, VerifyError::Refused { check: names::SUBJECT, .. }), "{error}");
    }
}

async fn flip_payload(registry: &Registry, payload: &[u8], repository: &str, digest: &Digest, policy: &Policy) {
    let tag = format!("sha256-{}.sig", digest.hex());
    let manifest = registry.manifest_by_tag(repository, &tag).await.unwrap().unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let all: BTreeMap<String, String> = serde_json::from_value(manifest["layers"][0]["annotations"].clone()).unwrap();
    let (annotations, root) = (Annotations::of(&all), root());
    verify_simple_signing(payload, &annotations, digest, policy, &root).unwrap();
    for flipped in some_bits(payload) {
        let error = verify_simple_signing(&flipped, &annotations, digest, policy, &root).unwrap_err();
        assert!(matches!(error, VerifyError::Refused { check: names::SIGNATURE, .. }), "{error}");
    }
    for flipped in some_bits(&STANDARD.decode(annotations.signature.as_ref().unwrap()).unwrap()) {
        let other = Annotations { signature: Some(STANDARD.encode(flipped)), ..annotations.clone() };
        let error = verify_simple_signing(payload, &other, digest, policy, &root).unwrap_err();
        assert!(matches!(error, VerifyError::Refused { check: names::SIGNATURE, .. }), "{error}");
    }
    for other in some_bits(digest.raw()) {
        let other = Digest::from_raw(other.try_into().unwrap());
        let error = verify_simple_signing(payload, &annotations, &other, policy, &root).unwrap_err();
        assert!(matches!(error, VerifyError::Refused { check: names::SUBJECT, .. }), "{error}");
    }
}

#[tokio::test]
async fn one_good_signature_among_others_is_enough() {
    let Some(cosign) = cosign() else { return };
    let registry = Registry::start().await;
    let ours = registry.key(&cosign, "ours", KEYS[0].1);
    registry.key(&cosign, "foreign", KEYS[0].1);
    let digest = registry.push_image("mixed").await;
    let verifier = Verifier::new(ours, root());
    registry.sign(&cosign, "foreign", Form::Bundle, "mixed", &digest);
    registry.sign(&cosign, "foreign", Form::SimpleSigning, "mixed", &digest);
    let error = verifier.verify_image(&registry, "mixed", &digest).await.unwrap_err();
    let VerifyError::NoneValid { candidates, .. } = &error else { panic!("{error}") };
    assert_eq!(candidates.len(), 2, "{error}");
    assert!(candidates[0].place.starts_with("bundle sha256:") && candidates[1].place.contains(".sig"), "{error}");
    // The older form is looked at last, and holds beside three that do not.
    registry.sign(&cosign, "ours", Form::SimpleSigning, "mixed", &digest);
    let (findings, verdict) = verifier.explain_image(&registry, "mixed", &digest).await;
    assert_eq!((verdict.unwrap().form, findings.len()), (Form::SimpleSigning, 3));
    registry.sign(&cosign, "ours", Form::Bundle, "mixed", &digest);
    assert_eq!(verifier.verify_image(&registry, "mixed", &digest).await.unwrap().form, Form::Bundle);
}

#[tokio::test]
async fn cosign_and_we_agree_on_keyless_signatures_in_the_older_form() {
    let Some(cosign) = cosign() else { return };
    let registry = Registry::start().await;
    let pki = pki::Pki::new(1);
    let trusted_root = registry.folder.path().join("trusted_root.json");
    fs::write(&trusted_root, pki.trusted_root()).unwrap();
    let verifier = Verifier::new(
        Policy::from_config(&PolicyConfig::default()).unwrap(),
        TrustedRoot::from_file(&trusted_root).unwrap(),
    );
    for (repository, with_sct, integrated) in
        [("good", true, pki::NOW), ("without-sct", false, pki::NOW), ("late", true, pki::NOW + 601)]
    {
        let image = registry.push_image(repository).await;
        let payload = pki::payload(&image, "cosign container image signature");
        let order = pki::Order { with_sct, integrated, ..pki::Order::of(payload) };
        let Annotations { signature, certificate, chain, bundle, .. } = pki.sign(&order);
        let config = registry.push_blob(repository, b"{}").await;
        let mut layer = registry.push_blob(repository, &order.payload).await;
        layer["mediaType"] = "application/vnd.dev.cosign.simplesigning.v1+json".into();
        layer["annotations"] = json!({
            "dev.cosignproject.cosign/signature": signature,
            "dev.sigstore.cosign/certificate": certificate,
            "dev.sigstore.cosign/chain": chain,
            "dev.sigstore.cosign/bundle": bundle,
        });
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        registry.push_manifest(repository, &format!("sha256-{}.sig", image.hex()), &manifest).await;

        let mut verify = Command::new(&cosign);
        verify.args(["verify", "--offline", "--new-bundle-format=false", "--allow-http-registry", "--trusted-root"]);
        verify.arg(&trusted_root).args(["--certificate-identity", pki::IDENTITY]);
        verify.args(["--certificate-oidc-issuer", pki::ISSUER]);
        verify.arg(format!("{}/{repository}@{image}", registry.address));
        let output = verify.output().unwrap();
        let ours = verifier.verify_image(&registry, repository, &image).await;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), repository == "good", "{repository}: cosign: {told}");
        assert_eq!(ours.is_ok(), repository == "good", "{repository}: {ours:?}");
    }
}
