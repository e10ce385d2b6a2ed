//! Tar archives: image layers, written as a layout and read as a stream.
//!
//! Specification: POSIX.1-2017, `pax`, "ustar Interchange Format" and "pax Interchange Format"; tar(5) for GNU's long
//! names and base-256 numbers; OCI image-spec `layer.md` for what layers may hold. Header bytes are those that Go's
//! `archive/tar` writes for the same entry, since the reference's layers are made with it.

pub mod read;
mod write;

pub use read::{Entry, EntryKind, Limits, ReadError, Reader};
pub use write::{Layout, WriteError};

/// Blocks that headers and data are padded to, in bytes.
const BLOCK: usize = 512;
/// The PAX record of a `security.selinux` label.
const PAX_SELINUX: &str = "SCHILY.xattr.security.selinux";

#[cfg(test)]
mod tests;
