use std::fs;

use super::*;

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn load(sources: &[Source], pairs: &[(&str, &str)]) -> Result<(Values, Config), ConfigError> {
    let values = Values::load(sources, &variables(pairs))?;
    let config = Config::from_values(&values)?;
    Ok((values, config))
}

#[test]
fn later_sources_override_and_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = folder.path().join("factory.yaml");
    fs::write(
        &yaml,
        "http:\n  externalURL: https://factory.example\nbuild:\n  brokenTalosVersions: [v1.12.9, 1.3.0]\n",
    )
    .unwrap();
    let dotenv = folder.path().join("over.env");
    fs::write(&dotenv, "IF_METRICS_ADDR=127.0.0.1:9\nIF_BUILD_MAXCONCURRENCY=3\n").unwrap();
    let sources = [Source::parse(yaml.to_str().unwrap()), Source::parse(&format!("file={}", dotenv.display()))];
    let (values, config) = load(&sources, &[("IF_BUILD_MAXCONCURRENCY", "4"), ("HOME", "/x")]).unwrap();
    assert_eq!(config.http.external_url.as_str(), "https://factory.example/");
    assert_eq!(config.build.broken_talos_versions.len(), 2);
    assert_eq!(config.build.max_concurrency, 4);
    assert_eq!(config.metrics_addr.unwrap().port(), 9);
    let source = |path: &str| values.settings().find(|(p, _)| *p == path).unwrap().1.source.clone();
    assert_eq!(source("build.maxConcurrency"), "environment: IF_BUILD_MAXCONCURRENCY");
    assert_eq!(source("http.externalURL"), yaml.display().to_string());
    assert_eq!(source("store.path"), "default");
}

#[test]
fn unknown_keys_and_bad_values_are_named() {
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
    let cases: &[Case<'_>] = &[
        (&[("IF_HTTP_LISTEN", "x")], &["IF_HTTP_LISTEN", "unknown key"]),
        (&[("IF_BUILD_MAXCONCURRENCY", "many")], &["build.maxConcurrency", "many", "whole number"]),
        (&[("IF_BUILD_MAXCONCURRENCY", "0")], &["build.maxConcurrency", "at least 1"]),
        (&[("IF_HTTP_CERTFILE", "/c.pem")], &["http.keyFile", "http.certFile"]),
        (&[("IF_HTTP_EXTERNALURL", "ftp://x")], &["http.externalURL", "ftp://x"]),
        (&[("IF_AUTHENTICATION_ENABLED", "true")], &["authentication.enabled", "not available"]),
        (&[("IF_SECUREBOOT_ENABLED", "true")], &["secureBoot.enabled", "not available"]),
        (&[("IF_HTTP_HTTPLISTENADDR", "8080")], &["http.httpListenAddr", "8080"]),
    ];
    for (pairs, words) in cases {
        let error = load(&[], pairs).unwrap_err().to_string();
        for word in *words {
            assert!(error.contains(word), "{pairs:?}: {error:?} lacks {word:?}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.yaml");
    fs::write(&path, "http:\n  certfile: x\n").unwrap();
    let error = load(&[Source::File(path)], &[]).unwrap_err().to_string();
    assert!(error.contains("http.certfile") && error.contains("did you mean http.certFile"), "{error}");
}

#[test]
fn keys_that_do_nothing_here_are_accepted_with_a_warning() {
    let (values, _) = load(&[], &[("IF_CACHE_OCI_REGISTRY", "r"), ("IF_AUTHENTICATION_ENABLED", "false")]).unwrap();
    assert_eq!(values.warnings.len(), 1, "{:?}", values.warnings);
    assert!(values.warnings[0].contains("IF_CACHE_OCI_REGISTRY"));
}

#[test]
fn another_prefix_replaces_the_default_one() {
    let (_, config) =
        load(&[Source::parse("env=MY_")], &[("MY_BUILD_MAXCONCURRENCY", "2"), ("IF_NOSUCH", "x")]).unwrap();
    assert_eq!(config.build.max_concurrency, 2);
}
