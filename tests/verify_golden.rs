//! Holds the verifier against other people's signatures: a real extension image and half of the public conformance cases.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use image_factory::types::Digest;
use image_factory::verify::*;
use proptest::strategy::{Strategy as _, ValueTree as _};
use serde_json::Value;

const IMAGE: &str = "sha256:dd89b46bbdbaf327dbce29901c7ec8e4927b9db04a9774ed5b7cb34931150274";

/// The folder of golden data, or `None` (with a note) where it is not.
fn golden() -> Option<PathBuf> {
    let root = std::env::var_os("GOLDEN_DATA").map(PathBuf::from);
    let root = root.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden"));
    let folder = root.join("sigstore");
    if folder.is_dir() {
        return Some(folder);
    }
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{} is missing", folder.display());
    println!("skipped: {} is missing", folder.display());
    None
}

fn image() -> Digest {
    IMAGE.parse().unwrap()
}

fn default_policy() -> Policy {
    Policy::from_config(&PolicyConfig::default()).unwrap()
}

/// The bundle of the real image, found the way a registry's client finds it.
fn real_bundle(golden: &Path) -> Vec<u8> {
    let layout = Layout(golden.join("my-extension-signature"));
    let referrer = layout.entries()[0].digest;
    let manifest: serde_json::Value = serde_json::from_slice(&layout.blob(&referrer)).unwrap();
    layout.blob(&manifest["layers"][0]["digest"].as_str().unwrap().parse().unwrap())
}

/// The signature's layout, which holds nothing but the index of the fallback tag and what it leads to.
struct Layout(PathBuf);

impl Layout {
    fn blob(&self, digest: &Digest) -> Vec<u8> {
        fs::read(self.0.join("blobs/sha256").join(digest.hex())).unwrap()
    }

    fn entries(&self) -> Vec<Referrer> {
        let index: serde_json::Value = serde_json::from_slice(&fs::read(self.0.join("index.json")).unwrap()).unwrap();
        let fallback = self.blob(&index["manifests"][0]["digest"].as_str().unwrap().parse().unwrap());
        let fallback: serde_json::Value = serde_json::from_slice(&fallback).unwrap();
        let entry = &fallback["manifests"][0];
        vec![Referrer {
            digest: entry["digest"].as_str().unwrap().parse().unwrap(),
            artifact_type: entry["artifactType"].as_str().map(str::to_owned),
            annotations: BTreeMap::new(),
        }]
    }
}

impl SignatureSource for Layout {
    async fn manifest_by_tag(&self, _: &str, _: &str) -> Result<Option<Bytes>, SourceError> {
        Ok(None)
    }

    async fn manifest(&self, _: &str, digest: &Digest) -> Result<Bytes, SourceError> {
        Ok(self.blob(digest).into())
    }

    async fn referrers(&self, _: &str, digest: &Digest) -> Result<Vec<Referrer>, SourceError> {
        Ok(if *digest == image() { self.entries() } else { Vec::new() })
    }

    async fn small_blob(&self, _: &str, digest: &Digest, _: u64) -> Result<Bytes, SourceError> {
        Ok(self.blob(digest).into())
    }
}

#[tokio::test]
async fn the_real_image_verifies_under_the_default_policy() {
    let Some(golden) = golden() else { return };
    let source = Layout(golden.join("my-extension-signature"));
    let manifest = Layout(golden.join("my-extension-image")).blob(&image());
    assert_eq!(Digest::of(&manifest), image());
    let verifier = Verifier::new(default_policy(), TrustedRoot::embedded().unwrap());
    let verdict = verifier.verify_image(&source, "siderolabs/my-extension", &image()).await.unwrap();
    assert_eq!(verdict.form, Form::Bundle);
    assert_eq!(verdict.identity.as_deref(), Some("albert.kostusev@siderolabs.com"));
    assert_eq!(verdict.issuer.as_deref(), Some("https://accounts.google.com"));
    assert_eq!((verdict.time, verdict.key), (Some(1_783_246_429), None));
    let text = serde_json::to_string(&verdict).unwrap();
    assert_eq!(serde_json::from_str::<Verdict>(&text).unwrap(), verdict);

    let file = TrustedRoot::from_file(&golden.join("trusted_root.json")).unwrap();
    let again = verify_bundle_for_image(&real_bundle(&golden), &image(), &default_policy(), &file).unwrap();
    assert_eq!(again, verdict);

    let other = Digest::of(b"another image");
    let error = verifier.verify_image(&source, "siderolabs/my-extension", &other).await.unwrap_err();
    assert!(matches!(error, VerifyError::Unsigned { .. }), "{error}");
}

