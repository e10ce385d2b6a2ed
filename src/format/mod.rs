//! On-disk formats as sans-I/O layouts.

pub mod bzimage;
pub mod cpio;
pub mod depmod;
pub mod fat;
pub mod gpt;
pub mod grub;
pub mod iso9660;
pub mod layers;
pub mod meta;
pub mod ova;
pub mod pe;
pub mod qcow2;
mod sparse;
pub mod squashfs;
pub mod tar;
pub mod tree;
pub mod vhd;
pub mod vmdk;
pub mod xfs;
pub mod yaml;
