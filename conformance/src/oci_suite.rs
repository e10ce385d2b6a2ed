//! The official conformance suite of the OCI distribution specification, run against a registry that only reads.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use reqwest::blocking::Client;

use crate::tools;

/// What the suite is told that the repository holds.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// Tags.
    pub tags: Vec<String>,
    /// Digests of manifests.
    pub manifests: Vec<String>,
    /// Digests of blobs.
    pub blobs: Vec<String>,
    /// Digests that have referrers.
    pub referrers: Vec<String>,
}

/// What the suite said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Tests that passed.
    pub passed: u32,
    /// Tests that failed or could not run.
    pub failed: u32,
    /// Tests switched off, as all that push or delete.
    pub disabled: u32,
    /// Tests that the suite skipped.
    pub skipped: u32,
    /// The failed tests' names.
    pub failures: Vec<String>,
    /// The whole report.
    pub report: String,
}

/// Runs the suite against `repository` at `address` (`host:port`, plain HTTP), with digest headers required.
pub fn run(address: &str, repository: &str, inputs: &Inputs) -> Result<Outcome> {
    let results = tempfile::tempdir()?;
    let mut command = Command::new(tools::OCI_CONFORMANCE.path()?);
    command.current_dir(results.path()).stdin(Stdio::null()).env("OCI_RESULTS_DIR", results.path());
    command.envs([
        ("OCI_REGISTRY", address),
        ("OCI_TLS", "disabled"),
        ("OCI_REPO1", repository),
        ("OCI_VERSION", "1.1"),
    ]);
    for off in ["PUSH", "BLOBS_DELETE", "MANIFESTS_DELETE", "TAGS_DELETE"] {
        command.env(format!("OCI_API_{off}"), "false");
    }
    // For manifests the suite of this version cannot require the header: it looks for it in an answer that it only
    // keeps when it pushed the manifest itself. `digest_headers` looks instead.
    command.env("OCI_API_BLOBS_DIGEST_HEADER", "true").env("OCI_API_MANIFESTS_DIGEST_HEADER", "false");
    command.env("OCI_RO_DATA_TAGS", inputs.tags.join(" ")).env("OCI_RO_DATA_MANIFESTS", inputs.manifests.join(" "));
    command.env("OCI_RO_DATA_BLOBS", inputs.blobs.join(" ")).env("OCI_RO_DATA_REFERRERS", inputs.referrers.join(" "));
    // The exit code says nothing: after the report this version stops on its own results file in read-only runs.
    let done = command.output().context("cannot start the OCI conformance suite")?;
    let outcome = Outcome::parse(&String::from_utf8_lossy(&done.stdout))
        .with_context(|| String::from_utf8_lossy(&done.stderr).into_owned())?;
    digest_headers(address, repository, inputs)?;
    Ok(outcome)
}

impl Outcome {
    fn parse(report: &str) -> Result<Self> {
        let count = |name: &str| -> Result<u32> {
            let line = report.lines().find(|line| line.trim_start().starts_with(&format!("{name}..")));
            let line = line.with_context(|| format!("the suite's report has no count of {name}:\n{report}"))?;
            Ok(line.rsplit(' ').next().unwrap_or_default().parse()?)
        };
        let failures = report
            .lines()
            .take_while(|line| !line.starts_with("Configuration:"))
            .filter_map(|line| line.trim().strip_suffix(": FAIL").or_else(|| line.trim().strip_suffix(": Error")))
            .map(str::to_owned)
            .collect();
        let outcome = Self {
            passed: count("Pass")?,
            failed: count("FAIL")? + count("Error")?,
            disabled: count("Disabled")?,
            skipped: count("Skip")?,
            failures,
            report: report.to_owned(),
        };
        let total = count("Total")?;
        let sum = outcome.passed + outcome.failed + outcome.disabled + outcome.skipped;
        ensure!(sum == total, "the suite counts {total} tests, its parts make {sum}:\n{report}");
        Ok(outcome)
    }
}

/// Checks that GET and HEAD of each manifest, by digest and by tag, carry the digest of what is sent.
fn digest_headers(address: &str, repository: &str, inputs: &Inputs) -> Result<()> {
    let client = Client::new();
    for reference in inputs.tags.iter().chain(&inputs.manifests) {
        let url = format!("http://{address}/v2/{repository}/manifests/{reference}");
        let accept = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json";
        let got = client.get(&url).header("Accept", accept).send()?.error_for_status()?;
        let header = got.headers().get("Docker-Content-Digest").cloned();
        let digest = format!("sha256:{}", crate::cache::sha256(&got.bytes()?));
        let head = client.head(&url).header("Accept", accept).send()?.error_for_status()?;
        for found in [header.as_ref(), head.headers().get("Docker-Content-Digest")] {
            let found = found.and_then(|value| value.to_str().ok());
            if found != Some(digest.as_str()) {
                bail!("{url}: Docker-Content-Digest is {found:?}, the manifest's digest is {digest}");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "Test results\nOCI Conformance Test: FAIL\n  OCI Conformance Test/ping: Pass\n  \
        OCI Conformance Test/referrers: FAIL\n     - unexpected status\nConfiguration:\n  x: FAIL\n\
        OCI Conformance Result: FAIL\n  Disabled......:   3\n  Skip..........:   0\n  Pass..........:   1\n  \
        FAIL..........:   2\n  Error.........:   0\n  Total.........:   6\n";

    #[test]
    fn reads_the_report() {
        let outcome = Outcome::parse(REPORT).unwrap();
        assert_eq!((outcome.passed, outcome.failed, outcome.disabled, outcome.skipped), (1, 2, 3, 0));
        assert_eq!(outcome.failures, ["OCI Conformance Test", "OCI Conformance Test/referrers"]);
        assert!(Outcome::parse(&REPORT.replace("Total.........:   6", "Total.........:   7")).is_err());
        assert!(Outcome::parse("").is_err());
    }
}
