//! Signatures as a registry sends them: bundles, and simple signing payloads with their annotations.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use image_factory::types::Digest;
use image_factory::verify::{
    Annotations, Artifact, HashAlgorithm, Policy, PolicyConfig, PublicKey, TrustedRoot, explain_bundle,
    explain_bundle_for_image, explain_simple_signing,
};

/// A key that signs nothing here.
const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

static WORLD: LazyLock<(TrustedRoot, [Policy; 2])> = LazyLock::new(|| {
    let keyless = Policy::from_config(&PolicyConfig::default()).expect("the default policy works");
    let key = PublicKey::from_pem(KEY, HashAlgorithm::Sha256).expect("the key is one");
    (TrustedRoot::embedded().expect("the embedded root works"), [keyless, Policy::PublicKey(Box::new(key))])
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (root, policies) = &*WORLD;
    let image = Digest::of(data);
    // A payload and five annotations, with two empty lines between; what is missing stays absent.
    let text = String::from_utf8_lossy(data);
    let mut parts = text.split("\n\n\n");
    let payload = parts.next().unwrap_or_default().as_bytes();
    let keys = [
        "dev.cosignproject.cosign/signature",
        "dev.sigstore.cosign/certificate",
        "dev.sigstore.cosign/chain",
        "dev.sigstore.cosign/bundle",
        "dev.sigstore.cosign/rfc3161timestamp",
    ];
    let all: BTreeMap<_, _> =
        keys.into_iter().zip(parts).map(|(key, part)| (key.to_owned(), part.to_owned())).collect();
    for policy in policies {
        // A signature that nobody made about a digest of itself cannot be.
        assert!(explain_bundle_for_image(data, &image, policy, root).verdict.is_none());
        assert!(explain_simple_signing(payload, &Annotations::of(&all), &image, policy, root).verdict.is_none());
        let _ = explain_bundle(data, Artifact::Bytes(b""), policy, root);
        let _ = policy.id(root);
    }
    let _ = PublicKey::from_pem(&text, HashAlgorithm::Sha512);
    if data.len() < 1 << 16 {
        let _ = TrustedRoot::from_json(&text);
    }
});