#[test]
fn another_identity_issuer_key_or_image_is_refused_by_name() {
    let Some(golden) = golden() else { return };
    let (bundle, root) = (real_bundle(&golden), TrustedRoot::embedded().unwrap());
    let refused =
        |policy: &Policy, image: &Digest| match verify_bundle_for_image(&bundle, image, policy, &root).unwrap_err() {
            VerifyError::Refused { check, reason } => (check, reason),
            other => panic!("{other}"),
        };
    let (check, reason) = refused(&Policy::keyless("albert@siderolabs.com", DEFAULT_ISSUER).unwrap(), &image());
    assert_eq!(check, names::IDENTITY);
    assert!(reason.contains("albert.kostusev@siderolabs.com") && reason.contains("albert@"), "{reason}");
    let (check, reason) = refused(&Policy::keyless("albert.kostusev@siderolabs.com", "https://x").unwrap(), &image());
    assert_eq!(check, names::ISSUER);
    assert!(reason.contains(DEFAULT_ISSUER), "{reason}");
    let (check, _) = refused(&default_policy(), &Digest::of(b"another image"));
    assert_eq!(check, names::SUBJECT);
    let key = fs::read_to_string(golden.join("bundle-verify/managed-key-and-trusted-root/key.pub")).unwrap();
    let key = Policy::PublicKey(Box::new(PublicKey::from_pem(&key, HashAlgorithm::Sha256).unwrap()));
    let (check, _) = refused(&key, &image());
    assert_eq!(check, names::FORM);
    let regexp = PolicyConfig { issuer_reg_exp: Some("^https://accounts".into()), ..PolicyConfig::default() };
    verify_bundle_for_image(&bundle, &image(), &Policy::from_config(&regexp).unwrap(), &root).unwrap();
    let both = PolicyConfig { issuer: Some("https://x".into()), ..regexp };
    assert_eq!(refused(&Policy::from_config(&both).unwrap(), &image()).0, names::ISSUER);
}

/// One folder of the conformance suite: what it holds, and what its name expects.
fn case(folder: &Path) -> (Report, bool) {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let artifact =
        fs::read(folder.join("artifact")).unwrap_or_else(|_| fs::read(folder.parent().unwrap().join("a.txt")).unwrap());
    let policy = match read("key.pub") {
        Some(key) => Policy::PublicKey(Box::new(PublicKey::from_pem(&key, HashAlgorithm::Sha256).unwrap())),
        None => {
            let identity = read("identity").unwrap_or_else(|| {
                "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/\
                 extremely-dangerous-oidc-beacon.yml@refs/heads/main"
                    .to_owned()
            });
            let issuer = read("issuer").unwrap_or_else(|| "https://token.actions.githubusercontent.com".to_owned());
            Policy::keyless(identity.trim(), issuer.trim()).unwrap()
        }
    };
    let root = folder.join("trusted_root.json");
    let root = if root.exists() { TrustedRoot::from_file(&root).unwrap() } else { TrustedRoot::embedded().unwrap() };
    let bundle = fs::read(folder.join("bundle.sigstore.json")).unwrap();
    let digest = Digest::of(&artifact);
    let report = explain_bundle(&bundle, Artifact::Bytes(&artifact), &policy, &root);
    let by_digest = explain_bundle(&bundle, Artifact::Digest(&digest), &policy, &root);
    assert_eq!(report.verdict, by_digest.verdict, "{}: by bytes and by digest", folder.display());
    let expected = !folder.file_name().unwrap().to_str().unwrap().ends_with("_fail");
    (report, expected)
}

