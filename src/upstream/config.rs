//! What the upstream client needs to know.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::error::UpstreamError;
use super::name;

/// Configuration of the upstream client.
#[derive(Clone, PartialEq, Eq)]
pub struct UpstreamConfig {
    /// `ghcr.io`, `127.0.0.1:5000`, or `oci:<folder>` for an image layout.
    pub registry: String,
    /// Path that goes before every repository; empty for none.
    pub namespace: String,
    /// Accept any certificate, and plain HTTP where TLS is not spoken. Loopback registries are taken so in any case.
    pub insecure: bool,
    /// Docker's config file with credentials (`config.json`, `auth.json`); it need not exist.
    pub docker_config: Option<PathBuf>,
    /// Shown to `ghcr.io` only, when the Docker config holds nothing for it.
    pub github_token: Option<String>,
    /// Blobs downloaded at a time.
    pub max_parallel: usize,
    /// The largest manifest, index or page of a list, in bytes.
    pub max_manifest: u64,
    /// The largest blob, in bytes.
    pub max_blob: u64,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long the upstream may be silent within an answer.
    pub idle_timeout: Duration,
    /// How long a small answer may take as a whole.
    pub request_timeout: Duration,
    /// How long a blob may take as a whole, with all resumptions.
    pub blob_timeout: Duration,
    /// How often one thing is asked for at most.
    pub attempts: u32,
    /// The longest wait before the second attempt; it doubles with each.
    pub backoff: Duration,
    /// The longest wait before any attempt; an upstream that asks for more is given up at once.
    pub max_backoff: Duration,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            registry: "ghcr.io".to_owned(),
            namespace: String::new(),
            insecure: false,
            docker_config: None,
            github_token: None,
            max_parallel: 8,
            max_manifest: 4 << 20,
            max_blob: 4 << 30,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(60),
            blob_timeout: Duration::from_secs(3600),
            attempts: 5,
            backoff: Duration::from_millis(250),
            max_backoff: Duration::from_secs(10),
        }
    }
}

impl fmt::Debug for UpstreamConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamConfig")
            .field("registry", &self.registry)
            .field("namespace", &self.namespace)
            .field("insecure", &self.insecure)
            .field("docker_config", &self.docker_config)
            .field("github_token", &self.github_token.as_ref().map(|_| "(hidden)"))
            .field("max_parallel", &self.max_parallel)
            .finish_non_exhaustive()
    }
}

impl UpstreamConfig {
    /// Refuses what cannot work whatever the upstream does.
    pub(super) fn check(&self) -> Result<(), UpstreamError> {
        let wrong = |reason: String| Err(UpstreamError::Config(reason));
        if !self.namespace.is_empty()
            && let Err(error) = name::check_repository(&self.namespace)
        {
            return wrong(format!("namespace: {error}"));
        }
        if self.max_parallel == 0 || self.max_parallel > 1024 {
            return wrong(format!("{} parallel downloads; 1 to 1024 are possible", self.max_parallel));
        }
        let zero = [self.connect_timeout, self.idle_timeout, self.request_timeout, self.blob_timeout];
        if self.max_manifest == 0 || self.max_blob == 0 || zero.iter().any(Duration::is_zero) {
            return wrong("a size limit or time-out is zero".to_owned());
        }
        Ok(())
    }
}
