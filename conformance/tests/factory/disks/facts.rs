//! What a disk image is like, as lines that can be compared: of one that we serve, and of a recorded layout.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use conformance::{cache, qemu, run};
use serde_json::Value;
use walkdir::WalkDir;

use super::image::{Image, number};
use crate::media::facts::{Facts, section_facts, sections, strings};

/// The time of all files, in seconds since 1970, and as it is recorded.
const TIME: (i64, &str) = (1_559_424_892, "2019-06-01T21:34:52");

/// Fields of a FAT boot sector: recorded name, place, length; texts have length 0 here.
const FAT: [(&str, usize, usize); 19] = [
    ("bytes_per_sector", 11, 2),
    ("sectors_per_cluster", 13, 1),
    ("reserved", 14, 2),
    ("fats", 16, 1),
    ("media", 21, 1),
    ("sectors_per_track", 24, 2),
    ("heads", 26, 2),
    ("hidden", 28, 4),
    ("total_sectors", 32, 4),
    ("fat_sectors", 36, 4),
    ("flags", 40, 2),
    ("version", 42, 2),
    ("root_cluster", 44, 4),
    ("fsinfo", 48, 2),
    ("backup_boot", 50, 2),
    ("drive", 64, 1),
    ("volume_id", 67, 4),
    ("label", 71, 0),
    ("type", 82, 0),
];

/// Fields of an XFS superblock that follow from the lengths of a release's files.
const OF_THE_RELEASE: [&str; 2] = ["fdblocks =", "crc ="];

/// Facts of a recorded layout.
pub fn recorded(layout: &Value) -> Result<Facts> {
    let mut facts = Facts::new();
    facts.insert(format!("{} bytes", layout["size"]));
    let (mbr, gpt) = (&layout["mbr"], &layout["gpt"]);
    facts.insert(format!("boot code {}", text(&mbr["boot_code_sha256"])));
    facts.insert(format!("MBR {}", text(&mbr["partition_table"])));
    facts.insert(format!("GPT {}", text(&gpt["header_hex"])));
    let before = &layout["nonzero_before_first_partition"];
    let sectors = before.get("sectors_512").or(before.get("sectors")).unwrap_or(&Value::Null);
    facts.insert(format!("before the partitions: {sectors} sectors from {}", before["first_byte"]));
    facts.insert(format!("clusters of {}", layout["qcow2_info"]["cluster-size"]));
    facts.insert(format!("qcow2 {}", layout["qcow2_info"]["format-specific"]["data"]));
    for part in layout["partitions"].as_array().context("no partitions")? {
        let at = |key: &str| part[key].to_string().replace('"', "");
        let [name, kind, own, first, last] = ["name", "type", "guid", "first_lba", "last_lba"].map(at);
        facts.insert(format!("partition {name} {kind} {own} {first}-{last} {}", at("attributes")));
        let (fat, xfs) = (&part["fat"], &part["xfs"]);
        if fat.is_object() {
            recorded_fat(fat, &mut facts)?;
        }
        if let Some(list) = part["core"]["first_sector_blocklist_0x1f4"].as_str() {
            facts.insert(format!("core {} bytes", part["core"]["length"]));
            // What is to be read goes with the core's length: where it is, and where it goes to, do not.
            facts.insert(format!("core's rest at {} to {}", &list[..16], &list[20..]));
        }
        for line in strings(&xfs["superblock"]) {
            superblock_fact(line, &mut facts);
        }
        for line in strings(&xfs["files"]) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [kind, mode, owner, links, _, size, _, path] = words[..] else { continue };
            xfs_fact(kind == "d", path.trim_start_matches('.'), [mode, owner, links, size], &mut facts);
        }
        if let Some(menu) = xfs["grub.cfg"].as_str() {
            facts.insert(format!("XFS text grub.cfg {menu:?}"));
        }
        let dump = strings(&part["hexdump"]);
        if !dump.is_empty() {
            meta_facts(&undump(&dump)?, &mut facts)?;
        }
    }
    Ok(facts)
}