#[test]
fn conformance_cases_go_as_their_names_say() {
    let Some(golden) = golden() else { return };
    let mut seen = 0;
    for entry in fs::read_dir(golden.join("bundle-verify")).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        let (report, expected) = case(&folder);
        let told: Vec<_> = report.checks.iter().map(Check::to_string).collect();
        assert_eq!(report.verdict.is_some(), expected, "{}: {told:#?}", folder.display());
        let failed = report.checks.iter().filter(|check| matches!(check.outcome, Outcome::Failed(_))).count();
        assert_eq!(failed, usize::from(!expected), "{}: {told:#?}", folder.display());
        println!("{}: {}", folder.file_name().unwrap().display(), told.join(" | "));
        seen += 1;
    }
    assert!(seen >= 35, "only {seen} cases");
}

/// How many bits of each field are tried; `EVERY_BIT=1` tries them all, which takes minutes.
fn flips(bytes: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    let every = std::env::var_os("EVERY_BIT").is_some();
    let stride = if every { 1 } else { (bytes.len() * 8 / 150).max(1) | 1 };
    (0..bytes.len() * 8).step_by(stride).map(move |bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        (bit, flipped)
    })
}

#[test]
fn a_flipped_bit_of_digest_content_or_evidence_is_refused() {
    let Some(golden) = golden() else { return };
    let (bundle, policy, root) = (real_bundle(&golden), default_policy(), TrustedRoot::embedded().unwrap());
    let verify = |bundle: &[u8], image: &Digest| verify_bundle_for_image(bundle, image, &policy, &root);
    for (bit, flipped) in flips(image().raw()) {
        let other = Digest::from_raw(flipped.try_into().unwrap());
        assert!(verify(&bundle, &other).is_err(), "bit {bit} of the image's digest");
    }
    let tree: Value = serde_json::from_slice(&bundle).unwrap();
    let entry = "/verificationMaterial/tlogEntries/0";
    let mut encoded = vec![
        "/dsseEnvelope/payload".to_owned(),
        "/dsseEnvelope/signatures/0/sig".to_owned(),
        "/verificationMaterial/certificate/rawBytes".to_owned(),
        "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp".to_owned(),
        format!("{entry}/canonicalizedBody"),
        format!("{entry}/logId/keyId"),
        format!("{entry}/inclusionPromise/signedEntryTimestamp"),
        format!("{entry}/inclusionProof/rootHash"),
    ];
    let hashes = tree.pointer(&format!("{entry}/inclusionProof/hashes")).unwrap().as_array().unwrap().len();
    encoded.extend((0..hashes).map(|at| format!("{entry}/inclusionProof/hashes/{at}")));
    let plain = [
        format!("{entry}/logIndex"),
        format!("{entry}/integratedTime"),
        format!("{entry}/inclusionProof/logIndex"),
        format!("{entry}/inclusionProof/treeSize"),
        format!("{entry}/inclusionProof/checkpoint/envelope"),
    ];
    let (mut tried, mut accepted) = (0, Vec::new());
    let mut attempt = |at: &str, bit: usize, text: String| {
        let mut other = tree.clone();
        *other.pointer_mut(at).unwrap() = text.into();
        tried += 1;
        if verify(other.to_string().as_bytes(), &image()).is_ok() {
            accepted.push(format!("bit {bit} of {at}"));
        }
    };
    for at in &encoded {
        let value = STANDARD.decode(tree.pointer(at).unwrap().as_str().unwrap()).unwrap();
        flips(&value).for_each(|(bit, flipped)| attempt(at, bit, STANDARD.encode(flipped)));
    }
    for at in &plain {
        let value = tree.pointer(at).unwrap().as_str().unwrap().as_bytes();
        for (bit, flipped) in flips(value) {
            if let Ok(text) = String::from_utf8(flipped) {
                attempt(at, bit, text);
            }
        }
    }
    assert!(tried > 2000, "only {tried} bits were tried");
    assert!(accepted.is_empty(), "{} of {tried} were accepted: {accepted:#?}", accepted.len());
}

