//! Keyless signatures in the older form, made by a small Sigstore of our own. (That they are what cosign reads is shown
//! in `verify_cosign.rs`.)

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod pki;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image_factory::types::Digest;
use image_factory::verify::*;
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use pki::{IDENTITY, ISSUER, NOW, Order, Pki, payload};
use proptest::prelude::*;
use serde_json::{Value, json};

const TYPE: &str = "cosign container image signature";

fn image() -> Digest {
    Digest::of(b"an image")
}

/// Which check refuses; panics when none does.
fn refused(payload: &[u8], annotations: &Annotations, root: &TrustedRoot) -> (&'static str, String) {
    let policy = Policy::from_config(&PolicyConfig::default()).unwrap();
    match verify_simple_signing(payload, annotations, &image(), &policy, root) {
        Err(VerifyError::Refused { check, reason }) => (check, reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_whole_signature_verifies_under_the_default_policy() {
    let pki = Pki::new(1);
    let root = TrustedRoot::from_json(&pki.trusted_root()).unwrap();
    let policy = Policy::from_config(&PolicyConfig::default()).unwrap();
    let order = Order::of(payload(&image(), TYPE));
    let annotations = pki.sign(&order);
    let report = explain_simple_signing(&order.payload, &annotations, &image(), &policy, &root);
    let told: Vec<_> = report.checks.iter().map(Check::to_string).collect();
    assert!(report.checks.iter().all(|check| check.outcome == Outcome::Passed), "{told:#?}");
    let verdict = report.verdict.unwrap();
    assert_eq!((verdict.identity.as_deref(), verdict.issuer.as_deref()), (Some(IDENTITY), Some(ISSUER)));
    assert_eq!((verdict.form, verdict.time, verdict.digest), (Form::SimpleSigning, Some(NOW), image()));
    // The chain is not needed: the root has the authority.
    let bare = Annotations { chain: None, ..annotations };
    verify_simple_signing(&order.payload, &bare, &image(), &policy, &root).unwrap();
}

#[test]
fn what_is_wrong_is_named() {
    let pki = Pki::new(1);
    let root = TrustedRoot::from_json(&pki.trusted_root()).unwrap();
    let good = Order::of(payload(&image(), TYPE));
    let check = |order: Order| refused(&order.payload, &pki.sign(&order), &root).0;
    assert_eq!(check(Order { identity: "someone@example.com", ..good.clone() }), names::IDENTITY);
    assert_eq!(check(Order { issuer: "https://example.com", ..good.clone() }), names::ISSUER);
    assert_eq!(check(Order { integrated: NOW + 601, ..good.clone() }), names::CHAIN);
    assert_eq!(check(Order { integrated: NOW - 1, ..good.clone() }), names::CHAIN);
    assert_eq!(check(Order { with_sct: false, ..good.clone() }), names::TRANSPARENCY);
    assert_eq!(check(Order::of(payload(&Digest::of(b"another"), TYPE))), names::SUBJECT);
    assert_eq!(check(Order::of(payload(&image(), "atomic container signature"))), names::STATEMENT);
    assert_eq!(check(Order::of(b"{}".to_vec())), names::STATEMENT);

    let annotations = pki.sign(&good);
    let check = |annotations: &Annotations| refused(&good.payload, annotations, &root).0;
    assert_eq!(check(&Annotations { signature: None, ..annotations.clone() }), names::FORM);
    assert_eq!(check(&Annotations { certificate: None, ..annotations.clone() }), names::FORM);
    assert_eq!(check(&Annotations { bundle: None, ..annotations.clone() }), names::FORM);
    assert_eq!(check(&Annotations { chain: Some("x".repeat(1 << 20)), ..annotations.clone() }), names::FORM);
    let stranger = Pki::new(2);
    assert_eq!(check(&stranger.sign(&good)), names::LOG);
    let strange = TrustedRoot::from_json(&stranger.trusted_root()).unwrap();
    assert_eq!(refused(&good.payload, &annotations, &strange).0, names::LOG);

    // A promise about another payload, or about another signature, does not vouch for this one.
    let other = Order::of(payload(&image(), "another type"));
    let borrowed = Annotations { bundle: pki.sign(&other).bundle, ..annotations.clone() };
    assert_eq!(check(&borrowed), names::ENTRY);
    let certificate = annotations.certificate.as_ref().unwrap();
    let promise = pki.promise(&good.payload, &STANDARD.encode(b"x"), certificate, NOW);
    assert_eq!(check(&Annotations { bundle: Some(promise.to_string()), ..annotations.clone() }), names::ENTRY);

    // No certificate counts where the policy wants a key, and the other way round.
    let key = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    let policy = Policy::PublicKey(Box::new(PublicKey::from_pem(key, HashAlgorithm::Sha256).unwrap()));
    let error = verify_simple_signing(&good.payload, &annotations, &image(), &policy, &root).unwrap_err();
    assert!(matches!(error, VerifyError::Refused { check: names::SIGNATURE, .. }), "{error}");
}

fn public_key(pki: &Pki) -> String {
    pki.signer.verifying_key().to_public_key_pem(LineEnding::LF).unwrap()
}

#[test]
fn what_comes_beside_a_keys_signature_must_hold() {
    let (pki, stranger) = (Pki::new(1), Pki::new(2));
    let root = TrustedRoot::from_json(&pki.trusted_root()).unwrap();
    let policy = Policy::PublicKey(Box::new(PublicKey::from_pem(&public_key(&pki), HashAlgorithm::Sha256).unwrap()));
    let order = Order::of(payload(&image(), TYPE));
    let verify =
        |annotations: &Annotations| verify_simple_signing(&order.payload, annotations, &image(), &policy, &root);
    let check = |annotations: &Annotations| match verify(annotations) {
        Err(VerifyError::Refused { check, .. }) => check,
        other => panic!("{other:?}"),
    };
    let bare = Annotations { signature: pki.sign(&order).signature, ..Annotations::default() };
    let verdict = verify(&bare).unwrap();
    assert_eq!((verdict.form, verdict.time, verdict.identity), (Form::SimpleSigning, None, None));
    let promise = |pki: &Pki, key: &str| {
        let bundle = pki.promise(&order.payload, bare.signature.as_ref().unwrap(), key, NOW);
        Annotations { bundle: Some(bundle.to_string()), ..bare.clone() }
    };
    assert_eq!(verify(&promise(&pki, &public_key(&pki))).unwrap().time, Some(NOW));
    assert_eq!(check(&promise(&stranger, &public_key(&pki))), names::LOG);
    assert_eq!(check(&promise(&pki, &public_key(&stranger))), names::ENTRY);
    let stamp = |text: &str| Annotations { timestamp: Some(text.to_owned()), ..bare.clone() };
    assert_eq!(check(&stamp("{")), names::FORM);
    assert_eq!(check(&stamp(r#"{"SignedRFC3161Timestamp":"MAA="}"#)), names::TIME);
}

#[test]
fn every_flipped_bit_of_payload_signature_certificate_and_promise_is_refused() {
    let pki = Pki::new(1);
    let root = TrustedRoot::from_json(&pki.trusted_root()).unwrap();
    let order = Order::of(payload(&image(), TYPE));
    let annotations = pki.sign(&order);
    let bits = |bytes: &[u8], step: usize| -> Vec<Vec<u8>> {
        let flip = |bit: usize| {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            flipped
        };
        (0..bytes.len() * 8).step_by(step).map(flip).collect()
    };
    for flipped in bits(&order.payload, 5) {
        refused(&flipped, &annotations, &root);
    }
    for flipped in bits(&STANDARD.decode(annotations.signature.as_ref().unwrap()).unwrap(), 1) {
        let signature = Some(STANDARD.encode(flipped));
        refused(&order.payload, &Annotations { signature, ..annotations.clone() }, &root);
    }
    let pem = annotations.certificate.as_ref().unwrap();
    let certificate = STANDARD.decode(pem.lines().nth(1).unwrap()).unwrap();
    for flipped in bits(&certificate, 7) {
        let certificate = pem.replace(pem.lines().nth(1).unwrap(), &STANDARD.encode(flipped));
        refused(&order.payload, &Annotations { certificate: Some(certificate), ..annotations.clone() }, &root);
    }
    let promise: Value = serde_json::from_str(annotations.bundle.as_ref().unwrap()).unwrap();
    let with = |at: &str, value: Value| {
        let mut other = promise.clone();
        *other.pointer_mut(at).unwrap() = value;
        refused(&order.payload, &Annotations { bundle: Some(other.to_string()), ..annotations.clone() }, &root);
    };
    for (at, step) in [("/SignedEntryTimestamp", 1), ("/Payload/body", 29)] {
        for flipped in bits(&STANDARD.decode(promise.pointer(at).unwrap().as_str().unwrap()).unwrap(), step) {
            with(at, STANDARD.encode(flipped).into());
        }
    }
    for flipped in bits(&hex::decode(promise["Payload"]["logID"].as_str().unwrap()).unwrap(), 1) {
        with("/Payload/logID", hex::encode(flipped).into());
    }
    for bit in 0..32 {
        with("/Payload/integratedTime", (NOW ^ (1 << bit)).into());
        with("/Payload/logIndex", (17 ^ (1 << bit)).into());
    }
}

/// A bundle of version 0.1 about a file, by the same services.
fn file_bundle(pki: &Pki, order: &Order) -> Value {
    let Annotations { signature, certificate, bundle, .. } = pki.sign(order);
    let promise: Value = serde_json::from_str(&bundle.unwrap()).unwrap();
    let entry = &promise["Payload"];
    let log = STANDARD.encode(hex::decode(entry["logID"].as_str().unwrap()).unwrap());
    json!({
        "mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.1",
        "verificationMaterial": {
            "x509CertificateChain": {"certificates": [{"rawBytes": certificate.unwrap().lines().nth(1).unwrap()}]},
            "tlogEntries": [{
                "logIndex": "17",
                "logId": {"keyId": log},
                "kindVersion": {"kind": "hashedrekord", "version": "0.0.1"},
                "integratedTime": NOW.to_string(),
                "inclusionPromise": {"signedEntryTimestamp": promise["SignedEntryTimestamp"]},
                "canonicalizedBody": entry["body"],
            }],
        },
        "messageSignature": {"signature": signature.unwrap()},
    })
}

#[test]
fn a_signature_of_a_file_is_none_of_an_image() {
    let pki = Pki::new(1);
    let root = TrustedRoot::from_json(&pki.trusted_root()).unwrap();
    let policy = Policy::from_config(&PolicyConfig::default()).unwrap();
    let order = Order::of(b"a file".to_vec());
    let bundle = file_bundle(&pki, &order).to_string().into_bytes();
    let (bytes, digest) = (Artifact::Bytes(b"a file"), Digest::of(b"a file"));
    let verdict = verify_bundle(&bundle, bytes, &policy, &root).unwrap();
    assert_eq!((verdict.form, verdict.digest, verdict.time), (Form::Bundle, digest, Some(NOW)));
    assert_eq!(verify_bundle(&bundle, Artifact::Digest(&digest), &policy, &root).unwrap(), verdict);
    let error = verify_bundle_for_image(&bundle, &digest, &policy, &root).unwrap_err();
    assert!(matches!(error, VerifyError::Refused { check: names::STATEMENT, .. }), "{error}");
    let error = verify_bundle(&bundle, Artifact::Bytes(b"another"), &policy, &root).unwrap_err();
    assert!(matches!(error, VerifyError::Refused { check: names::SIGNATURE, .. }), "{error}");
    let huge = [bundle, vec![b' '; MAX_BUNDLE as usize]].concat();
    let error = verify_bundle(&huge, bytes, &policy, &root).unwrap_err();
    assert!(error.to_string().starts_with("form: ") && error.to_string().contains("at most"), "{error}");
}

fn mutated(good: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((0..good.len(), any::<u8>(), 0..3u8), 1..6);
    edits.prop_map(move |edits| {
        let mut bytes = good.clone();
        for (at, byte, kind) in edits {
            let at = at.min(bytes.len() - 1);
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => bytes.truncate(at.max(1)),
            }
        }
        bytes
    })
}

proptest! {
    #[test]
    fn mutated_annotations_and_bundles_never_speak_for_another(
        bundle in mutated(file_bundle(&Pki::new(1), &Order::of(b"a file".to_vec())).to_string().into_bytes()),
        promise in mutated(Pki::new(1).sign(&Order::of(payload(&image(), TYPE))).bundle.unwrap().into_bytes()),
        chain in mutated(Pki::new(1).sign(&Order::of(payload(&image(), TYPE))).chain.unwrap().into_bytes()),
        junk in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let pki = Pki::new(1);
        let root = TrustedRoot::from_json(&pki.trusted_root()).unwrap();
        let policy = Policy::from_config(&PolicyConfig::default()).unwrap();
        if let Ok(verdict) = verify_bundle(&bundle, Artifact::Bytes(b"a file"), &policy, &root) {
            prop_assert_eq!(verdict.identity.as_deref(), Some(IDENTITY));
        }
        prop_assert!(verify_bundle(&bundle, Artifact::Bytes(b"another"), &policy, &root).is_err());
        prop_assert!(verify_bundle(&junk, Artifact::Bytes(b"a file"), &policy, &root).is_err());
        let order = Order::of(payload(&image(), TYPE));
        let good = pki.sign(&order);
        let text = |bytes: &[u8]| Some(String::from_utf8_lossy(bytes).into_owned());
        let touched = Annotations { bundle: text(&promise), chain: text(&chain), ..good.clone() };
        if let Ok(verdict) = verify_simple_signing(&order.payload, &touched, &image(), &policy, &root) {
            prop_assert_eq!(verdict.time, Some(NOW));
        }
        let touched = Annotations { certificate: text(&junk), ..good };
        prop_assert!(verify_simple_signing(&order.payload, &touched, &image(), &policy, &root).is_err());
        prop_assert!(verify_simple_signing(&junk, &touched, &image(), &policy, &root).is_err());
    }
}
