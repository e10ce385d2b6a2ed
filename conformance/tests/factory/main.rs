//! The running factory, as real clients meet it.

mod booted;
mod boots;
mod clients;
mod daemons;
mod downloads;
mod initramfs;
mod lives;
mod media;
mod specification;
mod transcripts;
mod trust;
mod world;
