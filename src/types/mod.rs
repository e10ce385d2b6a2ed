//! Words of the field that every room shares: digests, architectures, versions.

mod arch;
mod digest;
mod version;

pub use arch::Arch;
pub use digest::{Digest, DigestError};
pub use version::{TalosVersion, VersionError};
