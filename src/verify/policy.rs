//! Whose signatures count.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::json;

use super::error::VerifyError;
use super::key::{HashAlgorithm, PublicKey};
use super::root::TrustedRoot;
use crate::types::Digest;

/// The OIDC issuer of those who sign Talos releases.
pub const DEFAULT_ISSUER: &str = "https://accounts.google.com";

/// The certificate identities that sign Talos releases: Sidero Labs' people and its release account.
pub const DEFAULT_SUBJECT: &str = r"(@siderolabs\.com$|^releasemgr-svc@talos-production\.iam\.gserviceaccount\.com$)";

/// A public key file larger than this is none, in bytes.
const MAX_KEY_FILE: u64 = 64 << 10;

/// Changes when the same policy comes to accept or refuse something else, so that remembered verdicts are made anew.
const REVISION: &str = "1";

/// The configuration section `containerSignature`; an empty or absent text means "not set".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyConfig {
    /// `subjectRegExp`: what the certificate's identity must match somewhere. Default [`DEFAULT_SUBJECT`].
    pub subject_reg_exp: Option<String>,
    /// `issuerRegExp`: what the certificate's OIDC issuer must match somewhere.
    pub issuer_reg_exp: Option<String>,
    /// `issuer`: what the OIDC issuer must be. Default [`DEFAULT_ISSUER`] when `issuer_reg_exp` is not set either; when
    /// both are set, both must hold.
    pub issuer: Option<String>,
    /// `publicKeyFile`: a PEM file; then only signatures by this key count, and no certificate does.
    pub public_key_file: Option<PathBuf>,
    /// `publicKeyHashAlgo`: `sha256` (default), `sha384` or `sha512`; the key's customary hash is accepted beside it.
    pub public_key_hash_algo: Option<String>,
    /// `disabled`: nothing is checked.
    pub disabled: bool,
}

/// What the OIDC issuer of a certificate must be; every part that is set must hold.
#[derive(Clone, Debug)]
pub struct IssuerRule {
    /// Equal to this.
    pub exact: Option<String>,
    /// Matched somewhere by this.
    pub pattern: Option<Regex>,
}

impl IssuerRule {
    /// Whether `issuer` is allowed.
    pub fn allows(&self, issuer: &str) -> bool {
        self.exact.as_ref().is_none_or(|exact| exact == issuer)
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(issuer))
    }
}

impl fmt::Display for IssuerRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.exact, &self.pattern) {
            (Some(exact), Some(pattern)) => write!(f, "{exact:?} matching /{pattern}/"),
            (Some(exact), None) => write!(f, "{exact:?}"),
            (None, Some(pattern)) => write!(f, "/{pattern}/"),
            (None, None) => f.write_str("any issuer"),
        }
    }
}

/// Whose signatures count.
#[derive(Clone, Debug)]
pub enum Policy {
    /// Fulcio certificates of these identities.
    Keyless {
        /// The OIDC issuer that vouched for the identity.
        issuer: IssuerRule,
        /// What the identity (the certificate's subject alternative name) must match somewhere.
        subject: Regex,
    },
    /// Signatures by one key.
    PublicKey(Box<PublicKey>),
    /// Nothing is checked; every image is taken as it is.
    Disabled,
}

impl Policy {
    /// The policy that the configuration asks for. Reads the key file.
    ///
    /// # Errors
    /// [`VerifyError::Policy`] names the key whose value cannot work.
    pub fn from_config(config: &PolicyConfig) -> Result<Self, VerifyError> {
        if config.disabled {
            return Ok(Self::Disabled);
        }
        if let Some(path) = config.public_key_file.as_ref().filter(|path| !path.as_os_str().is_empty()) {
            let hash = set(&config.public_key_hash_algo).map_or(Ok(HashAlgorithm::default()), HashAlgorithm::parse)?;
            return Ok(Self::PublicKey(Box::new(PublicKey::from_pem(&read_key_file(path)?, hash)?)));
        }
        let pattern = set(&config.issuer_reg_exp).map(|text| expression("issuerRegExp", text)).transpose()?;
        let exact = match set(&config.issuer) {
            None if pattern.is_none() => Some(DEFAULT_ISSUER.to_owned()),
            issuer => issuer.map(str::to_owned),
        };
        let subject = expression("subjectRegExp", set(&config.subject_reg_exp).unwrap_or(DEFAULT_SUBJECT))?;
        Ok(Self::Keyless { issuer: IssuerRule { exact, pattern }, subject })
    }

    /// One certificate identity and one OIDC issuer, both exactly.
    ///
    /// # Errors
    /// [`VerifyError::Policy`] when the identity is too long to be matched.
    pub fn keyless(identity: &str, issuer: &str) -> Result<Self, VerifyError> {
        let subject = expression("subjectRegExp", &format!(r"\A{}\z", regex::escape(identity)))?;
        Ok(Self::Keyless { issuer: IssuerRule { exact: Some(issuer.to_owned()), pattern: None }, subject })
    }

    /// A stable name of the policy, 64 hex digits, under which verdicts can be remembered beside the image's digest.
    ///
    /// The trusted root counts by [`TrustedRoot::identity`]: a file that the operator names counts by its content, so
    /// that replacing it makes every image be verified again. The embedded root and its refreshed successors count as
    /// one: a refresh adds and retires keys of the same instance, and an image that was fetched and found good while the
    /// upstream was up must still be served when both are down.
    pub fn id(&self, root: &TrustedRoot) -> String {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let parts = match self {
            Self::Keyless { issuer, subject } => vec![
                "keyless".to_owned(),
                text(&issuer.exact),
                text(&issuer.pattern.as_ref().map(Regex::to_string)),
                subject.to_string(),
                root.identity().to_owned(),
            ],
            Self::PublicKey(key) => vec![
                "public key".to_owned(),
                key.fingerprint().to_string(),
                key.hash().as_str().to_owned(),
                root.identity().to_owned(),
            ],
            Self::Disabled => vec!["disabled".to_owned()],
        };
        Digest::of(json!([REVISION, parts]).to_string().as_bytes()).hex()
    }
}

fn set(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

fn expression(key: &'static str, text: &str) -> Result<Regex, VerifyError> {
    Regex::new(text).map_err(|error| VerifyError::policy(key, format!("{text:?} is no regular expression: {error}")))
}

fn read_key_file(path: &Path) -> Result<String, VerifyError> {
    let bad = |reason: String| VerifyError::policy("publicKeyFile", format!("{}: {reason}", path.display()));
    let mut pem = String::new();
    let file = File::open(path).map_err(|error| bad(error.to_string()))?;
    file.take(MAX_KEY_FILE + 1).read_to_string(&mut pem).map_err(|error| bad(error.to_string()))?;
    if pem.len() as u64 > MAX_KEY_FILE {
        return Err(bad(format!("more than {MAX_KEY_FILE} bytes are no public key")));
    }
    Ok(pem)
}

#[cfg(test)]
mod tests;
