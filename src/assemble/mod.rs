//! One file an asset: recipes become virtual files.

pub mod cmdline;
pub mod disk;
pub mod extension;
pub mod grub_cfg;
pub mod initramfs;
pub mod installer;
pub mod iso;
pub mod iso_label;
pub mod loader_conf;
pub mod splash;
pub mod uki;
