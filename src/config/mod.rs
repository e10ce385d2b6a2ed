//! Configuration: defaults, files, dotenv files and the environment become one struct a subsystem.
//!
//! The keys keep the names of the reference implementation, so that a deployment's configuration carries over.

mod keys;
mod values;

use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use crate::types::TalosVersion;

pub use values::{Setting, Source, Values};

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file could not be read or understood.
    #[error("configuration file {path}: {reason}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A key that nothing knows.
    #[error("{origin}: unknown key {key}{nearest}")]
    Unknown {
        /// The key or variable.
        key: String,
        /// Where it stands.
        origin: String,
        /// A hint at a known key, or empty.
        nearest: String,
    },
    /// A value that cannot be used.
    #[error("{key} = {text:?} ({origin}): {reason}")]
    Value {
        /// The key.
        key: String,
        /// Its value.
        text: String,
        /// Where it stands.
        origin: String,
        /// What is wrong.
        reason: String,
    },
}

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The server and its addresses.
    pub http: HttpConfig,
    /// Which versions are offered, and how much is done at once.
    pub build: BuildConfig,
    /// Whom source images must be signed by.
    pub container_signature: ContainerSignatureConfig,
    /// The upstream registry.
    pub artifacts: ArtifactsConfig,
    /// The blob store.
    pub store: StoreConfig,
    /// Where metrics are served; `None` for nowhere.
    pub metrics_addr: Option<SocketAddr>,
    /// PEM file of the key that signs what is made; `None`: made at first start and kept in the store.
    pub signing_key_path: Option<PathBuf>,
    /// Schematics kept in memory.
    pub schematic_capacity: usize,
}

/// The server and its addresses.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Certificate chain and key as PEM files: TLS when set.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The address by which clients reach us, ending in a slash; part of what is made (signatures, the schematic extension).
    pub external_url: url::Url,
    /// The address by which iPXE reaches us, ending in a slash; may be plain http where the other is not.
    pub external_pxe_url: url::Url,
    /// CORS origins.
    pub allowed_origins: Vec<String>,
    /// Connections at one time; further ones wait to be accepted.
    pub max_connections: usize,
    /// Bytes of a request's head.
    pub max_header_size: usize,
    /// How long a client may take to send a request's head, and how long it may keep an HTTP/1.1 connection without one.
    pub header_read_timeout: Duration,
    /// How long a connection may be silent in the middle of a request or over HTTP/2.
    pub idle_timeout: Duration,
    /// How long a client may take no bytes of an answer before its connection is closed.
    pub write_timeout: Duration,
    /// How long requests under way may go on after SIGTERM.
    pub drain_timeout: Duration,
}

/// Which versions are offered, and how much is done at once.
#[derive(Clone, Debug)]
pub struct BuildConfig {
    /// Older versions are not offered.
    pub min_talos_version: TalosVersion,
    /// Versions that are listed only as broken.
    pub broken_talos_versions: Vec<TalosVersion>,
    /// Hashing and preparing jobs at one time.
    pub max_concurrency: usize,
}

/// Whom source images must be signed by; plain texts, read by the room that verifies.
#[derive(Clone, Debug)]
pub struct ContainerSignatureConfig {
    /// Regular expression for the certificate's identity.
    pub subject_regexp: String,
    /// Regular expression for the certificate's issuer.
    pub issuer_regexp: Option<String>,
    /// Exact issuer.
    pub issuer: Option<String>,
    /// PEM file of a public key to verify with instead.
    pub public_key_file: Option<PathBuf>,
    /// `sha256`, `sha384` or `sha512`: the hash that signatures by the public key are over.
    pub public_key_hash: String,
    /// No verification at all.
    pub disabled: bool,
    /// JSON file of a Sigstore trusted root to use instead of the embedded one.
    pub trusted_root: Option<PathBuf>,
}

/// The upstream registry.
#[derive(Clone, Debug)]
pub struct ArtifactsConfig {
    /// Host (and port), or `oci:<folder>`.
    pub registry: String,
    /// Prefix of every repository path.
    pub namespace: String,
    /// Plain http.
    pub insecure: bool,
    /// Repository paths of the images of a release.
    pub components: Components,
    /// How often the list of versions is read again.
    pub recheck_interval: Duration,
    /// Downloads at one time.
    pub max_parallel_downloads: usize,
}

/// Repository paths of the images of a release.
#[derive(Clone, Debug)]
pub struct Components {
    /// Base of the generated installer since 1.10.
    pub installer_base: String,
    /// The installer, base of the generated one before 1.10.
    pub installer: String,
    /// Boot assets.
    pub imager: String,
    /// Catalog of extensions.
    pub extensions: String,
    /// Catalog of overlays.
    pub overlays: String,
    /// The client for all systems.
    pub talosctl: String,
}

/// The blob store.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The data folder.
    pub path: PathBuf,
    /// Bound on what can be fetched or prepared again, in bytes.
    pub max_size: Option<u64>,
}

