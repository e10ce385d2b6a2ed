//! One file an asset: recipes become virtual files.

pub mod cmdline;
pub mod extension;
pub mod initramfs;
pub mod installer;
pub mod iso;
pub mod outline;
pub mod splash;
pub mod uki;
