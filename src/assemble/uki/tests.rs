use std::collections::HashMap;
use std::io::Read as _;
use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;

use super::*;
use crate::assemble::cmdline::{CmdlineAsset, extra_profile};
use crate::format::pe::HEAD_LEN;
use crate::types::Digest;
use crate::virtual_file::{Extent, ReadBlob, ReadError};

/// Blobs in memory, so that the layout cannot look into kernel and initramfs.
#[derive(Default)]
struct Blobs(HashMap<Digest, Bytes>);

impl ReadBlob for Blobs {
    fn read(&self, digest: &Digest, range: Range<u64>) -> Result<Bytes, ReadError> {
        let blob = self.0.get(digest).ok_or(ReadError::Missing(*digest))?;
        Ok(blob.slice(range.start as usize..range.end as usize))
    }
}

impl Blobs {
    fn add(&mut self, bytes: Vec<u8>) -> VirtualFile {
        let (digest, len) = (Digest::of(&bytes), bytes.len() as u64);
        self.0.insert(digest, bytes.into());
        VirtualFile::blob(digest, len)
    }
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
    out
}

/// The golden data's generator: xorshift32, the low byte of each state.
fn random(seed: u32, len: usize) -> Vec<u8> {
    let mut x = seed;
    let step = |_| {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        x as u8
    };
    (0..len).map(step).collect()
}

fn input(name: &str) -> Vec<u8> {
    match name {
        "kernel-plain" => random(11, 20003),
        "kernel-bz" => {
            let mut kernel = random(12, 24576);
            let release = b"6.12.9-talos (root@build) #1 SMP\0";
            kernel[0x202..0x206].copy_from_slice(b"HdrS");
            kernel[0x1f1] = 4;
            kernel[0x20e..0x210].copy_from_slice(&0x300u16.to_le_bytes());
            kernel[0x500..0x500 + release.len()].copy_from_slice(release);
            kernel
        }
        "kernel-page" => random(13, 8192),
        "initrd-odd" => random(21, 30001),
        "initrd-one" => random(22, 1),
        "initrd-512" => random(23, 512),
        "initrd-page" => random(24, 4096),
        other => panic!("input {other}"),
    }
}

/// The reference's splash, somebody's artwork, which is not copied here.
fn golden_splash() -> Option<Vec<u8>> {
    let golden = std::env::var_os("GOLDEN_DATA").map(PathBuf::from);
    let golden = golden.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/golden"));
    match std::fs::read(golden.join("uki/splash.bmp.gz")) {
        Ok(bytes) => Some(gunzip(&bytes)),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "splash.bmp.gz: {error}");
            println!("skipped: splash.bmp.gz: {error}");
            None
        }
    }
}

fn golden_stub(blobs: &mut Blobs) -> Stub {
    let bytes = gunzip(include_bytes!("../../../tests/golden/uki/stub-nosym.efi.gz"));
    let head = bytes[..HEAD_LEN as usize].to_vec();
    Stub::parse(&head, blobs.add(bytes)).unwrap()
}

#[derive(serde::Deserialize)]
struct Vector {
    name: String,
    version: String,
    kernel: String,
    initrd: String,
    cmdline: String,
    kind: String,
    signed: String,
    uki: VectorUki,
}

#[derive(serde::Deserialize)]
struct VectorUki {
    size: u64,
    sha256: String,
    header_first_512_hex: String,
    sections: Vec<VectorSection>,
}

#[derive(serde::Deserialize)]
struct VectorSection {
    name: String,
    vaddr: u32,
    vsize: u32,
    raw_offset: u32,
    raw_size: u32,
    characteristics: String,
    data_sha256: String,
    text: Option<String>,
}

impl Vector {
    fn text(&self, section: &str) -> Option<&str> {
        self.uki.sections.iter().find(|s| s.name == section).and_then(|s| s.text.as_deref())
    }
}

