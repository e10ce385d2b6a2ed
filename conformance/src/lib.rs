//! Meets a running image-factory as the world does: makes a miniature Talos release, publishes and
//! signs it, drives real clients, boots what is served. Shares no code with the factory.

pub mod bench;
pub mod cache;
pub mod demo;
pub mod factory;
pub mod golang;
pub mod kill;
pub mod oci;
pub mod oci_suite;
pub mod packages;
pub mod publish;
pub mod qemu;
pub mod registry;
pub mod release;
pub mod run;
pub mod tools;
