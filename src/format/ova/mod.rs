//! OVAs: what VMware's products import.
//!
//! Specification: DMTF DSP0243, "Open Virtualization Format", version 1.1, sections 5 and 6. A tar of a description, a
//! manifest of SHA-256 digests, and a stream-optimized VMDK, in this order. Description and manifest are the reference's.

use crate::format::tar::{Layout, WriteError};
use crate::format::vmdk::{self, VmdkError};
use crate::types::Digest;
use crate::virtual_file::{Coder, Outline, VirtualFile};

/// The description, with places for two numbers.
const OVF: &str = include_str!("disk.ovf");
const DISK: &str = "disk.vmdk";

/// Why a disk cannot be laid out.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OvaError {
    /// The disk's image cannot be.
    #[error(transparent)]
    Vmdk(#[from] VmdkError),
    /// The archive cannot be.
    #[error(transparent)]
    Tar(#[from] WriteError),
}

/// The archive of a disk whose parts `outline` names, and what the archive's parts are; `mtime` in seconds since 1970.
/// The manifest's digest of the disk's image is computed when it is read.
///
/// # Errors
/// [`OvaError`]
pub fn lay_out(disk: &VirtualFile, outline: &Outline, mtime: u32) -> Result<(VirtualFile, Outline), OvaError> {
    let (vmdk, inner) = vmdk::lay_out(disk, outline, DISK)?;
    let ovf = ovf(vmdk.len(), disk.len());
    let manifest = manifest(&ovf, VirtualFile::coded(Coder::Sha256Hex, vmdk.clone()));
    let mut tar = Layout::new(mtime);
    tar.add_file("disk.ovf", 0o644, VirtualFile::inline(ovf))?;
    tar.add_file("disk.mf", 0o644, manifest)?;
    tar.add_outlined_file(DISK, 0o644, vmdk, &inner)?;
    Ok(tar.finish_outlined())
}

/// The description of a disk, lengths in bytes.
fn ovf(vmdk: u64, disk: u64) -> String {
    OVF.replace("{vmdk_size}", &vmdk.to_string()).replace("{capacity}", &(disk >> 20).to_string())
}

/// The manifest; `vmdk` is the hex digest of the disk's image.
fn manifest(ovf: &str, vmdk: VirtualFile) -> VirtualFile {
    let ovf = hex::encode(Digest::of(ovf.as_bytes()).raw());
    let text = |text: String| VirtualFile::inline(text);
    VirtualFile::concat([text(format!("SHA256({DISK})= ")), vmdk, text(format!("\nSHA256(disk.ovf)= {ovf}\n"))])
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::virtual_file::NoBlobs;

    #[test]
    fn the_golden_texts() {
        let golden = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/disk/ova.jsonl"));
        let mut seen = 0;
        for line in golden.lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let ovf = ovf(case["vmdk_size"].as_u64().unwrap(), case["disk_size"].as_u64().unwrap());
            assert_eq!(ovf, case["ovf"].as_str().unwrap());
            let digest = VirtualFile::inline(case["vmdk_sha256"].as_str().unwrap().to_owned());
            let manifest = manifest(&ovf, digest).read_all(&NoBlobs).unwrap();
            assert_eq!(manifest, case["mf"].as_str().unwrap());
            seen += 1;
        }
        assert_eq!(seen, 6);
    }

    #[test]
    fn the_manifest_names_the_digest_of_the_image_that_follows() {
        let disk = VirtualFile::concat([VirtualFile::inline("boot"), VirtualFile::zeros((1 << 20) - 4)]);
        let ova = lay_out(&disk, &Outline::default(), 1_559_424_892).unwrap().0;
        let vmdk = vmdk::lay_out(&disk, &Outline::default(), DISK).unwrap().0;
        let digest = hex::encode(Digest::of(&vmdk.read_all(&NoBlobs).unwrap()).raw());
        let all = ova.read_all(&NoBlobs).unwrap();
        let found = all.windows(64).filter(|window| *window == digest.as_bytes()).count();
        assert_eq!((found, ova.len() % 512), (1, 0));
        assert_eq!(VirtualFile::decode(ova.encode()).unwrap(), ova);
    }
}