#[test]
fn golden_unsigned_images_byte_for_byte() {
    let Some(splash) = golden_splash() else { return };
    let mut blobs = Blobs::default();
    let splash = blobs.add(splash);
    let stub = golden_stub(&mut blobs);
    let vectors = gunzip(include_bytes!("../../../tests/golden/uki/vectors.jsonl.gz"));
    let mut seen = 0;
    for line in std::str::from_utf8(&vectors).unwrap().lines() {
        let vector: Vector = serde_json::from_str(line).unwrap();
        if !vector.signed.is_empty() {
            continue;
        }
        let version = TalosVersion::parse(&vector.version).unwrap();
        let asset = match vector.kind.as_str() {
            "uki" => CmdlineAsset::Uki,
            "iso" => CmdlineAsset::Iso,
            "image" | "installer" => CmdlineAsset::Image,
            other => panic!("kind {other}"),
        };
        // The reference writes a constant of its own where the version is its own; we never do.
        let own_constant = vector.version == "v1.14.0-beta.1";
        let uname = if own_constant { vector.text(".uname") } else { Some("6.12.9-talos") };
        let image = uki(&UkiParts {
            version: &version,
            arch: Arch::Amd64,
            stub: &stub,
            cmdline: &vector.cmdline,
            uname: uname.filter(|_| vector.kernel == "kernel-bz"),
            splash: splash.clone(),
            linux: blobs.add(input(&vector.kernel)),
            initrd: blobs.add(input(&vector.initrd)),
            profile: extra_profile(&version, asset, &vector.cmdline).as_ref(),
            timestamp: 1_700_000_000,
            alignment: 1,
        })
        .unwrap()
        .file;
        let bytes = image.read_all(&blobs).unwrap();
        assert_eq!(hex::encode(&bytes[..512]), vector.uki.header_first_512_hex, "{}", vector.name);
        let read = Stub::parse(&bytes[..HEAD_LEN as usize], image.clone()).unwrap();
        assert_eq!(read.sections().len(), vector.uki.sections.len(), "{}", vector.name);
        for (ours, golden) in read.sections().iter().zip(&vector.uki.sections) {
            let what = format!("{} {}", vector.name, golden.name);
            assert_eq!(std::str::from_utf8(&ours.name).unwrap().trim_end_matches('\0'), golden.name, "{what}");
            assert_eq!((ours.virtual_address, ours.virtual_size), (golden.vaddr, golden.vsize), "{what}");
            assert_eq!((ours.raw_offset, ours.raw_size), (golden.raw_offset, golden.raw_size), "{what}");
            assert_eq!(format!("{:#x}", ours.characteristics), golden.characteristics, "{what}");
            let data = read.data(ours).read_all(&blobs).unwrap();
            assert_eq!(Digest::of(&data).hex(), golden.data_sha256, "{what}");
        }
        assert_eq!(image.len(), vector.uki.size, "{}", vector.name);
        assert_eq!(Digest::of(&bytes).hex(), vector.uki.sha256, "{}", vector.name);
        seen += 1;
    }
    assert_eq!(seen, 33);
}

fn parts<'a>(version: &'a TalosVersion, stub: &'a Stub) -> UkiParts<'a> {
    UkiParts {
        version,
        arch: Arch::Amd64,
        stub,
        cmdline: "console=ttyS0",
        uname: None,
        splash: VirtualFile::blob(Digest::of(b"splash"), 10_000),
        linux: VirtualFile::blob(Digest::of(b"linux"), 18_000_000),
        initrd: VirtualFile::blob(Digest::of(b"initrd"), 75_000_000),
        profile: None,
        timestamp: 0,
        alignment: 1,
    }
}

/// Kernel, initramfs, splash and stub stay where they are: what is stored with a schematic is headers and texts.
#[test]
fn no_blob_is_read_and_the_extent_list_is_small() {
    let version = TalosVersion::parse("1.13.2").unwrap();
    let stub = golden_stub(&mut Blobs::default());
    let image = uki(&parts(&version, &stub)).unwrap().file;
    let inline: u64 = image.extents().iter().filter(|e| matches!(e, Extent::Inline(_))).map(Extent::len).sum();
    assert!(inline < 2048, "{inline}");
    assert!(image.encode().len() < 4096);
}

#[test]
fn a_stub_of_another_architecture_is_refused() {
    let version = TalosVersion::parse("1.13.2").unwrap();
    let stub = golden_stub(&mut Blobs::default());
    let error = uki(&UkiParts { arch: Arch::Arm64, ..parts(&version, &stub) }).unwrap_err();
    assert_eq!(error.to_string(), "the stub's machine number is 0x8664, but arm64 has 0xaa64");
}

#[derive(serde::Deserialize)]
struct Layout {
    machine: String,
    size_of_image: String,
    size_of_headers: String,
    file_size: u64,
    sections: Vec<LayoutSection>,
}

#[derive(serde::Deserialize)]
struct LayoutSection {
    name: String,
    virtual_size: u64,
    virtual_address: String,
    raw_size: u32,
    raw_offset: String,
    characteristics: String,
    text: Option<String>,
}

fn hex_number(text: &str) -> u32 {
    u32::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap()
}

