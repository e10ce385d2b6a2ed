//! Outside programs find nothing wrong with disk images, the files in them are those that are served by themselves, and
//! they look as the reference's, which were recorded.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use conformance::run;
use serde_json::Value;

use super::facts::{Parts, recorded, served};
use super::image::{Image, grub_reads, repair};
use crate::media::facts::Facts;
use crate::media::{check_uki, matches, quiet};
use crate::world::World;

/// Where our images differ from the recorded ones on purpose: part of the image's name, `-` for what only theirs have and
/// `+` for what only ours have, the fact (`*` stands for anything), and why.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    ("", "-core 160733 bytes", PARITY),
    ("", "+core 313344 bytes", PARITY),
    ("", "-FAT heads *", SHAPE),
    ("", "+FAT heads 255", SHAPE),
    ("", "-FAT sectors_per_track 32", SHAPE),
    ("", "+FAT sectors_per_track 63", SHAPE),
    ("", "-FAT total_sectors *", "theirs ends with a whole track, ours with the partition"),
    ("", "+FAT total_sectors *", "theirs ends with a whole track, ours with the partition"),
    ("", "-FAT sectors_per_cluster *", CLUSTERS),
    ("", "+FAT sectors_per_cluster *", CLUSTERS),
    ("", "-FAT fat_sectors *", CLUSTERS),
    ("", "+FAT fat_sectors *", CLUSTERS),
    ("", "-XFS features_incompat = 0x2b", FEATURES),
    ("", "-XFS features_incompat = 0xeb", FEATURES),
    ("", "+XFS features_incompat = 0xb", FEATURES),
    ("", "-XFS features_ro_compat = 0xf", FEATURES),
    ("", "+XFS features_ro_compat = 0xd", FEATURES),
    ("", "-XFS versionnum = *", "no inode of ours has attributes"),
    ("", "+XFS versionnum = *", "no inode of ours has attributes"),
    ("", "-XFS logstart = *", "without reverse mapping the log's group has a block less at its begin"),
    ("", "+XFS logstart = *", "without reverse mapping the log's group has a block less at its begin"),
    ("", "-XFS icount = 128", INODES),
    ("", "+XFS icount = 64", INODES),
    ("", "-XFS ifree = 120", INODES),
    ("", "+XFS ifree = 56", INODES),
    ("OV-", "-XFS icount = 256", INODES),
    ("OV-", "-XFS ifree = 243", INODES),
    ("OV-", "-XFS file /EFI/*", BOARD),
    ("OV-", "-XFS folder /*", BOARD),
    ("OV-", "+XFS folder / 755 0:0 4 ", BOARD),
    ("OV-", "+FAT file *", BOARD),
    ("OV-", "+FAT entry *", BOARD),
];

const PARITY: &str = "GRUB's core image starts with some of its sectors overwritten: parity follows it";
const SHAPE: &str = "the disk's shape as a BIOS saw it: nothing reads it";
const CLUSTERS: &str = "clusters of 4 KiB at most, and as many as FAT32 needs";
const FEATURES: &str = "features that GRUB knows since 2.06: theirs of 1.13 is not read by GRUB 2.12";
const INODES: &str = "all inodes in one chunk: few files have no use for a second group's";

const SCHEMATICS: &[(&str, &str)] = &[
    ("EMPTY", "customization: {}\n"),
    ("OV", "overlay:\n    image: siderolabs/sbc-mini\n    name: sbc-mini\n    options:\n        console: ttyS2\n"),
    (
        "OVSD",
        "overlay:\n    image: siderolabs/sbc-mini\n    name: sbc-mini\n    options:\n        console: ttyS2\n\
         customization:\n    bootloader: sd-boot\n",
    ),
    ("GRUB", "customization:\n    bootloader: grub\n"),
    ("SD", "customization:\n    bootloader: sd-boot\n"),
    ("K4", "customization:\n    diskImage:\n        sectorSize: 4096\n"),
    (
        "META",
        "customization:\n    meta:\n        - key: 10\n          value: |\n            addresses: []\n        - key: 12\n          \
         value: x\n    bootloader: dual-boot\n",
    ),
    (
        "THREE",
        "customization:\n    systemExtensions:\n        officialExtensions:\n            - siderolabs/hello\n            \
         - siderolabs/qemu-guest-agent\n            - siderolabs/dummy-driver\n",
    ),
];

