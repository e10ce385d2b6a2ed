//! The list of named checks that a signature went through, and what came of each.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::VerifyError;
use crate::types::Digest;

/// The names of all checks.
pub mod names {
    /// The bundle, or the older form's annotations, can be read and have what their version demands.
    pub const FORM: &str = "form";
    /// RFC 3161 timestamps and signed log promises prove when the signature existed.
    pub const TIME: &str = "signing time";
    /// The certificate was issued by a trusted authority for signing code, and was valid at every proven time.
    pub const CHAIN: &str = "certificate chain";
    /// A trusted certificate transparency log promised to show the certificate (RFC 6962).
    pub const TRANSPARENCY: &str = "certificate transparency";
    /// A trusted Rekor log includes the entry: inclusion proof and checkpoint, or promise.
    pub const LOG: &str = "transparency log";
    /// The signature is by the certificate's key, or by the policy's.
    pub const SIGNATURE: &str = "signature";
    /// What was signed is about this image or file.
    pub const SUBJECT: &str = "subject";
    /// The log entry is about this signature, key and content.
    pub const ENTRY: &str = "log entry";
    /// What was signed is a statement that means "this image is signed".
    pub const STATEMENT: &str = "statement";
    /// The policy allows the OIDC issuer.
    pub const ISSUER: &str = "issuer";
    /// The policy allows the identity.
    pub const IDENTITY: &str = "identity";
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Passed,
    /// It does not hold, and why.
    Failed(String),
    /// There is nothing to check: the form or the policy does not have it.
    NotApplicable,
    /// An earlier check failed, so that nothing is known about this one.
    NotReached,
}

/// One check and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// One of [`names`].
    pub name: &'static str,
    /// What came of it.
    pub outcome: Outcome,
    /// What was seen; may be empty.
    pub detail: String,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, reason) = match &self.outcome {
            Outcome::Passed => ("passed", ""),
            Outcome::Failed(reason) => ("FAILED", reason.as_str()),
            Outcome::NotApplicable => ("not applicable", ""),
            Outcome::NotReached => ("not reached", ""),
        };
        write!(f, "{}: {word}", self.name)?;
        for text in [reason, &self.detail].into_iter().filter(|text| !text.is_empty()) {
            write!(f, ": {text}")?;
        }
        Ok(())
    }
}

/// How a signature was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Form {
    /// A Sigstore bundle, for images as a referrer.
    Bundle,
    /// A simple signing payload at the `.sig` tag.
    SimpleSigning,
    /// None was asked for: the policy is disabled.
    Unchecked,
}

/// A signature that holds under the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// How the signature was stored.
    pub form: Form,
    /// SHA-256 of the image's manifest or of the file.
    pub digest: Digest,
    /// The certificate's identity, when keyless.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The OIDC issuer that vouched for the identity, when keyless.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Fingerprint of the public key, when by key: SHA-256 of its SubjectPublicKeyInfo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Digest>,
    /// The earliest proven time of the signature, in seconds since 1970; `None` when nothing proves one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<i64>,
}

impl Verdict {
    /// The verdict of a policy that checks nothing.
    pub const fn unchecked(digest: Digest) -> Self {
        Self { form: Form::Unchecked, digest, identity: None, issuer: None, key: None, time: None }
    }
}

/// Everything that was checked about one signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Every check, in the order in which a reader wants them.
    pub checks: Vec<Check>,
    /// The verdict, when every check passed or did not apply.
    pub verdict: Option<Verdict>,
}

impl Report {
    /// The verdict alone.
    ///
    /// # Errors
    /// [`VerifyError::Refused`] with the check that failed.
    pub fn into_result(self) -> Result<Verdict, VerifyError> {
        self.verdict.ok_or_else(|| {
            let failed = self.checks.into_iter().find_map(|check| match check.outcome {
                Outcome::Failed(reason) => Some((check.name, reason)),
                _ => None,
            });
            let (check, reason) = failed.unwrap_or((names::FORM, "not checked".to_owned()));
            VerifyError::Refused { check, reason }
        })
    }
}

/// A check failed; the list knows which.
#[derive(Debug)]
pub(super) struct Stop;

/// A list in the making: the names that belong to it, and what is known so far.
pub(super) struct Checks {
    plan: Vec<&'static str>,
    done: Vec<Check>,
}

impl Checks {
    pub fn new(plan: &[&'static str]) -> Self {
        Self { plan: plan.to_vec(), done: Vec::new() }
    }

    pub fn pass(&mut self, name: &'static str, detail: impl Into<String>) {
        self.done.push(Check { name, outcome: Outcome::Passed, detail: detail.into() });
    }

    pub fn skip(&mut self, name: &'static str, detail: impl Into<String>) {
        self.done.push(Check { name, outcome: Outcome::NotApplicable, detail: detail.into() });
    }

    pub fn fail(&mut self, name: &'static str, reason: impl Into<String>) -> Stop {
        self.done.push(Check { name, outcome: Outcome::Failed(reason.into()), detail: String::new() });
        Stop
    }

    /// The report, in the order of the plan; a verdict counts only when every planned check was made and none failed.
    pub fn finish(self, verdict: Result<Verdict, Stop>) -> Report {
        let Self { plan, mut done } = self;
        let mut checks = Vec::with_capacity(plan.len());
        for name in plan {
            let made = done.iter().position(|check| check.name == name).map(|at| done.swap_remove(at));
            let missing = || Check { name, outcome: Outcome::NotReached, detail: String::new() };
            checks.push(made.unwrap_or_else(missing));
        }
        let good = checks.iter().all(|check| matches!(check.outcome, Outcome::Passed | Outcome::NotApplicable));
        Report { checks, verdict: verdict.ok().filter(|_| good) }
    }
}