/// Headers as systemd 257 writes them: DOS header of 64 bytes and nothing behind it, pages of 4 KiB, sections far apart.
fn stub_257(layout: &Layout) -> Stub {
    let own = layout.sections.iter().position(|s| s.name == ".osrel").unwrap();
    let mut bytes = vec![0; 64];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[60] = 64;
    bytes.extend_from_slice(b"PE\0\0");
    bytes.extend_from_slice(&(hex_number(&layout.machine) as u16).to_le_bytes());
    bytes.extend_from_slice(&(own as u16).to_le_bytes());
    bytes.extend_from_slice(&[0; 12]);
    bytes.extend_from_slice(&[240, 0, 0x2e, 2]);
    let mut optional = [0; 240];
    for (at, value) in [(0, 0x20b), (32, 0x1000), (36, 0x200), (68, 10), (108, 16)] {
        optional[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
    }
    bytes.extend_from_slice(&optional);
    let mut raw_offset = 1536;
    for section in &layout.sections[..own] {
        bytes.extend(section.name.bytes().chain([0; 8]).take(8));
        for field in [section.virtual_size as u32, hex_number(&section.virtual_address), section.raw_size, raw_offset] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(&[0; 12]);
        bytes.extend_from_slice(&hex_number(&section.characteristics).to_le_bytes());
        raw_offset += section.raw_size;
    }
    Stub::parse(&bytes, VirtualFile::zeros(raw_offset.into())).unwrap()
}

/// The section tables of images that the reference made from the stubs of Debian 13, for both architectures.
#[test]
fn golden_layouts_of_systemd_257() {
    let layouts = [
        ("1.9.5", Arch::Amd64, include_str!("../../../tests/golden/layouts/uki/THREE-v1.9.5-metal-amd64-uki.efi.json")),
        (
            "1.10.7",
            Arch::Amd64,
            include_str!("../../../tests/golden/layouts/uki/THREE-v1.10.7-metal-amd64-uki.efi.json"),
        ),
        (
            "1.12.1",
            Arch::Amd64,
            include_str!("../../../tests/golden/layouts/uki/THREE-v1.12.1-metal-amd64-uki.efi.json"),
        ),
        (
            "1.13.2",
            Arch::Amd64,
            include_str!("../../../tests/golden/layouts/uki/THREE-v1.13.2-metal-amd64-uki.efi.json"),
        ),
        (
            "1.13.2",
            Arch::Arm64,
            include_str!("../../../tests/golden/layouts/uki/THREE-v1.13.2-metal-arm64-uki.efi.json"),
        ),
    ];
    for (version, arch, layout) in layouts {
        let layout: Layout = serde_json::from_str(layout).unwrap();
        let version = TalosVersion::parse(version).unwrap();
        let section = |name| layout.sections.iter().find(|s| s.name == name);
        let zeros = |name| VirtualFile::zeros(section(name).unwrap().virtual_size);
        let text = |name| section(name).and_then(|s| s.text.as_deref());
        let image = uki(&UkiParts {
            version: &version,
            arch,
            stub: &stub_257(&layout),
            cmdline: text(".cmdline").unwrap(),
            uname: text(".uname"),
            splash: zeros(".splash"),
            linux: zeros(".linux"),
            initrd: zeros(".initrd"),
            profile: None,
            timestamp: 0,
            alignment: 1,
        })
        .unwrap()
        .file;
        let head = image.slice(0..HEAD_LEN).read_all(&Blobs::default()).unwrap();
        let read = Stub::parse(&head, image.clone()).unwrap();
        let ours = read.sections().iter().map(|s| {
            let name = std::str::from_utf8(&s.name).unwrap().trim_end_matches('\0').to_owned();
            (name, s.virtual_size, s.virtual_address, s.raw_size, s.raw_offset, s.characteristics)
        });
        let golden = layout.sections.iter().map(|s| {
            let (address, offset) = (hex_number(&s.virtual_address), hex_number(&s.raw_offset));
            (s.name.clone(), s.virtual_size as u32, address, s.raw_size, offset, hex_number(&s.characteristics))
        });
        assert_eq!(ours.collect::<Vec<_>>(), golden.collect::<Vec<_>>(), "{version} {arch}");
        assert_eq!(image.len(), layout.file_size, "{version} {arch}");
        let u32_at = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
        assert_eq!(u32_at(128 + 24 + 56), hex_number(&layout.size_of_image), "{version} {arch}");
        assert_eq!(u32_at(128 + 24 + 60), hex_number(&layout.size_of_headers), "{version} {arch}");
        assert_eq!(text(".osrel"), Some(&*os_release(&version)), "{version} {arch}");
    }
}

/// For ISO images: sections at multiples of 2048, no gap between sections, and the same sections otherwise.
#[test]
fn sections_can_be_aligned_in_the_file() {
    let version = TalosVersion::parse("1.13.2").unwrap();
    let mut blobs = Blobs::default();
    let stub = golden_stub(&mut blobs);
    let plain = uki(&parts(&version, &stub)).unwrap();
    let aligned = uki(&UkiParts { alignment: 2048, ..parts(&version, &stub) }).unwrap();
    let head = |file: &VirtualFile| file.slice(0..HEAD_LEN).read_all(&blobs).unwrap();
    let (plain, found) = (head(&plain.file), head(&aligned.file));
    let plain = Stub::parse(&plain, VirtualFile::zeros(1 << 30)).unwrap();
    let found = Stub::parse(&found, aligned.file.clone()).unwrap();
    for (ours, plain) in found.sections().iter().zip(plain.sections()) {
        assert_eq!(
            (ours.name, ours.virtual_address, ours.virtual_size),
            (plain.name, plain.virtual_address, plain.virtual_size)
        );
    }
    for pair in found.sections().windows(2) {
        assert_eq!(pair[0].raw_offset + pair[0].raw_size, pair[1].raw_offset);
    }
    for name in [".linux", ".initrd"] {
        let (at, _) = aligned.section(name).unwrap();
        assert!(at.is_multiple_of(2048), "{name}");
        let blob = aligned.file.slice(at..at + 10_000_000);
        assert_eq!(blob, VirtualFile::blob(Digest::of(&name.as_bytes()[1..]), 20_000_000).slice(0..10_000_000));
    }
}
