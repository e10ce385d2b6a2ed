//! `verify`: signatures checked by hand.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use crate::config::{Config, ContainerSignatureConfig};
use crate::types::Digest;
use crate::upstream::Reference;
use crate::verify::{Artifact, Check, Policy, PolicyConfig, Report, TrustedRoot, TufSource, Verifier, explain_bundle};

/// How often the trusted root is refreshed.
const REFRESH: Duration = Duration::from_secs(24 * 3600);

fn root(config: &ContainerSignatureConfig) -> anyhow::Result<TrustedRoot> {
    Ok(match &config.trusted_root {
        Some(path) => TrustedRoot::from_file(path)?,
        None => TrustedRoot::embedded()?,
    })
}

fn policy(config: &ContainerSignatureConfig) -> anyhow::Result<Policy> {
    Ok(Policy::from_config(&PolicyConfig {
        subject_reg_exp: Some(config.subject_regexp.clone()),
        issuer_reg_exp: config.issuer_regexp.clone(),
        issuer: config.issuer.clone(),
        public_key_file: config.public_key_file.clone(),
        public_key_hash_algo: Some(config.public_key_hash.clone()),
        disabled: config.disabled,
    })?)
}

/// The configured verifier.
pub fn verifier(config: &Config) -> anyhow::Result<Verifier> {
    let config = &config.container_signature;
    Ok(Verifier::new(policy(config)?, root(config)?))
}

/// Refreshes the trusted root now and every day, for ever, where the policy needs one.
pub async fn keep_fresh(verifier: &Verifier) {
    let source = TufSource::public_good(None);
    loop {
        if matches!(verifier.policy(), Policy::Keyless { .. }) {
            verifier.refresh(&source).await;
        }
        tokio::time::sleep(REFRESH).await;
    }
}

/// Prints the checks of every signature of an image until one satisfies the policy.
pub async fn image(config: &Config, text: &str) -> anyhow::Result<()> {
    let upstream = super::serve::upstream(config)?;
    let (repository, reference) = parse(text)?;
    let digest = match &reference {
        Reference::Digest(digest) => *digest,
        tag @ Reference::Tag(_) => upstream.manifest(repository, tag).await?.digest,
    };
    println!("{repository}@{digest}");
    let (findings, result) = verifier(config)?.explain_image(&upstream, repository, &digest).await;
    for finding in &findings {
        println!("{}", finding.place);
        match &finding.result {
            Ok(report) => print(&report.checks),
            Err(unread) => println!("  not read: {unread:?}"),
        }
    }
    let verdict = result?;
    println!("trusted: {}", serde_json::to_string(&verdict)?);
    Ok(())
}

/// Prints the checks of a bundle over a file.
pub fn bundle(config: &Config, bundle: &Path, file: &Path) -> anyhow::Result<()> {
    let config = &config.container_signature;
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
    let (bundle, file) = (read(bundle)?, read(file)?);
    let report: Report = explain_bundle(&bundle, Artifact::Bytes(&file), &policy(config)?, &root(config)?);
    print(&report.checks);
    let verdict = report.into_result()?;
    println!("trusted: {}", serde_json::to_string(&verdict)?);
    Ok(())
}

fn print(checks: &[Check]) {
    for check in checks {
        println!("  {check}");
    }
}

/// `[registry/]repository:tag` or `…@sha256:…`; a registry in front is that of the configuration and left out.
fn parse(text: &str) -> anyhow::Result<(&str, Reference)> {
    let (name, reference) = match text.split_once('@') {
        Some((name, digest)) => (name, Reference::Digest(digest.parse::<Digest>()?)),
        None => {
            let (name, tag) =
                text.rsplit_once(':').context("a tag or digest is missing, as in siderolabs/imager:v1.13.2")?;
            (name, Reference::Tag(tag.to_owned()))
        }
    };
    let name = match name.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => rest,
        _ => name,
    };
    Ok((name, reference))
}
