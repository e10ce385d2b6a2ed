use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::format::no_blobs::NoBlobs;
use crate::types::Digest;

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
    out
}

/// What the reference made, one object a disk.
fn golden() -> Vec<Value> {
    let text = String::from_utf8(gunzip(include_bytes!("../../../tests/golden/disk/gpt.jsonl.gz"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn table(disk: &Value) -> Result<Gpt, GptError> {
    let number = |key: &str| disk[key].as_u64().unwrap();
    let sector_size = if number("sector_size") == 0 { 512 } else { number("sector_size") as u32 };
    Gpt::disk(Guid::of("talos-image-disk"), number("disk_size"), sector_size, number("overlay_offset"))
}

fn type_guid(text: &str) -> Guid {
    let known = [Guid::EFI_SYSTEM, Guid::BIOS_BOOT, Guid::LINUX_DATA];
    known.into_iter().find(|guid| guid.to_string() == text).unwrap_or_else(|| panic!("{text}"))
}

#[test]
fn tables_are_those_of_the_reference_byte_for_byte() {
    let mut compared = 0;
    for disk in golden().iter().filter(|disk| disk["error"].is_null()) {
        let mut gpt = table(disk).unwrap();
        for partition in disk["partitions"].as_array().unwrap() {
            let label = partition["label"].as_str().unwrap();
            let len = (label != "EPHEMERAL").then(|| partition["bytes"].as_u64().unwrap());
            let kind = type_guid(partition["type_guid"].as_str().unwrap());
            gpt.allocate(label, kind, len, partition["flags"].as_u64().unwrap()).unwrap();
            let made = gpt.partitions().last().unwrap();
            let expected = (partition["first_lba"].as_u64().unwrap(), partition["last_lba"].as_u64().unwrap());
            assert_eq!((made.sectors.start, made.sectors.end - 1), expected, "{disk}");
            assert_eq!(made.guid.to_string(), partition["guid"].as_str().unwrap());
        }
        let bytes = |key: &str| gunzip(&STANDARD.decode(disk[key].as_str().unwrap()).unwrap());
        // The golden head stops after 16 KiB behind the header, wherever the entries are.
        let (head, golden_head) = (gpt.head().read_all(&NoBlobs).unwrap(), bytes("head_gzip_base64"));
        let common = head.len().min(golden_head.len());
        assert_eq!(head[..common], golden_head[..common], "{disk}");
        assert!(golden_head[common..].iter().all(|byte| *byte == 0));
        assert_eq!(Digest::of(&golden_head).hex(), disk["head_sha256"].as_str().unwrap());
        let (tail, golden_tail) = (gpt.tail().read_all(&NoBlobs).unwrap(), bytes("tail_gzip_base64"));
        assert!(tail.ends_with(&golden_tail), "{disk}");
        let end = disk["tail_offset"].as_u64().unwrap() + golden_tail.len() as u64;
        assert_eq!(gpt.tail_at() + tail.len() as u64, end);
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
        if error.starts_with("PANIC") {
            assert_eq!(table(disk).unwrap_err(), GptError::SectorSize(7));
            continue;
        }
        let mut gpt = table(disk).unwrap();
        let sizes: &[(&str, u64)] = match disk["bootloader"].as_str().unwrap() {
            "grub" => &[("EFI", 100), ("BIOS", 1), ("BOOT", 1000)],
            _ => &[("EFI", 2101)],
        };
        let result =
            sizes.iter().try_for_each(|(name, mib)| gpt.allocate(name, Guid::LINUX_DATA, Some(mib << 20), 0).map(drop));
        let (last, mib) = sizes.last().unwrap();
        assert!(error.contains(&format!("partition {last}:")), "{error}");
        let expected = format!("gpt: partition {last:?}: no room for {} bytes", mib << 20);
        assert_eq!(result.unwrap_err().to_string(), expected);
    }
    assert_eq!(refused, 3);
}

#[test]
fn a_table_is_small_as_extents() {
    let mut gpt = Gpt::disk(Guid::of("disk"), 1 << 40, 4096, 0).unwrap();
    gpt.allocate("A", Guid::EFI_SYSTEM, Some(1 << 30), 0).unwrap();
    gpt.allocate("B", Guid::LINUX_DATA, None, 0).unwrap();
    let stored = gpt.head().encode().len() + gpt.tail().encode().len();
    assert!(stored < 1100, "{stored}");
}

#[test]
fn refusals_name_the_cause() {
    let gpt = || Gpt::disk(Guid::of("disk"), 8 << 20, 512, 0).unwrap();
    let partition = |name: &str, sectors| Partition {
        name: name.to_owned(),
        type_guid: Guid::LINUX_DATA,
        guid: Guid::of(name),
        sectors,
        attributes: 0,
    };
    let text = |result: Result<(), GptError>| result.unwrap_err().to_string();
    let last = (8 << 20) / 512 - 33;
    let mut table = gpt();
    table.add(partition("first", 2048..4096)).unwrap();
    for sectors in [2047..2050, 4095..4097, 2048..4096, 5000..5000, 5000..last + 1] {
        assert!(text(table.add(partition("x", sectors))).starts_with("gpt: partition \"x\": no room at sectors"));
    }
    table.add(partition("last", 4096..last)).unwrap();
    assert!(text(gpt().add(partition(&"n".repeat(37), 2048..2049))).contains("longer than 36 UTF-16 units"));
    let mut full = gpt();
    (0..128).for_each(|at| full.add(partition("p", 2048 + at..2049 + at)).unwrap());
    assert_eq!(
        text(full.add(partition("one more", 3000..3001))),
        "gpt: partition \"one more\": 128 partitions at most"
    );
    for (len, offset) in [(0, 0), (1 << 20, 0), (8 << 20, 20_000), (u64::MAX, u64::MAX)] {
        assert_eq!(Gpt::disk(Guid::of("disk"), len, 512, offset).unwrap_err(), GptError::TooSmall { len });
    }
    assert_eq!(Gpt::disk(Guid::of("disk"), 1 << 30, 511, 0).unwrap_err(), GptError::SectorSize(511));
}

proptest! {
    /// Whatever is asked for: no panic, no overlap, and head and tail keep off the partitions.
    #[test]
    fn partitions_keep_apart(
        len in 0u64..1 << 42,
        sector_size in prop::sample::select(vec![512u32, 520, 1024, 2048, 4096, 65536]),
        offset in 0u64..100_000,
        sizes in prop::collection::vec(prop::option::weighted(0.9, 0u64..1 << 34), 0..10),
    ) {
        let Ok(mut gpt) = Gpt::disk(Guid::of("disk"), len, sector_size, offset) else { return Ok(()) };
        let mut end = gpt.head().len();
        for size in sizes {
            if let Ok(range) = gpt.allocate("name", Guid::LINUX_DATA, size, 0) {
                prop_assert!(end <= range.start && range.start < range.end);
                end = range.end;
            }
        }
        prop_assert!(end <= gpt.tail_at());
        prop_assert!(gpt.tail_at() + gpt.tail().len() <= len);
    }
}
