//! The upstream client against a real registry, against folders, and against peers that answer wrongly.
//!
//! Needs the Debian packages docker-registry, skopeo and openssl.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where its ground gives way")]

mod answers;
mod authorization;
mod downloads;
mod folder;
mod manifests;
mod registry;
mod support;
