//! Compressed streams and disk image formats against the programs that people unpack and convert them with.
//!
//! Debian packages: gzip, pigz, qemu-utils, tar, xz-utils, zstd.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod disks;
mod streams;
mod world;
