//! A unified kernel image read by binutils, which know nothing of ours.

use std::fs;
use std::io::Read as _;
use std::ops::Range;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use image_factory::assemble::cmdline::Profile;
use image_factory::assemble::splash;
use image_factory::assemble::uki::{UkiParts, os_release, uki};
use image_factory::format::pe::{HEAD_LEN, Stub};
use image_factory::types::{Arch, Digest, TalosVersion};
use image_factory::virtual_file::{ReadBlob, ReadError, VirtualFile};

/// Everything here is inline.
struct NoBlobs;

impl ReadBlob for NoBlobs {
    fn read(&self, digest: &Digest, _: Range<u64>) -> Result<Bytes, ReadError> {
        Err(ReadError::Missing(*digest))
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn dump(image: &Path, section: &str) -> Vec<u8> {
    let (out, copy) = (image.with_extension("section"), image.with_extension("copy"));
    run(Command::new("objcopy").arg(format!("--dump-section={section}={}", out.display())).arg(image).arg(copy));
    fs::read(&out).unwrap_or_else(|error| panic!("{}: {error}", out.display()))
}

#[test]
fn binutils_read_every_section() {
    let mut bytes = Vec::new();
    let stub = include_bytes!("golden/uki/linuxx64.efi.stub.gz");
    flate2::read::GzDecoder::new(&stub[..]).read_to_end(&mut bytes).unwrap();
    let version = TalosVersion::parse("1.13.2").unwrap();
    let stub = Stub::parse(&bytes[..HEAD_LEN as usize], VirtualFile::inline(bytes.clone())).unwrap();
    let profile = Profile { id: "reset", title: "Reset system disk", cmdline: "a=b wipe".to_owned() };
    let kernel: Vec<u8> = (0..100_003u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
    let image = uki(&UkiParts {
        version: &version,
        arch: Arch::Amd64,
        stub: &stub,
        cmdline: "a=b",
        uname: Some("6.12.9-talos"),
        splash: VirtualFile::inline(splash::bmp()),
        linux: VirtualFile::inline(kernel.clone()),
        initrd: VirtualFile::repeat("initrd", 5000),
        profile: Some(&profile),
        timestamp: 1,
        alignment: 1,
    })
    .unwrap()
    .file;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("uki.efi");
    fs::write(&path, image.read_all(&NoBlobs).unwrap()).unwrap();

    let listing = run(Command::new("objdump").args(["--section-headers", "--wide"]).arg(&path));
    let sections: Vec<(&str, u64)> = listing
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            words.next()?.parse::<u32>().ok()?;
            Some((words.next()?, u64::from_str_radix(words.next()?, 16).ok()?))
        })
        .collect();
    let appended = [
        (".osrel", os_release(&version).len() as u64),
        (".cmdline", 3),
        (".uname", 12),
        (".splash", splash::bmp().len() as u64),
        (".linux", 100_003),
        (".initrd", 30_000),
        (".profile", 7),
        (".profile", 32),
        (".cmdline", 8),
    ];
    assert_eq!(
        sections[..8].iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        [".text", ".reloc", ".data", ".dynamic", ".rela", ".dynsym", ".sbat", ".sdmagic"]
    );
    assert_eq!(sections[8..], appended, "{listing}");
    assert_eq!(dump(&path, ".linux"), kernel);
    assert_eq!(dump(&path, ".initrd"), "initrd".repeat(5000).into_bytes());
    assert_eq!(dump(&path, ".splash"), splash::bmp());
    let headers = run(Command::new("objdump").arg("--private-headers").arg(&path));
    assert!(headers.contains("(EFI application)"), "{headers}");
}
