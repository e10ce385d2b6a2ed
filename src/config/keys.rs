//! Every key that the configuration knows, in one table.

/// How the text of a value is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number, 0 or more.
    Integer,
    /// A duration in Go's notation: `300ms`, `15m`, `1h30m`.
    Duration,
    /// A number of bytes with an optional `K`, `M`, `G`, `T` and `i`, `B`: `64KiB`, `20GB`; empty for no bound.
    Size,
    /// A list of texts; in environment variables separated by commas.
    List,
}

/// A key of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Dotted path, as in a YAML file.
    pub path: &'static str,
    /// How its value is read.
    pub kind: Kind,
    /// The value where no source gives one.
    pub default: &'static str,
    /// Whether anything but the default is accepted; `false` for switches of what this version does not do.
    pub available: bool,
}

const fn key(path: &'static str, kind: Kind, default: &'static str) -> Key {
    Key { path, kind, default, available: true }
}

const fn off(path: &'static str) -> Key {
    Key { path, kind: Kind::Bool, default: "false", available: false }
}

use Kind::{Bool, Duration, Integer, List, Size, Text};

/// The table, sorted by path within each subsystem.
pub const KEYS: &[Key] = &[
    key("http.httpListenAddr", Text, ":8080"),
    key("http.certFile", Text, ""),
    key("http.keyFile", Text, ""),
    key("http.externalURL", Text, "http://localhost:8080/"),
    key("http.externalPXEURL", Text, ""),
    key("http.allowedOrigins", List, "*"),
    key("http.maxConnections", Integer, "4096"),
    key("http.maxHeaderSize", Size, "64KiB"),
    key("http.headerReadTimeout", Duration, "30s"),
    key("http.idleTimeout", Duration, "1m"),
    key("http.writeTimeout", Duration, "1m"),
    key("http.drainTimeout", Duration, "30s"),
    key("build.minTalosVersion", Text, "1.2.0"),
    key("build.brokenTalosVersions", List, ""),
    key("build.maxConcurrency", Integer, "6"),
    key(
        "containerSignature.subjectRegExp",
        Text,
        r"(@siderolabs\.com$|^releasemgr-svc@talos-production\.iam\.gserviceaccount\.com$)",
    ),
    key("containerSignature.issuerRegExp", Text, ""),
    key("containerSignature.issuer", Text, "https://accounts.google.com"),
    key("containerSignature.publicKeyFile", Text, ""),
    key("containerSignature.publicKeyHashAlgo", Text, "sha256"),
    key("containerSignature.disabled", Bool, "false"),
    key("containerSignature.trustedRoot", Text, ""),
    key("cache.signingKeyPath", Text, ""),
    key("cache.schematic.capacity", Integer, "1000"),
    key("metrics.addr", Text, ":2122"),
    key("artifacts.core.registry", Text, "ghcr.io"),
    key("artifacts.core.namespace", Text, ""),
    key("artifacts.core.insecure", Bool, "false"),
    key("artifacts.core.components.installerBase", Text, "siderolabs/installer-base"),
    key("artifacts.core.components.installer", Text, "siderolabs/installer"),
    key("artifacts.core.components.imager", Text, "siderolabs/imager"),
    key("artifacts.core.components.extensionManifest", Text, "siderolabs/extensions"),
    key("artifacts.core.components.overlayManifest", Text, "siderolabs/overlays"),
    key("artifacts.core.components.talosctl", Text, "siderolabs/talosctl-all"),
    key("artifacts.talosVersionRecheckInterval", Duration, "15m"),
    key("artifacts.maxParallelDownloads", Integer, "8"),
    key("store.path", Text, ""),
    key("store.maxSize", Size, ""),
    off("secureBoot.enabled"),
    off("authentication.enabled"),
    off("cache.s3.enabled"),
    off("cache.cdn.enabled"),
    off("audit.enabled"),
];

/// Names of keys below which everything is accepted and does nothing, with the reason.
pub const IGNORED: &[(&str, &str)] = &[
    ("cache.oci.", "what was made is kept in the store"),
    ("cache.s3.", "object storage is off"),
    ("cache.cdn.", "redirects to a CDN are off"),
    ("artifacts.schematic.", "schematics are kept in the store"),
    ("cache.schematic.negativeTTL", "unknown schematics are looked up each time"),
    ("artifacts.installer.", "installers are served from the store"),
    ("artifacts.refreshInterval", "credentials are read when they are needed"),
    ("secureBoot.", "secure boot is off"),
    ("authentication.", "authentication is off"),
    ("audit.", "auditing is off"),
    ("registry.", "the registry is always on"),
];

/// The effect of a path that is not in [`KEYS`], if it is known at all.
pub fn ignored(path: &str) -> Option<&'static str> {
    IGNORED
        .iter()
        .find(|(prefix, _)| path == *prefix || (prefix.ends_with('.') && path.starts_with(prefix)))
        .map(|(_, why)| *why)
}