const BOARD: &str = "a board's firmware reads the EFI partition: what an overlay installs there is of no use in BOOT";

/// What a recorded layout's name says.
struct Recorded {
    name: String,
    folder: String,
    platform: String,
    arch: &'static str,
    layout: Value,
}

fn layouts(world: &World) -> Result<Vec<Recorded>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/layouts/disk");
    let mut layouts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let file = entry?.path();
        let name = file.file_name().and_then(|name| name.to_str()).context("a name")?.trim_end_matches(".qcow2.json");
        let (schematic, rest) = name.split_once('-').context("no schematic")?;
        let Some((rest, arch)) = rest.rsplit_once('-') else { bail!("{name}") };
        let Some((version, platform)) = rest.rsplit_once('-') else { bail!("{name}") };
        let yaml = SCHEMATICS.iter().find(|(of, _)| *of == schematic).with_context(|| name.to_owned())?.1;
        layouts.push(Recorded {
            name: name.to_owned(),
            folder: format!("/image/{}/{version}", world.factory.post_schematic(yaml)?),
            platform: platform.to_owned(),
            arch: if arch == "arm64" { "arm64" } else { "amd64" },
            layout: serde_json::from_slice(&fs::read(&file)?)?,
        });
    }
    Ok(layouts)
}

/// Copies files out of the partitions while other programs check them.
pub fn parts(image: &Image, to: &Path) -> Result<Parts> {
    let efi = (to.join("EFI.img"), to.join("EFI"));
    image.partition("EFI", &efi.0)?;
    quiet(Command::new("fsck.vfat").arg("-n").arg(&efi.0), &["ifference", "ree cluster summary", "Bad", "Orphan"])?;
    fs::create_dir_all(&efi.1)?;
    let mut mcopy = Command::new("mcopy");
    run::output(mcopy.args(["-s", "-n", "-m", "-i"]).arg(&efi.0).arg("::/*").arg(&efi.1).env("TZ", "UTC"))?;
    if !image.partitions()?.iter().any(|partition| partition.name == "BOOT") {
        return Ok(Parts { efi, boot: None });
    }
    let boot = (to.join("BOOT.img"), to.join("BOOT"));
    image.partition("BOOT", &boot.0)?;
    repair(&boot.0)?;
    // Linux copies what it sees; GRUB must see the same.
    let mounted = to.join("mounted");
    fs::create_dir_all(&mounted)?;
    run::output(Command::new("mount").args(["-t", "xfs", "-o", "ro,loop,norecovery"]).arg(&boot.0).arg(&mounted))?;
    let copied = run::output(Command::new("cp").arg("-aT").arg(&mounted).arg(&boot.1));
    run::output(Command::new("umount").arg(&mounted))?;
    copied?;
    for path in ["A/vmlinuz", "A/initramfs.xz", "grub/grub.cfg"] {
        grub_reads(&boot.0, path, &boot.1.join(path))?;
    }
    Ok(Parts { efi, boot: Some(boot) })
}

