//! What an ISO image is like, as lines that can be compared: of one that we serve, and of a recorded layout.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use conformance::run;
use serde_json::Value;

pub type Facts = BTreeSet<String>;

/// Texts that are compared letter by letter.
const TEXTS: [&str; 2] = ["boot/grub/grub.cfg", "loader/loader.conf"];
/// Sections that come with systemd's stub.
const OF_THE_STUB: [&str; 6] = [".text", ".rodata", ".data", ".sbat", ".sdmagic", ".reloc"];

/// Facts of a recorded layout.
pub fn recorded(layout: &Value) -> Result<Facts> {
    let mut facts = Facts::new();
    xorriso_facts(&strings(&layout["xorriso"]).join("\n"), &mut facts);
    for line in strings(&layout["tree"]) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [kind, mode, size, _, path] = words[..] else { continue };
        tree_fact(kind == "d", mode, path.trim_start_matches("./"), size, &mut facts);
    }
    for name in TEXTS {
        if let Some(text) = layout["texts"][name].as_str() {
            facts.insert(format!("text {name} {text:?}"));
        }
    }
    let fat = &layout["efi_fat"];
    if fat.is_null() {
        let small = &layout["efi_fat12_16"];
        facts.insert(format!("FAT type {}", small["type"].as_str().context("no type")?.trim()));
        return Ok(facts);
    }
    let text = |key: &str| fat[key].as_str().map(str::trim).with_context(|| format!("no {key}"));
    facts.insert(format!("FAT type {}", text("type")?));
    facts.insert(format!("FAT label {}", text("label")?));
    facts.insert(format!("FAT serial {}", text("volume_id")?));
    facts.insert(format!("FAT sectors of {}", fat["bytes_per_sector"]));
    mattrib_facts(&strings(&fat["mattrib"]).join("\n"), &mut facts);
    if let Some(conf) = fat["texts"]["loader/loader.conf"].as_str() {
        facts.insert(format!("FAT text loader/loader.conf {conf:?}"));
    }
    let sections = fat["uki_sections"].as_array().context("no UKI")?;
    let named = sections.iter().map(|s| (s[0].as_str().unwrap_or_default(), s[2].as_str().unwrap_or_default()));
    section_facts(named, &mut facts);
    Ok(facts)
}

/// Facts of an image whose tree was copied to `tree` and whose FAT image to `fat`; what `xorriso` said of it.
pub fn served(said: &str, tree: &Path, fat: &Path, arch: &str) -> Result<Facts> {
    let mut facts = Facts::new();
    xorriso_facts(said, &mut facts);
    for entry in walkdir::WalkDir::new(tree).min_depth(1) {
        let entry = entry?;
        let data = entry.metadata()?;
        let mode = format!("{:o}", data.permissions().mode() & 0o7777);
        let path = entry.path().strip_prefix(tree)?.to_str().context("a name")?;
        tree_fact(data.is_dir(), &mode, path, &data.len().to_string(), &mut facts);
    }
    for name in TEXTS {
        if let Ok(text) = std::fs::read_to_string(tree.join(name)) {
            facts.insert(format!("text {name} {text:?}"));
        }
    }
    let boot = std::fs::read(fat)?;
    let text = |at: usize, len: usize| String::from_utf8_lossy(&boot[at..at + len]).trim().to_owned();
    let number =
        |at: usize, len: usize| boot[at..at + len].iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
    if number(22, 2) != 0 {
        // Before FAT32 the fields are elsewhere.
        facts.insert(format!("FAT type {}", text(54, 8)));
        return Ok(facts);
    }
    facts.insert(format!("FAT type {}", text(82, 8)));
    facts.insert(format!("FAT label {}", text(71, 11)));
    facts.insert(format!("FAT serial {:#010x}", number(67, 4)));
    facts.insert(format!("FAT sectors of {}", number(11, 2)));
    mattrib_facts(&run::text(Command::new("mattrib").arg("-/").arg("-i").arg(fat).arg("::/"))?, &mut facts);
    let conf = run::text(Command::new("mtype").arg("-i").arg(fat).arg("::/loader/loader.conf"))?;
    facts.insert(format!("FAT text loader/loader.conf {conf:?}"));
    let uki = std::fs::read(uki(tree)?)?;
    let sections = sections(&uki, arch)?;
    let named = sections.iter().map(|(name, data)| (name.as_str(), std::str::from_utf8(data).unwrap_or_default()));
    section_facts(named, &mut facts);
    Ok(facts)
}