fn recorded_fat(fat: &Value, facts: &mut Facts) -> Result<()> {
    for (key, _, len) in FAT {
        match fat[key].as_str() {
            Some(text) if len == 0 => facts.insert(format!("FAT {key} {}", text.trim())),
            Some(text) => {
                facts.insert(format!("FAT {key} {}", u64::from_str_radix(text.trim_start_matches("0x"), 16)?))
            }
            None => facts.insert(format!("FAT {key} {}", fat[key])),
        };
    }
    for line in strings(&fat["files"]) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, time, path] = words[..] else { continue };
        facts.insert(format!("FAT file {} {time}", path.trim_start_matches("./")));
    }
    mattrib_facts(&strings(&fat["mattrib"]).join("\n"), facts);
    if let Some(conf) = fat["texts"]["loader/loader.conf"].as_str() {
        facts.insert(format!("FAT text loader.conf {conf:?}"));
    }
    let sections = fat["uki_sections"].as_array().into_iter().flatten();
    let named: Vec<_> = sections.map(|s| (text(&s[0]), text(&s[2]))).collect();
    if !named.is_empty() {
        section_facts(named.into_iter(), facts);
    }
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The bytes of a hexdump, up to the last line that is not one of zeros.
fn undump(lines: &[&str]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for line in lines {
        let mut words = line.split('|').next().unwrap_or_default().split_whitespace();
        let Some(at) = words.next().and_then(|at| usize::from_str_radix(at, 16).ok()) else { continue };
        bytes.resize(at, 0);
        for word in words {
            bytes.push(u8::from_str_radix(word, 16)?);
        }
    }
    Ok(bytes)
}

/// The values of a META partition; both copies must be whole.
fn meta_facts(partition: &[u8], facts: &mut Facts) -> Result<()> {
    const COPY: usize = 256 << 10;
    ensure!(partition.len() == 1 << 20, "META has {} bytes", partition.len());
    ensure!(partition[..COPY] == partition[COPY..2 * COPY], "copies differ");
    ensure!(partition[2 * COPY..].iter().all(|byte| *byte == 0), "more than two copies");
    let values = qemu::meta(partition)?;
    if values.is_empty() {
        ensure!(partition.iter().all(|byte| *byte == 0), "META without values is not empty");
        return Ok(());
    }
    let mut copy = partition[..COPY].to_vec();
    let sum: Vec<u8> = copy.splice(COPY - 36..COPY - 4, [0; 32]).collect();
    ensure!(cache::sha256(&copy) == hex::encode(sum), "META's checksum is wrong");
    facts.extend(values.into_iter().map(|(key, value)| format!("META {key} {value:?}")));
    Ok(())
}

fn superblock_fact(line: &str, facts: &mut Facts) {
    if line.contains(" = ") && !OF_THE_RELEASE.iter().any(|field| line.starts_with(field)) {
        facts.insert(format!("XFS {line}"));
    }
}

/// A file or folder: its path from `/`, mode, owner, links and size; the sizes of most are of the release.
fn xfs_fact(folder: bool, path: &str, [mode, owner, links, size]: [&str; 4], facts: &mut Facts) {
    let size = if folder || path.ends_with(".xz") { "" } else { size };
    facts.insert(format!(
        "XFS {} /{} {mode} {owner} {links} {size}",
        if folder { "folder" } else { "file" },
        path.trim_start_matches('/')
    ));
}

fn mattrib_facts(said: &str, facts: &mut Facts) {
    for line in said.lines() {
        if let Some((flags, path)) = line.split_once("::/").filter(|(_, path)| !path.is_empty()) {
            let flags: String = flags.chars().filter(|c| !c.is_whitespace()).collect();
            facts.insert(format!("FAT entry {path} {flags}"));
        }
    }
}

/// Where the parts of a disk were copied to.
pub struct Parts {
    /// The EFI partition, and its files.
    pub efi: (PathBuf, PathBuf),
    /// The BOOT partition and its files, where there is one.
    pub boot: Option<(PathBuf, PathBuf)>,
}