/// The files in the partitions are those that are served by themselves.
fn check_files(world: &World, of: &Recorded, parts: &Parts) -> Result<()> {
    let fetch = |path: &str| world.download(&format!("{}/{path}", of.folder), &format!("{}-{path}", of.name));
    let kernel = fetch(&format!("kernel-{}", of.arch))?;
    let initramfs = fetch(&format!("initramfs-{}.xz", of.arch))?;
    let same = |one: &Path, other: &Path| run::output(Command::new("cmp").arg(one).arg(other)).map(drop);
    if let Some((_, files)) = &parts.boot {
        same(&files.join("A/vmlinuz"), &kernel)?;
        same(&files.join("A/initramfs.xz"), &initramfs)?;
        run::output(Command::new("grub-script-check").arg(files.join("grub/grub.cfg")))?;
    }
    let efi = &parts.efi.1;
    let (kind, loader) =
        if of.arch == "arm64" { ("--is-arm64-efi", "BOOTAA64.efi") } else { ("--is-x86_64-efi", "BOOTX64.efi") };
    run::output(Command::new("grub-file").arg(kind).arg(efi.join("EFI/boot").join(loader)))?;
    if efi.join("EFI/Linux").is_dir() {
        check_uki(&crate::media::facts::uki(efi)?, of.arch, &kernel, &initramfs)?;
    }
    Ok(())
}

/// Everything about one image; gives its facts.
fn inspect(world: &World, of: &Recorded, to: &Path) -> Result<Facts> {
    fs::create_dir_all(to)?;
    let sector = of.layout["sector_size"].as_u64().context("no sector size")? as u32;
    let image = Image::download(world, &of.folder, &format!("{}-{}", of.platform, of.arch), ".qcow2", sector)?;
    quiet(Command::new("qemu-img").args(["check", "-q"]).arg(&image.file), &["rror", "leak"])?;
    let raw = to.join("disk.raw");
    run::output(Command::new("qemu-img").args(["convert", "-O", "raw"]).arg(&image.file).arg(&raw))?;
    sgdisk(&raw, sector)?;
    fs::remove_file(&raw)?;
    let parts = parts(&image, to)?;
    check_files(world, of, &parts)?;
    let facts = served(&image, &parts, to, of.arch)?;
    fs::remove_file(&image.file)?;
    Ok(facts)
}

/// Lets `sgdisk` check a partition table, on a device with sectors of such a length where they are not of 512 bytes.
pub fn sgdisk(raw: &Path, sector: u32) -> Result<()> {
    let device: PathBuf = if sector == 512 {
        raw.to_owned()
    } else {
        let mut losetup = Command::new("losetup");
        let shown = run::text(losetup.args(["-r", "-f", "--show", "-b", &sector.to_string()]).arg(raw))?;
        shown.trim().into()
    };
    let said = quiet(Command::new("sgdisk").arg("-v").arg(&device), &["roblem:", "ERROR", "Caution"]);
    if sector != 512 {
        run::output(Command::new("losetup").arg("-d").arg(&device))?;
    }
    ensure!(said?.contains("No problems found"), "sgdisk");
    Ok(())
}

#[test]
fn disk_images_are_whole_and_look_as_recorded() {
    let world = World::start().unwrap();
    let (mut wrong, mut used) = (Vec::new(), vec![false; DIFFERENCES.len()]);
    let layouts = layouts(&world).unwrap();
    assert_eq!(layouts.len(), 16);
    for of in layouts {
        let to = world.at(&format!("{}.d", of.name));
        let ours = inspect(&world, &of, &to).unwrap_or_else(|error| panic!("{}: {error:?}", of.name));
        let theirs = recorded(&of.layout).unwrap();
        let only = |sign: char, one: &Facts, other: &Facts| -> Vec<String> {
            one.difference(other).map(|fact| format!("{sign}{fact}")).collect()
        };
        for fact in only('-', &theirs, &ours).into_iter().chain(only('+', &ours, &theirs)) {
            let row =
                DIFFERENCES.iter().position(|(part, pattern, _)| of.name.contains(part) && matches(pattern, &fact));
            match row {
                Some(at) => used[at] = true,
                None => wrong.push(format!("{}: {fact}", of.name)),
            }
        }
        fs::remove_dir_all(to).unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let idle: Vec<_> = DIFFERENCES.iter().zip(used).filter(|(_, used)| !used).map(|(row, _)| row).collect();
    assert!(idle.is_empty(), "rows of the table that nothing needs: {idle:?}");
}
