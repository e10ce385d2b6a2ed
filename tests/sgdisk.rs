//! Partition tables of disk images against sgdisk.
//!
//! Debian package: gdisk.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::process::Command;

use bytes::Bytes;
use image_factory::format::gpt::{Gpt, Guid};
use image_factory::types::Digest;
use image_factory::virtual_file::{ReadBlob, ReadError, VirtualFile};

/// Everything here is inline.
struct NoBlobs;

impl ReadBlob for NoBlobs {
    fn read(&self, digest: &Digest, _: Range<u64>) -> Result<Bytes, ReadError> {
        Err(ReadError::Missing(*digest))
    }
}

/// Runs sgdisk to its end; what it says.
fn sgdisk(arguments: &[&str]) -> String {
    let output = Command::new("sgdisk").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "sgdisk {arguments:?}: {said}");
    said
}

/// The table of a disk image, with 512-byte sectors and moved back for an overlay's firmware.
#[test]
fn sgdisk_finds_no_problem_in_the_tables_of_disk_images() {
    let place = tempfile::tempdir().unwrap();
    for offset in [0, 34, 20_480] {
        let len = 306 << 20;
        let mut gpt = Gpt::disk(Guid::of("talos-image-disk"), len, 512, offset).unwrap();
        gpt.allocate("EFI", Guid::EFI_SYSTEM, Some(100 << 20), 0).unwrap();
        gpt.allocate("BIOS", Guid::BIOS_BOOT, Some(1 << 20), 4).unwrap();
        gpt.allocate("EPHEMERAL", Guid::LINUX_DATA, None, 0).unwrap();
        let path = place.path().join("disk.raw");
        let head = gpt.head();
        let gap = VirtualFile::zeros(gpt.tail_at() - head.len());
        let disk = VirtualFile::concat([head, gap, gpt.tail()]);
        io::copy(&mut disk.reader(NoBlobs), &mut File::create(&path).unwrap()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), len);
        let verdict = sgdisk(&["-v", path.to_str().unwrap()]);
        assert!(verdict.contains("No problems found"), "{verdict}");
        let listing = sgdisk(&["-p", path.to_str().unwrap()]);
        for label in ["EFI", "BIOS", "EPHEMERAL"] {
            assert!(listing.contains(label), "{listing}");
        }
    }
}
