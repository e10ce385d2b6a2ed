//! Trust policy for source images: whose signatures count, and whether an image or a file has one.
//!
//! Signatures are found beside an image by a [`Verifier`], in both forms that cosign stores ([`Form`]), and held against a
//! [`Policy`]. The cryptography of keyless signatures is the Sigstore project's own (`sigstore-verify`); it works
//! offline, from the evidence in the signature and a [`TrustedRoot`]. Each verification is a list of named checks
//! ([`Report`]): the `explain_…` functions give it whole, the `verify_…` functions the verdict or the check that failed.

mod annotations;
mod bundle;
mod checks;
mod error;
mod evidence;
mod find;
mod key;
mod policy;
mod root;
mod search;
mod simple_signing;
mod source;
mod statement;
mod strict;
mod timestamp;
mod upstream;

pub use annotations::{Annotations, MAX_PAYLOAD};
pub use bundle::{
    Artifact, MAX_BUNDLE, explain_bundle, explain_bundle_for_image, verify_bundle, verify_bundle_for_image,
};
pub use checks::{Check, Form, Outcome, Report, Verdict, names};
pub use error::{Candidate, SourceError, VerifyError};
pub use find::Verifier;
pub use key::{HashAlgorithm, PublicKey};
pub use policy::{DEFAULT_ISSUER, DEFAULT_SUBJECT, IssuerRule, Policy, PolicyConfig};
pub use root::{TrustedRoot, TufSource, refresh_trusted_root};
pub use search::{Finding, MAX_CANDIDATES, MAX_SIGNATURE_MANIFEST, Unread};
pub use simple_signing::{explain_simple_signing, verify_simple_signing};
pub use source::{Referrer, SignatureSource};
pub use statement::SIGN_PREDICATE;
