//! The running factory, as real clients meet it.

mod booted;
mod boots;
mod clients;
mod daemons;
mod initramfs;
mod lives;
mod specification;
mod transcripts;
mod trust;
mod world;
