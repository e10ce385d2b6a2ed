//! Disk images boot, and Linux writes into their BOOT partition.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use conformance::qemu::{Firmware, Medium};

use super::image::{Image, grub_reads, repair};
use crate::booted::{Model, SCHEMATIC};
use crate::world::World;

/// What is booted how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Combination {
    arch: &'static str,
    ending: &'static str,
    version: &'static str,
    firmware: Firmware,
    loader: &'static str,
    sector: u32,
}

const ENDINGS: [&str; 4] = [".raw", ".qcow2", ".vhd", ".ova"];
const VERSIONS: [&str; 4] = ["v1.9.5", "v1.10.7", "v1.12.1", "v1.13.2"];
const FIRMWARES: [Firmware; 2] = [Firmware::Bios, Firmware::Uefi];
const LOADERS: [&str; 3] = ["dual-boot", "sd-boot", "grub"];
const SECTORS: [u32; 2] = [512, 4096];

/// The value of META's key 10.
const VALUE: &str = "a value, in the end";

/// Every possible pair of values is in one row at least; the first half and the second are tests of their own.
#[rustfmt::skip]
const PAIRS: [(&str, &str, Firmware, &str, u32); 16] = [
    (".raw",   "v1.9.5",  Firmware::Bios, "dual-boot", 512),
    (".raw",   "v1.10.7", Firmware::Uefi, "sd-boot",   4096),
    (".raw",   "v1.12.1", Firmware::Uefi, "grub",      4096),
    (".raw",   "v1.13.2", Firmware::Uefi, "dual-boot", 4096),
    (".qcow2", "v1.9.5",  Firmware::Uefi, "sd-boot",   4096),
    (".qcow2", "v1.10.7", Firmware::Uefi, "grub",      4096),
    (".qcow2", "v1.12.1", Firmware::Uefi, "sd-boot",   512),
    (".qcow2", "v1.13.2", Firmware::Bios, "dual-boot", 512),
    (".vhd",   "v1.9.5",  Firmware::Uefi, "grub",      4096),
    (".vhd",   "v1.10.7", Firmware::Bios, "grub",      512),
    (".vhd",   "v1.12.1", Firmware::Bios, "dual-boot", 512),
    (".vhd",   "v1.13.2", Firmware::Uefi, "sd-boot",   4096),
    (".ova",   "v1.9.5",  Firmware::Uefi, "grub",      512),
    (".ova",   "v1.10.7", Firmware::Bios, "dual-boot", 512),
    (".ova",   "v1.12.1", Firmware::Uefi, "sd-boot",   4096),
    (".ova",   "v1.13.2", Firmware::Uefi, "grub",      4096),
];

fn pairs() -> Vec<Combination> {
    let row = |(ending, version, firmware, loader, sector)| Combination {
        arch: "amd64",
        ending,
        version,
        firmware,
        loader,
        sector,
    };
    PAIRS.map(row).to_vec()
}

/// Everything that can boot: BIOSes know neither systemd-boot nor other sectors than those of 512 bytes, arm64 neither
/// BIOSes nor two boot loaders on a disk. The formats of its disks are those of amd64.
fn all() -> Vec<Combination> {
    let mut all = Vec::new();
    for arch in ["amd64", "arm64"] {
        for ending in ENDINGS {
            for version in VERSIONS {
                for firmware in FIRMWARES {
                    for loader in LOADERS {
                        for sector in SECTORS {
                            let bios = firmware == Firmware::Bios;
                            let impossible = (bios && (loader == "sd-boot" || sector != 512))
                                || (arch == "arm64" && (bios || loader == "dual-boot" || ending != ".raw"));
                            if !impossible {
                                all.push(Combination { arch, ending, version, firmware, loader, sector });
                            }
                        }
                    }
                }
            }
        }
    }
    all
}

impl fmt::Display for Combination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let firmware = if self.firmware == Firmware::Bios { "bios" } else { "uefi" };
        let Self { arch, ending, version, loader, sector, .. } = self;
        write!(f, "{arch} {ending} {version} {firmware} {loader} {sector}")
    }
}

impl Combination {
    /// Pairs of values of different kinds.
    fn pairs(&self) -> BTreeSet<[String; 2]> {
        let values = [
            self.ending.to_owned(),
            self.version.to_owned(),
            format!("{:?}", self.firmware),
            self.loader.to_owned(),
            self.sector.to_string(),
        ];
        let pairs = |n: usize| values[n + 1..].iter().map(move |other| (n, other.clone()));
        (0..values.len()).flat_map(pairs).map(|(n, other)| [values[n].clone(), other]).collect()
    }

