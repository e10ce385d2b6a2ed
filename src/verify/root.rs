//! The Sigstore trusted root: which certificate authorities, logs and timestamp authorities are believed.
//!
//! Specification: sigstore/protobuf-specs, `sigstore_trustroot.proto`, in its JSON form. The copy in use at first is the
//! one embedded in the Sigstore project's crate; it can be replaced by a file, or refreshed over TUF.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sigstore_trust_root::{SigstoreInstance, TufBootstrap, TufConfig, reqwest};

use super::error::VerifyError;
use crate::types::Digest;

/// A trusted root larger than this is refused, in bytes. The public-good one has 7 KiB.
const MAX_ROOT: u64 = 4 << 20;

/// The identity of the public-good root, embedded or refreshed.
const PUBLIC_GOOD: &str = "sigstore public good";

/// A trusted root, parsed, checked and ready to verify with.
pub struct TrustedRoot {
    verifier: sigstore_verify::Verifier,
    authorities: Vec<Vec<u8>>,
    identity: String,
}

impl TrustedRoot {
    /// The public-good root as embedded in the Sigstore crate of this build.
    ///
    /// # Errors
    /// [`VerifyError::Root`] when that copy is broken.
    pub fn embedded() -> Result<Self, VerifyError> {
        Self::parse("(embedded)", SigstoreInstance::PublicGood.embedded_trusted_root_json(), PUBLIC_GOOD.to_owned())
    }

    /// The root in a file (`containerSignature.trustedRoot`), at most 4 MiB of JSON.
    ///
    /// # Errors
    /// [`VerifyError::Root`] names the file and what is wrong with it.
    pub fn from_file(path: &Path) -> Result<Self, VerifyError> {
        let mut text = String::new();
        let file = File::open(path).map_err(|error| VerifyError::root(path, error))?;
        file.take(MAX_ROOT + 1).read_to_string(&mut text).map_err(|error| VerifyError::root(path, error))?;
        if text.len() as u64 > MAX_ROOT {
            return Err(VerifyError::root(path, format!("more than {MAX_ROOT} bytes")));
        }
        Self::parse(&path.display().to_string(), &text, Digest::of(text.as_bytes()).to_string())
    }

    /// A root from its JSON text, with the text's digest as its identity.
    ///
    /// # Errors
    /// [`VerifyError::Root`] when it is no trusted root, or holds keys or certificates that cannot be used.
    pub fn from_json(text: &str) -> Result<Self, VerifyError> {
        Self::parse("(given)", text, Digest::of(text.as_bytes()).to_string())
    }

    /// What tells this root from another in [`super::Policy::id`]: one name for the public-good root, embedded or
    /// refreshed; the digest of the text for any other.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Whether this is the public-good root, embedded or refreshed.
    pub(super) fn is_public_good(&self) -> bool {
        self.identity == PUBLIC_GOOD
    }

    fn parse(place: &str, text: &str, identity: String) -> Result<Self, VerifyError> {
        let root = sigstore_trust_root::TrustedRoot::from_json(text);
        Self::new(place, &root.map_err(|error| bad_root(place, &error))?, identity)
    }

    fn new(place: &str, root: &sigstore_trust_root::TrustedRoot, identity: String) -> Result<Self, VerifyError> {
        let verifier = sigstore_verify::Verifier::new(root).map_err(|error| bad_root(place, &error))?;
        let chains = root.certificate_authorities.iter().flat_map(|authority| &authority.cert_chain.certificates);
        let authorities = chains.map(|certificate| certificate.raw_bytes.as_bytes().to_vec()).collect();
        Ok(Self { verifier, authorities, identity })
    }

    pub(super) const fn verifier(&self) -> &sigstore_verify::Verifier {
        &self.verifier
    }

    /// Whether a certificate (DER) is one of the certificate authorities'.
    pub(super) fn is_authority(&self, certificate: &[u8]) -> bool {
        self.authorities.iter().any(|authority| authority == certificate)
    }
}

fn bad_root(place: &str, error: &dyn std::fmt::Display) -> VerifyError {
    VerifyError::Root { place: place.to_owned(), reason: error.to_string() }
}

/// Where the trusted root is refreshed from.
#[derive(Clone, Debug)]
pub struct TufSource {
    /// Address of the TUF repository.
    pub url: String,
    /// The TUF `root.json` that trust in it starts from.
    pub root: Vec<u8>,
    /// A folder for verified metadata, so that the repository cannot be rolled back between runs; `None` keeps nothing.
    pub cache: Option<PathBuf>,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long the whole refresh may take.
    pub timeout: Duration,
}

impl TufSource {
    /// The public-good instance, with metadata kept in `cache`; 5 s to connect, 30 s for everything.
    pub fn public_good(cache: Option<PathBuf>) -> Self {
        Self {
            url: SigstoreInstance::PublicGood.tuf_url().to_owned(),
            root: SigstoreInstance::PublicGood.tuf_root().to_vec(),
            cache,
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
        }
    }
}

/// Fetches the trusted root of the public-good instance (or of a mirror of it) over TUF, once and without retries.
/// Every signature, version and expiry is checked, from `source.root` on.
///
/// # Errors
/// [`VerifyError::Refresh`] when the repository is not reachable in time or not to be trusted; [`VerifyError::Root`] when
/// what it names is no usable root.
pub async fn refresh_trusted_root(source: &TufSource) -> Result<TrustedRoot, VerifyError> {
    let failed = |reason: String| VerifyError::Refresh { url: source.url.clone(), reason };
    let client = reqwest::Client::builder().connect_timeout(source.connect_timeout).timeout(source.timeout).build();
    let client = client.map_err(|error| failed(error.to_string()))?;
    let config = TufConfig::custom(&source.url, TufBootstrap::trusted(&source.root)).with_http_client(client);
    let config = match &source.cache {
        Some(folder) => config.with_cache_dir(folder.clone()),
        None => config.without_cache(),
    };
    let fetch = sigstore_trust_root::TrustedRoot::from_tuf(config);
    match tokio::time::timeout(source.timeout, fetch).await {
        Ok(Ok(root)) => TrustedRoot::new(&source.url, &root, PUBLIC_GOOD.to_owned()),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("not done within {} s", source.timeout.as_secs_f32()))),
    }
}
