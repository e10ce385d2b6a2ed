use super::super::Verdict;
use super::*;

fn config() -> PolicyConfig {
    PolicyConfig::default()
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn keyless(config: &PolicyConfig) -> (IssuerRule, Regex) {
    match Policy::from_config(config).unwrap() {
        Policy::Keyless { issuer, subject } => (issuer, subject),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_default_takes_sidero_labs_and_nobody_else() {
    let (issuer, subject) = keyless(&config());
    assert!(issuer.allows("https://accounts.google.com") && !issuer.allows("https://accounts.google.com.evil.com"));
    for (identity, allowed) in [
        ("albert@siderolabs.com", true),
        ("releasemgr-svc@talos-production.iam.gserviceaccount.com", true),
        ("albert@siderolabs.com.evil.com", false),
        ("albert@siderolabs-com", false),
        ("x-releasemgr-svc@talos-production.iam.gserviceaccount.com", false),
        ("", false),
    ] {
        assert_eq!(subject.is_match(identity), allowed, "{identity}");
    }
    let empty = Some(String::new());
    let unset =
        PolicyConfig { issuer: empty.clone(), issuer_reg_exp: empty.clone(), subject_reg_exp: empty, ..config() };
    let root = TrustedRoot::embedded().unwrap();
    let id = |config: &PolicyConfig| Policy::from_config(config).unwrap().id(&root);
    assert_eq!(id(&unset), id(&config()));
}

#[test]
fn issuers_are_exact_or_match_or_both() {
    let (issuer, _) = keyless(&PolicyConfig { issuer_reg_exp: text("^https://a"), ..config() });
    assert!(issuer.exact.is_none() && issuer.allows("https://accounts.google.com") && !issuer.allows("https://b"));
    let (issuer, _) =
        keyless(&PolicyConfig { issuer_reg_exp: text("^https://a"), issuer: text("https://ab"), ..config() });
    assert!(issuer.allows("https://ab") && !issuer.allows("https://abc") && !issuer.allows("https://b"));
    assert_eq!(issuer.to_string(), "\"https://ab\" matching /^https://a/");
}

#[test]
fn values_that_cannot_work_are_named() {
    let error = |config: &PolicyConfig| Policy::from_config(config).unwrap_err().to_string();
    let bad = error(&PolicyConfig { subject_reg_exp: text("("), ..config() });
    assert!(bad.starts_with("containerSignature.subjectRegExp: \"(\""), "{bad}");
    let bad = error(&PolicyConfig { issuer_reg_exp: text("*"), ..config() });
    assert!(bad.starts_with("containerSignature.issuerRegExp: \"*\""), "{bad}");
    let file = Some(PathBuf::from("/nonexistent/key.pub"));
    let bad = error(&PolicyConfig { public_key_file: file.clone(), ..config() });
    assert!(bad.starts_with("containerSignature.publicKeyFile: /nonexistent/key.pub"), "{bad}");
    let bad = error(&PolicyConfig { public_key_file: file.clone(), public_key_hash_algo: text("md5"), ..config() });
    assert!(bad.starts_with("containerSignature.publicKeyHashAlgo: \"md5\""), "{bad}");
    // Disabled, nothing else is looked at.
    let off = PolicyConfig { disabled: true, public_key_file: file, ..config() };
    assert!(matches!(Policy::from_config(&off).unwrap(), Policy::Disabled));
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large.pub");
    std::fs::write(&large, vec![b'x'; MAX_KEY_FILE as usize + 1]).unwrap();
    let bad = error(&PolicyConfig { public_key_file: Some(large), ..config() });
    assert!(bad.contains("no public key"), "{bad}");
}

#[test]
fn one_identity_means_that_one() {
    let Policy::Keyless { issuer, subject } = Policy::keyless("a.b@c", "https://i").unwrap() else { panic!() };
    assert!(subject.is_match("a.b@c") && issuer.allows("https://i"));
    for other in ["aXb@c", "xa.b@c", "a.b@cx", "a.b@c\n", "\na.b@c"] {
        assert!(!subject.is_match(other), "{other:?}");
    }
}

#[test]
fn ids_tell_policies_apart_and_stay() {
    let root = TrustedRoot::embedded().unwrap();
    let id = |config: PolicyConfig| Policy::from_config(&config).unwrap().id(&root);
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key.pub");
    let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    std::fs::write(&key, pem).unwrap();
    let by_key = PolicyConfig { public_key_file: Some(key), ..config() };
    let ids = [
        id(config()),
        id(PolicyConfig { issuer: text("https://x"), ..config() }),
        id(PolicyConfig { issuer_reg_exp: text("https://x"), ..config() }),
        id(PolicyConfig { subject_reg_exp: text("x"), ..config() }),
        id(by_key.clone()),
        id(PolicyConfig { public_key_hash_algo: text("sha512"), ..by_key }),
        id(PolicyConfig { disabled: true, ..config() }),
    ];
    for (at, one) in ids.iter().enumerate() {
        assert_eq!(one.len(), 64);
        assert!(!ids[..at].contains(one), "{at}");
    }
    // Remembered in stores: changing it makes every image be verified again.
    assert_eq!(ids[0], "58bfc4471ff0cbb72697725cf571be79667b11699329c30aafb18d3f3a8882c7");
}

#[test]
fn verdicts_are_written_and_read() {
    let verdict = Verdict { time: Some(1), issuer: text("i"), ..Verdict::unchecked(Digest::of(b"")) };
    let written = serde_json::to_string(&verdict).unwrap();
    assert!(written.starts_with(r#"{"form":"unchecked","digest":"sha256:e3b0c4"#), "{written}");
    assert_eq!(serde_json::from_str::<Verdict>(&written).unwrap(), verdict);
}
