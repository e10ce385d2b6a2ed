//! The running factory, as real clients meet it.

mod booted;
mod boots;
mod clients;
mod command;
mod daemons;
mod damage;
mod disks;
mod downloads;
mod hostile;
mod initramfs;
mod lives;
mod media;
mod overlays;
mod replicas;
mod specification;
mod transcripts;
mod trust;
mod world;