/// Facts of an image of which copies of its parts are in a folder.
pub fn served(image: &Image, parts: &Parts, folder: &Path, arch: &str) -> Result<Facts> {
    let mut facts = Facts::new();
    let info =
        run::text(Command::new("qemu-img").args(["info", "--output=json", "-f", image.format]).arg(&image.file))?;
    let info: Value = serde_json::from_str(&info)?;
    facts.insert(format!("{} bytes", info["virtual-size"]));
    facts.insert(format!("clusters of {}", info["cluster-size"]));
    facts.insert(format!("qcow2 {}", info["format-specific"]["data"]));
    let partitions = image.partitions()?;
    let sector = image.sector as usize;
    let mut head = image.read(0, partitions.first().context("no partitions")?.sectors[0] * sector as u64)?;
    facts.insert(format!("boot code {}", cache::sha256(&head[..440])));
    facts.insert(format!("MBR {}", hex::encode(&head[446..510])));
    facts.insert(format!("GPT {}", hex::encode(&head[sector..sector + 92])));
    // What is left without the table.
    let (at, entries) = image.entries()?;
    head[..2 * sector].fill(0);
    head[at as usize..at as usize + entries.len()].fill(0);
    let first = head.iter().position(|byte| *byte != 0).map_or("null".to_owned(), |at| at.to_string());
    let sectors = head.chunks(512).filter(|sector| sector.iter().any(|byte| *byte != 0)).count();
    facts.insert(format!("before the partitions: {sectors} sectors from {first}"));
    for part in &partitions {
        let ([kind, own], [first, last]) = (&part.guids, part.sectors);
        facts.insert(format!("partition {} {kind} {own} {first}-{last} {:#x}", part.name, part.attributes));
        let copied = folder.join(&part.name);
        match part.name.as_str() {
            "BIOS" => {
                image.partition("BIOS", &copied)?;
                let core = fs::read(&copied)?;
                let len = core.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                facts.insert(format!("core {len} bytes"));
                let list = hex::encode(&core[0x1f4..0x200]);
                facts.insert(format!("core's rest at {} to {}", &list[..16], &list[20..]));
            }
            "META" => {
                image.partition("META", &copied)?;
                meta_facts(&fs::read(&copied)?, &mut facts)?;
            }
            _ => {}
        }
    }
    served_fat(parts, arch, &mut facts)?;
    if let Some((volume, files)) = &parts.boot {
        for line in
            run::text(Command::new("xfs_db").args(["-r", "-f", "-c", "sb 0", "-c", "print"]).arg(volume))?.lines()
        {
            superblock_fact(line, &mut facts);
        }
        for entry in WalkDir::new(files) {
            let entry = entry?;
            let data = entry.metadata()?;
            let path = entry.path().strip_prefix(files)?.to_str().context("a name")?;
            ensure!(data.mtime() == TIME.0, "{path} is of {}", data.mtime());
            let mode = format!("{:o}", data.mode() & 0o7777);
            let owner = format!("{}:{}", data.uid(), data.gid());
            let (links, size) = (data.nlink().to_string(), data.len().to_string());
            xfs_fact(data.is_dir(), path, [&mode, &owner, &links, &size], &mut facts);
        }
        facts.insert(format!("XFS text grub.cfg {:?}", fs::read_to_string(files.join("grub/grub.cfg"))?));
    }
    Ok(facts)
}

fn served_fat(parts: &Parts, arch: &str, facts: &mut Facts) -> Result<()> {
    let (volume, files) = &parts.efi;
    let mut start = vec![0; 512];
    std::io::Read::read_exact(&mut fs::File::open(volume)?, &mut start)?;
    for (key, at, len) in FAT {
        let value = match len {
            0 => String::from_utf8_lossy(&start[at..at + if key == "label" { 11 } else { 8 }]).trim().to_owned(),
            _ => number(&start, at, len).to_string(),
        };
        facts.insert(format!("FAT {key} {value}"));
    }
    for entry in WalkDir::new(files) {
        let entry = entry?;
        let data = entry.metadata()?;
        if data.is_file() {
            let path = entry.path().strip_prefix(files)?.display();
            let time = if data.mtime() == TIME.0 { TIME.1.to_owned() } else { data.mtime().to_string() };
            facts.insert(format!("FAT file {path} {time}"));
        }
    }
    mattrib_facts(&run::text(Command::new("mattrib").arg("-/").arg("-i").arg(volume).arg("::/"))?, facts);
    if let Ok(conf) = fs::read_to_string(files.join("loader/loader.conf")) {
        facts.insert(format!("FAT text loader.conf {conf:?}"));
    }
    if files.join("EFI/Linux").is_dir() {
        let uki = fs::read(crate::media::facts::uki(files)?)?;
        let sections = sections(&uki, arch)?;
        section_facts(
            sections.iter().map(|(name, data)| (name.as_str(), std::str::from_utf8(data).unwrap_or_default())),
            facts,
        );
    }
    Ok(())
}