    /// The whole kernel command line.
    fn cmdline(&self) -> String {
        let loaded = self.loader == "grub" || self.firmware == Firmware::Bios;
        let (loaded, console) = (
            if loaded { "BOOT_IMAGE=/A/vmlinuz " } else { "" },
            if self.arch == "arm64" { "ttyAMA0" } else { "ttyS0" },
        );
        let rest = match self.version {
            "v1.9.5" => "ima_template=ima-ng ima_appraise=fix ima_hash=sha512",
            "v1.10.7" => "ima_template=ima-ng ima_appraise=fix ima_hash=sha512 selinux=1",
            "v1.12.1" => "selinux=1 module.sig_enforce=1",
            _ => "selinux=1 module.sig_enforce=1 proc_mem.force_override=never",
        };
        format!(
            "{loaded}talos.platform=metal console={console} init_on_alloc=1 pti=on consoleblank=0 \
             nvme_core.io_timeout=4294967295 printk.devkmsg=on {rest}"
        )
    }

    /// The partitions that Linux finds.
    fn partitions(&self) -> Vec<(String, u32)> {
        let names: &[&str] = if self.loader == "sd-boot" { &["EFI", "META"] } else { &["EFI", "BIOS", "BOOT", "META"] };
        names.iter().map(|name| ((*name).to_owned(), self.sector)).collect()
    }

    /// What META holds: since 1.10 Talos learns there that the disk has two boot loaders.
    fn meta(&self) -> Vec<(u32, String)> {
        let ours = (self.loader == "dual-boot" && self.version != "v1.9.5").then(|| (17, "dual-boot".to_owned()));
        [(10, VALUE.to_owned())].into_iter().chain(ours).collect()
    }

    /// Boots; then what Linux wrote is in a BOOT partition that is whole.
    fn boots(&self) -> Result<()> {
        let world = World::start()?;
        let schematic = SCHEMATIC.replace("ttyS0", if self.arch == "arm64" { "ttyAMA0" } else { "ttyS0" });
        let schematic = format!(
            "{schematic}    bootloader: {}\n    diskImage:\n        sectorSize: {}\n    meta:\n        - key: 10\n          \
             value: {VALUE}\n",
            self.loader, self.sector
        );
        let model = Model::post(&world, &schematic, self.version, self.arch)?;
        let folder = format!("/image/{}/{}", model.id, self.version);
        let image = Image::download(&world, &folder, &format!("metal-{}", self.arch), self.ending, self.sector)?;
        let image = image.writable()?;
        let medium = Medium::Disk(&image.file, image.format, self.sector);
        let console = model.boots(self.firmware, medium, &self.cmdline())?;
        ensure!(console.partitions == self.partitions(), "partitions: {:?}", console.partitions);
        ensure!(console.meta.as_ref() == Some(&self.meta()), "META: {:?}", console.meta);
        if self.loader != "sd-boot" {
            let (volume, written) = (world.at("boot.img"), world.at("written"));
            image.partition("BOOT", &volume)?;
            repair(&volume)?;
            fs::write(&written, "written by Linux\n")?;
            grub_reads(&volume, "A/written", &written)?;
        }
        Ok(())
    }
}

/// Boots all, and gives what went wrong.
fn boot(combinations: &[Combination], at_once: usize) -> Vec<String> {
    let (rest, wrong) = (Mutex::new(combinations.iter()), Mutex::new(Vec::new()));
    let next = || rest.lock().ok()?.next();
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(combination) = next() {
                    let start = Instant::now();
                    let done = combination.boots().with_context(|| combination.to_string());
                    let how = done.as_ref().map_or_else(|error| format!("{error:?}"), |()| "ok".to_owned());
                    println!("{combination}: {:.0?}, {how}", start.elapsed());
                    if let (Err(_), Ok(mut wrong)) = (done, wrong.lock()) {
                        wrong.push(how);
                    }
                }
            });
        }
    });
    wrong.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[test]
fn the_table_holds_every_possible_pair() {
    let covered = |combinations: &[Combination]| -> BTreeSet<[String; 2]> {
        combinations.iter().flat_map(Combination::pairs).collect()
    };
    let all: Vec<Combination> = all().into_iter().filter(|combination| combination.arch == "amd64").collect();
    assert_eq!((covered(&pairs()), all.len()), (covered(&all), 128));
    assert!(pairs().iter().all(|row| all.contains(row)));
}

#[test]
fn disks_boot_first_half() {
    let wrong = boot(&pairs()[..8], 1);
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn disks_boot_second_half() {
    let wrong = boot(&pairs()[8..], 1);
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn a_disk_boots_on_arm64() {
    let (arch, ending, version, firmware) = ("arm64", ".raw", "v1.13.2", Firmware::Uefi);
    Combination { arch, ending, version, firmware, loader: "sd-boot", sector: 512 }.boots().unwrap();
}

#[test]
#[ignore = "takes an hour: conformance/boots runs it"]
fn every_combination_boots() {
    // Only those that have all of these values.
    let words = std::env::var("COMBINATIONS").unwrap_or_default();
    let wanted = |one: &Combination| words.split_whitespace().all(|word| one.to_string().split(' ').any(|v| v == word));
    let chosen: Vec<Combination> = all().into_iter().filter(wanted).collect();
    assert!(!chosen.is_empty(), "no combination has {words:?}");
    println!("{} combinations", chosen.len());
    let wrong = boot(&chosen, 2);
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