/// The UKI in a tree.
pub fn uki(tree: &Path) -> Result<std::path::PathBuf> {
    let found = std::fs::read_dir(tree.join("EFI/Linux"))?.next().context("no UKI")??;
    Ok(found.path())
}

/// Names and contents of a PE image's sections, in order (PE format, "Section Table").
pub fn sections<'a>(image: &'a [u8], arch: &str) -> Result<Vec<(String, &'a [u8])>> {
    let number = |at: usize, len: usize| -> Result<usize> {
        let bytes = image.get(at..at + len).context("the PE image is cut off")?;
        Ok(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    };
    let head = number(0x3c, 4)?;
    ensure!(image.get(head..head + 4) == Some(b"PE\0\0"), "no PE image");
    let machine = number(head + 4, 2)?;
    ensure!(machine == if arch == "arm64" { 0xaa64 } else { 0x8664 }, "for machine {machine:#x}");
    let table = head + 24 + number(head + 20, 2)?;
    (0..number(head + 6, 2)?)
        .map(|n| {
            let at = table + 40 * n;
            let name = image.get(at..at + 8).context("the PE image is cut off")?;
            let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
            let (len, from) = (number(at + 8, 4)?, number(at + 20, 4)?);
            Ok((name, image.get(from..from + len).context("a section is cut off")?))
        })
        .collect()
}

pub fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn tree_fact(folder: bool, mode: &str, path: &str, size: &str, facts: &mut Facts) {
    match (folder, path) {
        (true, ".") => {}
        (true, _) => drop(facts.insert(format!("folder {path} {mode}"))),
        // What is in these is of the release, or made anew; but the splash and the seed have lengths.
        (false, "boot/vmlinuz" | "loader/random-seed") => drop(facts.insert(format!("file {path} {mode} {size}"))),
        (false, _) => drop(facts.insert(format!("file {path} {mode}"))),
    }
}

/// Boot records, partitions and names, without places.
fn xorriso_facts(said: &str, facts: &mut Facts) {
    for line in said.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let words: Vec<&str> = value.split_whitespace().collect();
        let fact = match (key.trim(), &words[..]) {
            ("El Torito boot img", [n, platform, bootable, emulation, segment, _, sectors, _]) => {
                format!("boot image {n} {platform} {bootable} {emulation} {segment}, {sectors} sectors")
            }
            ("El Torito cat path" | "El Torito img path" | "El Torito img opts", _) => line.trim().to_owned(),
            ("System area summary", _) => line.trim().to_owned(),
            ("MBR partition", [n, status, kind, ..]) => format!("MBR partition {n} {status} {kind}"),
            ("GPT partname local", [n, name @ ..]) => format!("GPT partition {n} is called {}", name.join(" ")),
            ("GPT type GUID", [n, kind]) => format!("GPT partition {n} is a {kind}"),
            ("GPT partition flags", [n, flags]) => format!("GPT partition {n} has flags {flags}"),
            ("Volume Set Id" | "Publisher Id" | "Preparer Id" | "App Id" | "System Id", _)
            | ("Creation Time" | "Modif. Time" | "Expir. Time" | "Eff. Time", _) => line.trim().to_owned(),
            ("Volume Id", [id]) => format!("Volume Id: {}", id.trim_matches('\'')),
            _ => continue,
        };
        facts.insert(fact);
    }
}

fn mattrib_facts(said: &str, facts: &mut Facts) {
    for line in said.lines() {
        if let Some((flags, path)) = line.split_once("::/").filter(|(_, path)| !path.is_empty()) {
            let flags: String = flags.chars().filter(|c| !c.is_whitespace()).collect();
            facts.insert(format!("FAT file {path} {flags}"));
        }
    }
}

/// Which sections were added to the stub, and the texts of those that hold a line.
pub fn section_facts<'a>(sections: impl Iterator<Item = (&'a str, &'a str)>, facts: &mut Facts) {
    let mut names = Vec::new();
    for (name, text) in sections.filter(|(name, _)| !OF_THE_STUB.contains(name)) {
        names.push(name);
        if matches!(name, ".cmdline" | ".profile") {
            facts.insert(format!("UKI section {} {name} {text:?}", names.len()));
        }
    }
    facts.insert(format!("UKI sections {}", names.join(" ")));
}