impl Config {
    /// Reads the structs out of checked values.
    ///
    /// # Errors
    /// [`ConfigError::Value`] naming the key.
    pub fn from_values(values: &Values) -> Result<Self, ConfigError> {
        Ok(Self {
            http: http(values)?,
            build: build(values)?,
            container_signature: ContainerSignatureConfig {
                subject_regexp: values.text("containerSignature.subjectRegExp").to_owned(),
                issuer_regexp: values.optional("containerSignature.issuerRegExp"),
                issuer: issuer(values),
                public_key_file: values.optional("containerSignature.publicKeyFile").map(PathBuf::from),
                public_key_hash: values.text("containerSignature.publicKeyHashAlgo").to_owned(),
                disabled: values.flag("containerSignature.disabled"),
                trusted_root: values.optional("containerSignature.trustedRoot").map(PathBuf::from),
            },
            artifacts: ArtifactsConfig {
                registry: values.text("artifacts.core.registry").to_owned(),
                namespace: values.text("artifacts.core.namespace").to_owned(),
                insecure: values.flag("artifacts.core.insecure"),
                components: Components {
                    installer_base: values.text("artifacts.core.components.installerBase").to_owned(),
                    installer: values.text("artifacts.core.components.installer").to_owned(),
                    imager: values.text("artifacts.core.components.imager").to_owned(),
                    extensions: values.text("artifacts.core.components.extensionManifest").to_owned(),
                    overlays: values.text("artifacts.core.components.overlayManifest").to_owned(),
                    talosctl: values.text("artifacts.core.components.talosctl").to_owned(),
                },
                recheck_interval: values.duration("artifacts.talosVersionRecheckInterval"),
                max_parallel_downloads: at_least_one(values, "artifacts.maxParallelDownloads")?,
            },
            store: StoreConfig {
                path: values.optional("store.path").map_or_else(default_store_path, PathBuf::from),
                max_size: values.size("store.maxSize"),
            },
            metrics_addr: values.optional("metrics.addr").map(|_| address(values, "metrics.addr")).transpose()?,
            signing_key_path: values.optional("cache.signingKeyPath").map(PathBuf::from),
            schematic_capacity: values.integer("cache.schematic.capacity"),
        })
    }
}

/// The exact issuer; its default does not count where an expression was set instead.
fn issuer(values: &Values) -> Option<String> {
    let by_default = values.is_default("containerSignature.issuer");
    let replaced = by_default && values.optional("containerSignature.issuerRegExp").is_some();
    values.optional("containerSignature.issuer").filter(|_| !replaced)
}

fn http(values: &Values) -> Result<HttpConfig, ConfigError> {
    let tls = match (values.optional("http.certFile"), values.optional("http.keyFile")) {
        (Some(cert), Some(key)) => Some((cert.into(), key.into())),
        (None, None) => None,
        (Some(_), None) => return Err(values.refuse("http.keyFile", "http.certFile is set, so this must be, too")),
        (None, Some(_)) => return Err(values.refuse("http.certFile", "http.keyFile is set, so this must be, too")),
    };
    let external_url = base_url(values, "http.externalURL")?;
    let external_pxe_url = match values.optional("http.externalPXEURL") {
        Some(_) => base_url(values, "http.externalPXEURL")?,
        None => external_url.clone(),
    };
    Ok(HttpConfig {
        listen: address(values, "http.httpListenAddr")?,
        tls,
        external_url,
        external_pxe_url,
        allowed_origins: values.list("http.allowedOrigins"),
        max_connections: at_least_one(values, "http.maxConnections")?,
        max_header_size: values.size("http.maxHeaderSize").unwrap_or(65536).clamp(8192, 1 << 20) as usize,
        header_read_timeout: values.duration("http.headerReadTimeout"),
        idle_timeout: values.duration("http.idleTimeout"),
        write_timeout: values.duration("http.writeTimeout"),
        drain_timeout: values.duration("http.drainTimeout"),
    })
}

/// A URL that paths are appended to: it ends in a slash.
fn base_url(values: &Values, key: &str) -> Result<url::Url, ConfigError> {
    let mut base = url::Url::parse(values.text(key)).map_err(|e| values.refuse(key, format!("not a URL: {e}")))?;
    if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
        return Err(values.refuse(key, "a URL that starts with http:// or https:// is expected"));
    }
    if !base.path().ends_with('/') {
        base.set_path(&format!("{}/", base.path()));
    }
    Ok(base)
}

fn build(values: &Values) -> Result<BuildConfig, ConfigError> {
    let version = |path: &str, text: &str| TalosVersion::parse(text).map_err(|e| values.refuse(path, e.to_string()));
    Ok(BuildConfig {
        min_talos_version: version("build.minTalosVersion", values.text("build.minTalosVersion"))?,
        broken_talos_versions: values
            .list("build.brokenTalosVersions")
            .iter()
            .map(|text| version("build.brokenTalosVersions", text))
            .collect::<Result<_, _>>()?,
        max_concurrency: at_least_one(values, "build.maxConcurrency")?,
    })
}

fn at_least_one(values: &Values, path: &str) -> Result<usize, ConfigError> {
    match values.integer(path) {
        0 => Err(values.refuse(path, "at least 1 is expected")),
        n => Ok(n),
    }
}

/// `host:port`, or `:port` for every address of the machine.
fn address(values: &Values, path: &str) -> Result<SocketAddr, ConfigError> {
    let text = values.text(path);
    if let Some(port) = text.strip_prefix(':') {
        let port = port.parse().map_err(|_| values.refuse(path, "a port number is expected behind the colon"))?;
        return Ok(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    }
    text.to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(|| values.refuse(path, "an address such as :8080 or 127.0.0.1:8080 is expected"))
}

/// `image-factory` in the user's data folder, as the XDG base directory specification names it.
fn default_store_path() -> PathBuf {
    let under_home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(under_home)
        .unwrap_or_else(|| PathBuf::from("/var/lib"))
        .join("image-factory")
}

#[cfg(test)]
mod tests;