#[test]
fn log_evidence_beside_a_key_is_not_needed_but_must_hold() {
    let Some(golden) = golden() else { return };
    let folder = golden.join("bundle-verify/managed-key-and-trusted-root");
    let root = TrustedRoot::from_file(&folder.join("trusted_root.json")).unwrap();
    let key = fs::read_to_string(folder.join("key.pub")).unwrap();
    let policy = Policy::PublicKey(Box::new(PublicKey::from_pem(&key, HashAlgorithm::Sha256).unwrap()));
    let tree: Value = serde_json::from_slice(&fs::read(folder.join("bundle.sigstore.json")).unwrap()).unwrap();
    let file = fs::read(golden.join("bundle-verify/a.txt")).unwrap();
    let verify = |tree: &Value| verify_bundle(tree.to_string().as_bytes(), Artifact::Bytes(&file), &policy, &root);
    let logged = verify(&tree).unwrap();
    assert!(logged.time.is_some() && logged.key.is_some());
    let mut bare = tree.clone();
    bare["verificationMaterial"]["tlogEntries"] = Value::Array(Vec::new());
    assert_eq!(verify(&bare).unwrap(), Verdict { time: None, ..logged });
    let entry = "/verificationMaterial/tlogEntries/0";
    for at in ["canonicalizedBody", "inclusionPromise/signedEntryTimestamp", "inclusionProof/hashes/3"] {
        let at = format!("{entry}/{at}");
        let value = STANDARD.decode(tree.pointer(&at).unwrap().as_str().unwrap()).unwrap();
        for (bit, flipped) in flips(&value).step_by(5) {
            let mut other = tree.clone();
            *other.pointer_mut(&at).unwrap() = STANDARD.encode(flipped).into();
            assert!(verify(&other).is_err(), "bit {bit} of {at}");
        }
    }
    let entries = vec![tree.pointer(entry).unwrap().clone(); 33];
    bare["verificationMaterial"]["tlogEntries"] = Value::Array(entries);
    assert!(verify(&bare).unwrap_err().to_string().contains("33 log entries; at most 32"));
}

/// What an accepted bundle says: its decoded statement.
fn statement(bundle: &[u8]) -> Vec<u8> {
    let tree: Value = serde_json::from_slice(bundle).unwrap();
    STANDARD.decode(tree.pointer("/dsseEnvelope/payload").unwrap().as_str().unwrap()).unwrap()
}

#[test]
fn whatever_bit_of_the_json_flips_no_other_statement_is_accepted() {
    let Some(golden) = golden() else { return };
    let (bundle, policy, root) = (real_bundle(&golden), default_policy(), TrustedRoot::embedded().unwrap());
    let verify = |bundle: &[u8]| verify_bundle_for_image(bundle, &image(), &policy, &root);
    let (good, said) = (verify(&bundle).unwrap(), statement(&bundle));
    let mut same = 0;
    let mut attempt = |flipped: &[u8], what: &dyn std::fmt::Debug| {
        if let Ok(verdict) = verify(flipped) {
            // The name of a field may be hit, and so a second proof of the time be lost; never who signed what.
            assert_eq!(Verdict { time: good.time, ..verdict }, good, "{what:?}");
            assert_eq!(statement(flipped), said, "{what:?}");
            same += 1;
        }
    };
    if std::env::var_os("EVERY_BIT").is_some() {
        flips(&bundle).for_each(|(bit, flipped)| attempt(&flipped, &bit));
    }
    let runner = &mut proptest::test_runner::TestRunner::deterministic();
    let bits = proptest::collection::vec(0..bundle.len() * 8, 1..3);
    for _ in 0..1500 {
        let bits = bits.new_tree(runner).unwrap().current();
        let mut flipped = bundle.clone();
        bits.iter().for_each(|bit| flipped[bit / 8] ^= 1 << (bit % 8));
        attempt(&flipped, &bits);
    }
    println!("{same} changed nothing that counts");
    assert!(same > 0, "no harmless bit was ever hit");
}
