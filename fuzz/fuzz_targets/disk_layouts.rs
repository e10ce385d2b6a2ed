//! Whole disks, their files from nothing to more than fits: refused, or content with `sgdisk -v`, `fsck.vfat -n` and
//! `xfs_repair -n`, which must be on the search path. Files are zeros, so that only tables are written.
//!
//! The input is numbers, in the order in which they are read below.
#![no_main]

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use fuzz::{Blobs, Input};
use image_factory::assemble::disk::{
    BootFiles, DiskGrubBios, DiskLoaders, DiskOverlay, DiskParts, DiskSdBoot, disk, disk_bootloader, disk_len,
};
use image_factory::assemble::uki::Uki;
use image_factory::schematic::Bootloader;
use image_factory::types::{Arch, Platform, TalosVersion};
use image_factory::virtual_file::{Extent, VirtualFile};

/// Lengths of every magnitude, of zero bytes that no other file shares.
fn file(input: &mut Input<'_>) -> VirtualFile {
    let magnitude = input.number(1) % 33;
    VirtualFile::zeros(input.number(4) >> (32 - magnitude))
}

/// Writes what is not zero.
fn write(file: &VirtualFile, path: &Path) {
    let out = File::create(path).expect("a scratch file");
    out.set_len(file.len()).expect("a sparse file");
    let mut at = 0;
    for extent in file.extents() {
        let zeros = matches!(extent, Extent::Repeat { unit, .. } if unit.iter().all(|byte| *byte == 0));
        if !zeros {
            let bytes = VirtualFile::from_extents([extent.clone()]).read_all(&Blobs).expect("no blobs");
            out.write_all_at(&bytes, at).expect("a scratch file");
        }
        at += extent.len();
    }
}

/// Runs a checker, which must find nothing.
fn check(program: &str, args: &[&str], file: &Path) {
    let done = Command::new(program).args(args).arg(file).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&done.stdout);
    let content = program != "sgdisk" || said.contains("No problems found");
    assert!(done.status.success() && content, "{program}: {said}{}", String::from_utf8_lossy(&done.stderr));
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let input = &mut Input::new(data);
    let versions = ["1.5.5", "1.7.7", "1.9.5", "1.10.7", "1.12.1", "1.13.2"];
    let version = TalosVersion::parse(versions[input.number(1) as usize % versions.len()]).expect("a version");
    let wanted = [None, Some(Bootloader::DualBoot), Some(Bootloader::SdBoot), Some(Bootloader::Grub)];
    let bootloader = disk_bootloader(&version, Arch::Amd64, false, wanted[input.number(1) as usize % 4]);
    let sector_size = [512, 4096][input.number(1) as usize % 2];
    let usual = disk_len(&version, Platform::Metal, bootloader);
    // Mostly the usual disk, sometimes one that is too small, and never one that takes long to check.
    let len = match input.number(1) {
        short @ 0..=15 => usual * short / 16,
        more => usual + more * 4096,
    };
    let (uki, kernel, initramfs, efi) = (file(input), file(input), file(input), file(input));
    let uki = Uki { sections: vec![(".linux", 0, uki.len())], file: uki };
    let value = vec![b'v'; input.number(3) as usize % 300_000];
    let offset = if input.number(1) % 4 == 0 { input.number(2) } else { 0 };
    let sd_boot = DiskSdBoot { loader: efi.clone(), uki: &uki, enroll_keys: None };
    let bios = DiskGrubBios { core: VirtualFile::zeros(300 << 10), boot_code: [0x90; 440] };
    let files = BootFiles { kernel, initramfs };
    let parts = DiskParts {
        version: &version,
        arch: Arch::Amd64,
        len: len - len % u64::from(sector_size),
        sector_size,
        loaders: match bootloader {
            Bootloader::DualBoot => DiskLoaders::DualBoot(bios, files, sd_boot),
            Bootloader::SdBoot => DiskLoaders::SdBoot(sd_boot),
            Bootloader::Grub => DiskLoaders::Grub { bios: Some(bios), efi, files },
        },
        cmdline: "console=ttyS0",
        meta: [(input.number(1) as u8, &value[..])].into_iter().collect(),
        overlay: DiskOverlay { offset, ..DiskOverlay::default() },
        mtime: 1_559_424_892,
    };
    let Ok((image, outline)) = disk(&parts) else { return };
    assert_eq!(image.len(), parts.len);
    let folder = Path::new("/dev/shm").join(format!("disk-layouts-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a scratch folder");
    let part = |name: &str| -> Option<Range<u64>> { outline.range(&format!("partition {name}")) };
    let scratch = |name: &str, range: Range<u64>| {
        let path = folder.join(name);
        write(&image.slice(range), &path);
        path
    };
    // sgdisk takes a file for a disk of sectors of 512 bytes.
    if sector_size == 512 {
        check("sgdisk", &["-v"], &scratch("disk", 0..image.len()));
    }
    check("fsck.vfat", &["-n"], &scratch("efi", part("EFI").expect("every disk has it")));
    if let Some(boot) = part("BOOT") {
        check("xfs_repair", &["-n", "-f"], &scratch("boot", boot));
    }
    std::fs::remove_dir_all(&folder).expect("a scratch folder");
});
