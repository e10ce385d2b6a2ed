//! The Image Factory: boot assets and installer images of Talos Linux, made on request from signed sources.
//!
//! The README's section ARCHITECTURE says how the rooms below hang together; their dependencies point down only.

pub mod assemble;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod encode;
pub mod factory;
pub mod format;
pub mod frontend;
pub mod sandbox;
pub mod schematic;
pub mod server;
pub mod sign;
pub mod store;
pub mod telemetry;
pub mod types;
pub mod upstream;
pub mod verify;
pub mod virtual_file;
