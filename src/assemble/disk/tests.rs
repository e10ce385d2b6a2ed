use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::*;
use crate::types::{Digest, Platform};
use crate::virtual_file::{ReadBlob, ReadError};

/// Every blob there is, all of one byte.
struct Blobs;

impl ReadBlob for Blobs {
    fn read(&self, digest: &Digest, range: Range<u64>) -> Result<bytes::Bytes, ReadError> {
        Ok(vec![digest.raw()[0]; (range.end - range.start) as usize].into())
    }
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
    out
}

/// The tables that the reference made, one object a disk.
fn golden() -> Vec<Value> {
    let text = String::from_utf8(gunzip(include_bytes!("../../../tests/golden/disk/gpt.jsonl.gz"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn bootloader(name: &str) -> Bootloader {
    let all = [Bootloader::DualBoot, Bootloader::SdBoot, Bootloader::Grub];
    all.into_iter().find(|bootloader| bootloader.as_str() == name).unwrap_or_else(|| panic!("{name}"))
}

fn table(disk: &Value) -> Result<Table, GptError> {
    let number = |key: &str| disk[key].as_u64().unwrap();
    let sector_size = if number("sector_size") == 0 { 512 } else { number("sector_size") as u32 };
    let version = TalosVersion::parse(disk["version"].as_str().unwrap()).unwrap();
    let bootloader = bootloader(disk["bootloader"].as_str().unwrap());
    Table::new(&version, bootloader, number("disk_size"), sector_size, number("overlay_offset"))
}

#[test]
fn tables_are_those_of_the_reference_byte_for_byte() {
    let mut compared = 0;
    for disk in golden().iter().filter(|disk| disk["error"].is_null()) {
        let table = table(disk).unwrap();
        let partitions = disk["partitions"].as_array().unwrap();
        assert_eq!(table.gpt.partitions().len(), partitions.len(), "{disk}");
        for (golden, made) in partitions.iter().zip(table.gpt.partitions()) {
            assert_eq!(made.name, golden["label"].as_str().unwrap());
            let expected = (golden["first_lba"].as_u64().unwrap(), golden["last_lba"].as_u64().unwrap());
            assert_eq!((made.sectors.start, made.sectors.end - 1), expected, "{disk}");
            assert_eq!(made.guid.to_string(), golden["guid"].as_str().unwrap());
            assert_eq!(made.type_guid.to_string(), golden["type_guid"].as_str().unwrap());
            assert_eq!(made.attributes, golden["flags"].as_u64().unwrap());
        }
        let bytes = |key: &str| gunzip(&STANDARD.decode(disk[key].as_str().unwrap()).unwrap());
        let len = disk["disk_size"].as_u64().unwrap();
        let image = join(table.ends().to_vec(), len);
        assert_eq!(image.len(), len);
        // The golden head stops after 16 KiB behind the header, wherever the entries are.
        let golden_head = bytes("head_gzip_base64");
        assert_eq!(Digest::of(&golden_head).hex(), disk["head_sha256"].as_str().unwrap());
        let head = image.slice(0..golden_head.len() as u64).read_all(&Blobs).unwrap();
        assert_eq!(head, golden_head, "{disk}");
        let (golden_tail, at) = (bytes("tail_gzip_base64"), disk["tail_offset"].as_u64().unwrap());
        let tail = image.slice(at..at + golden_tail.len() as u64).read_all(&Blobs).unwrap();
        assert_eq!(tail, golden_tail, "{disk}");
        compared += 1;
    }
    assert_eq!(compared, 118);
}

#[test]
fn partitions_without_room_are_refused_as_by_the_reference() {
    let mut refused = 0;
    for disk in golden().iter().filter(|disk| !disk["error"].is_null()) {
        refused += 1;
        let error = disk["error"].as_str().unwrap();
        let Err(ours) = table(disk) else { panic!("{disk}") };
        if error.starts_with("PANIC") {
            assert_eq!(ours, GptError::SectorSize(7));
            continue;
        }
        let GptError::NoRoom { name, wanted } = &ours else { panic!("{ours}") };
        assert!(error.contains(&format!("partition {name}:")), "{error}");
        let len = if name == "EFI" { 2101 * MIB } else { 1000 * MIB };
        assert_eq!(*wanted, format!("for {len} bytes"));
    }
    assert_eq!(refused, 3);
}

#[test]
fn sizes_and_boot_loaders_are_the_golden_ones() {
    let golden: Value = serde_json::from_str(include_str!("../../../tests/golden/platforms/disks.json")).unwrap();
    let results = golden["results"].as_array().unwrap();
    let (mut seen, mut refused) = (0, 0);
    for case in golden["cases"].as_array().unwrap() {
        let version = TalosVersion::parse(case["version"].as_str().unwrap()).unwrap();
        let arch = Arch::parse(case["arch"].as_str().unwrap()).unwrap();
        let wanted = case["schematic_bootloader"].as_str().filter(|name| !name.is_empty()).map(bootloader);
        let secure_boot = case["secureboot"].as_bool().unwrap();
        for (name, result) in case["image"].as_object().unwrap() {
            let result = &results[result.as_u64().unwrap() as usize];
            if result["error"].is_string() {
                assert!(secure_boot && !version.has_uki(), "{case}");
                refused += 1;
                continue;
            }
            let ours = disk_bootloader(&version, arch, secure_boot, wanted);
            assert_eq!(result["bootloader"], ours.as_str(), "{name} of {case}");
            let len = disk_len(&version, Platform::parse(name).unwrap(), ours);
            assert_eq!(result["disk_size"], len, "{name} of {case}");
            assert_eq!(result["sector_size"], 0);
            seen += 1;
        }
    }
    assert_eq!((seen, refused), (6216, 504));
}

fn blob(name: u8, len: u64) -> VirtualFile {
    VirtualFile::blob(Digest::of(&[name]), len)
}

/// A UKI whose one section is all of it.
fn uki(len: u64) -> Uki {
    Uki { file: blob(1, len), sections: vec![(".linux", 0, len)] }
}

fn parts<'a>(version: &'a TalosVersion, uki: &'a Uki, bootloader: Bootloader, sector_size: u32) -> DiskParts<'a> {
    let bios = || DiskGrubBios { core: blob(2, 300 << 10), boot_code: [7; 440] };
    let files = BootFiles { kernel: blob(3, 12 << 20), initramfs: blob(4, 50 << 20) };
    let sd_boot = DiskSdBoot { loader: blob(5, 200 << 10), uki, enroll_keys: None };
    DiskParts {
        version,
        arch: Arch::Amd64,
        len: disk_len(version, Platform::Metal, bootloader),
        sector_size,
        loaders: match bootloader {
            Bootloader::DualBoot => DiskLoaders::DualBoot(bios(), files, sd_boot),
            Bootloader::SdBoot => DiskLoaders::SdBoot(sd_boot),
            Bootloader::Grub => DiskLoaders::Grub { bios: Some(bios()), efi: blob(6, 700 << 10), files },
        },
        cmdline: "console=ttyS0",
        meta: Meta::default(),
        overlay: DiskOverlay::default(),
        mtime: 1_559_424_892,
    }
}

const ALL: [Bootloader; 3] = [Bootloader::DualBoot, Bootloader::SdBoot, Bootloader::Grub];

#[test]
fn a_disk_is_a_short_list_and_every_part_has_a_name() {
    for version in ["1.5.5", "1.9.5", "1.10.7", "1.13.2"] {
        let version = TalosVersion::parse(version).unwrap();
        for (bootloader, sector_size) in ALL.into_iter().flat_map(|one| [(one, 512), (one, 4096)]) {
            let uki = uki(63 << 20);
            let parts = parts(&version, &uki, bootloader, sector_size);
            let (image, outline) = disk(&parts).unwrap();
            assert_eq!(image.len(), parts.len);
            assert!(image.encode().len() < 64 << 10, "{} bytes", image.encode().len());
            assert!(!image.blobs().is_empty());
            // Whatever is not zero is something.
            let mut at = 0;
            for extent in image.extents() {
                let is_zero = matches!(extent, crate::virtual_file::Extent::Repeat { unit, .. } if unit[..] == [0]);
                assert!(is_zero || outline.name_at(at).is_some(), "{version} {bootloader:?} {at}");
                at += extent.len();
            }
        }
    }
}

#[test]
fn what_does_not_fit_names_the_sizes() {
    let version = TalosVersion::parse("1.13.2").unwrap();
    let text = |parts: &DiskParts<'_>| disk(parts).unwrap_err().to_string();
    let large = uki(3 << 30);
    let error = text(&parts(&version, &large, Bootloader::SdBoot, 512));
    assert!(error.starts_with("partition EFI: FAT: files and directories need 322"), "{error}");
    assert!(error.contains(", a volume of 2203058176 bytes has "), "{error}");
    let small = uki(1 << 20);
    let mut grub = parts(&version, &small, Bootloader::Grub, 512);
    if let DiskLoaders::Grub { files, .. } = &mut grub.loaders {
        files.initramfs = blob(4, 2 << 30);
    }
    let error = text(&grub);
    assert!(error.starts_with("partition BOOT: XFS: files need ") && error.contains("2097152000"), "{error}");
    let value = vec![b'x'; meta::MAX - 8 - 16];
    let mut full = parts(&version, &small, Bootloader::DualBoot, 512);
    full.meta = [(10, &value[..]), (0x11, b"dual-boot")].into_iter().collect();
    assert!(text(&full).starts_with("partition META: META values take 262105 bytes"), "{}", text(&full));
    let mut tiny = parts(&version, &small, Bootloader::DualBoot, 512);
    tiny.len = 1 << 30;
    assert_eq!(text(&tiny), "gpt: partition \"EFI\": no room for 2203058176 bytes");
}

#[test]
fn an_overlay_writes_where_nothing_else_is() {
    let version = TalosVersion::parse("1.13.2").unwrap();
    let uki = uki(1 << 20);
    let with = |offset: u64, at: u64, len: u64| {
        let mut parts = parts(&version, &uki, Bootloader::SdBoot, 512);
        parts.overlay = DiskOverlay {
            offset,
            efi_files: vec![("config.txt".to_owned(), VirtualFile::inline("enable_uart=1\n"))],
            writes: vec![(at, blob(9, len))],
        };
        disk(&parts)
    };
    // Behind the header, in front of the entries that moved back.
    let (image, outline) = with(20_480, 32 << 10, 9 << 20).unwrap();
    assert_eq!(outline.name_at(32 << 10), Some("overlay's boot code"));
    let code = image.slice(32 << 10..(32 << 10) + 512).read_all(&Blobs).unwrap();
    assert_eq!(code, vec![Digest::of(&[9]).raw()[0]; 512]);
    // Behind the entries, in front of the first partition.
    with(0, 17 << 10, 1 << 19).unwrap();
    for (offset, at, len, part) in [
        (0, 8 << 10, 512, "entries of the partition table"),
        (0, 440, 512, "partition table"),
        (0, 32 << 10, 1 << 20, "partition EFI"),
        (20_480, 32 << 10, 20_482 * 512 - (32 << 10) + 1, "entries of the partition table"),
        (0, (2246 << 20) - 512, 512, "second partition table"),
    ] {
        let error = with(offset, at, len).unwrap_err().to_string();
        let expected = format!("the overlay writes to bytes {at}..{} of the disk, where {part} is", at + len);
        assert_eq!(error, expected);
    }
    let beyond = with(0, 2246 << 20, 512).unwrap_err().to_string();
    assert_eq!(beyond, "the overlay writes to bytes 2355101696..2355102208 of the disk, which ends at 2355101696");
}
