//! Words of the field that every room shares: digests, architectures, platforms, versions.

mod arch;
mod digest;
mod platform;
mod version;
mod version_rules;

pub use arch::Arch;
pub use digest::{Digest, DigestError};
pub use platform::{Platform, UnknownPlatform};
pub use version::{TalosVersion, VersionError};
