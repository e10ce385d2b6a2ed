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
