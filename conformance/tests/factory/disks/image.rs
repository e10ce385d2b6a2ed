//! A disk image in a file, in whatever format: its partitions, and what other programs say of each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use conformance::{packages, run};
use serde_json::json;

use crate::world::World;

/// A disk image in a file.
#[derive(Clone, Debug)]
pub struct Image {
    /// The file.
    pub file: PathBuf,
    /// QEMU's name of its format.
    pub format: &'static str,
    /// Bytes a sector.
    pub sector: u32,
}

/// A partition by its entry in the table (UEFI 2.10, 5.3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its name.
    pub name: String,
    /// Its type's GUID and its own, as they are written.
    pub guids: [String; 2],
    /// First and last sector.
    pub sectors: [u64; 2],
    /// Attributes.
    pub attributes: u64,
}

impl Image {
    /// Downloads an image by its path: `<platform>-<arch>` and `.raw`, `.qcow2`, `.vhd` or `.ova`. Formats in which no
    /// room is saved come compressed. Of an OVA it is the disk that counts.
    pub fn download(world: &World, folder: &str, platform: &str, ending: &str, sector: u32) -> Result<Self> {
        let name = format!("{platform}{ending}");
        let fetch = |ending: &str| world.download(&format!("{folder}/{name}{ending}"), &format!("{name}{ending}"));
        let unpack = || -> Result<PathBuf> {
            let packed = fetch(".zst")?;
            run::output(Command::new("zstd").args(["-q", "-d", "-f", "--rm"]).arg(&packed))?;
            Ok(packed.with_extension(""))
        };
        let (file, format) = match ending {
            ".raw" => (unpack()?, "raw"),
            ".vhd" => (unpack()?, "vpc"),
            ".qcow2" => (fetch("")?, "qcow2"),
            ".ova" => {
                let archive = fetch("")?;
                let mut tar = Command::new("tar");
                run::output(tar.arg("-xf").arg(&archive).arg("disk.vmdk").current_dir(world.folder.path()))?;
                (world.at("disk.vmdk"), "vmdk")
            }
            _ => bail!("no format {ending}"),
        };
        Ok(Self { file, format, sector })
    }

    /// An image to which can be written; what is written does not go into this file where its format takes no writes.
    pub fn writable(self) -> Result<Self> {
        if self.format != "vmdk" {
            return Ok(self);
        }
        let file = self.file.with_extension("written");
        let mut create = Command::new("qemu-img");
        create.args(["create", "-q", "-f", "qcow2", "-F", self.format, "-b"]).arg(&self.file).arg(&file);
        run::output(&mut create)?;
        Ok(Self { file, format: "qcow2", ..self })
    }

    /// Copies a range of the disk's bytes out.
    pub fn copy(&self, start: u64, len: u64, to: &Path) -> Result<()> {
        let file = json!({ "driver": "file", "filename": self.file });
        let disk = json!({ "driver": self.format, "file": file });
        let range = json!({ "driver": "raw", "offset": start, "size": len, "file": disk });
        let mut convert = Command::new("qemu-img");
        convert.args(["convert", "-O", "raw", &format!("json:{range}")]).arg(to);
        run::output(&mut convert).map(drop)
    }

    /// A copy of a range of the disk's bytes.
    pub fn read(&self, start: u64, len: u64) -> Result<Vec<u8>> {
        let file = self.file.with_extension("range");
        self.copy(start, len, &file)?;
        Ok(fs::read(&file)?)
    }

    /// Where the table's entries are, and all their bytes.
    pub fn entries(&self) -> Result<(u64, Vec<u8>)> {
        let sector = u64::from(self.sector);
        let header = self.read(sector, sector)?;
        ensure!(header.starts_with(b"EFI PART"), "no partition table for sectors of {sector} bytes");
        let [at, count, size] = [(72, 8), (80, 4), (84, 4)].map(|(at, len)| number(&header, at, len));
        ensure!(size == 128, "entries of {size} bytes");
        Ok((at * sector, self.read(at * sector, count * size)?))
    }

    /// The partitions.
    pub fn partitions(&self) -> Result<Vec<Partition>> {
        let (_, entries) = self.entries()?;
        entries.chunks(128).filter(|entry| number(entry, 0, 8) != 0).map(partition).collect()
    }

    /// Copies a partition out.
    pub fn partition(&self, name: &str, to: &Path) -> Result<()> {
        let found = self.partitions()?.into_iter().find(|partition| partition.name == name);
        let [first, last] = found.with_context(|| format!("no partition {name}"))?.sectors;
        let sector = u64::from(self.sector);
        self.copy(first * sector, (last + 1 - first) * sector, to)
    }
}

/// A little-endian number; 0 where it is cut off.
pub fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes.get(at..at + len).into_iter().flatten().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn partition(entry: &[u8]) -> Result<Partition> {
    let guid = |at: usize| {
        let last: String = entry[at + 8..at + 16].iter().map(|byte| format!("{byte:02X}")).collect();
        let (one, two, three) = (number(entry, at, 4), number(entry, at + 4, 2), number(entry, at + 6, 2));
        format!("{one:08X}-{two:04X}-{three:04X}-{}-{}", &last[..4], &last[4..])
    };
    let name: Vec<u16> =
        (56..128).step_by(2).map(|at| number(entry, at, 2) as u16).take_while(|unit| *unit > 0).collect();
    Ok(Partition {
        name: String::from_utf16(&name)?,
        guids: [guid(0), guid(16)],
        sectors: [number(entry, 32, 8), number(entry, 40, 8)],
        attributes: number(entry, 48, 8),
    })
}

/// Lets `xfs_repair`, the machine's and a newer one, check a volume: they must have nothing to say but what they are
/// doing, and that they do not know the sectors of the disk below.
pub fn repair(volume: &Path) -> Result<()> {
    const DOING: [&str; 6] = [
        "Phase ",
        "        - ",
        "No modify flag set, skipping ",
        "Cannot get host filesystem geometry.",
        "Repair may fail if there is a sector size mismatch between",
        "the image and the host filesystem.",
    ];
    for mut command in [Command::new("xfs_repair"), packages::unpacked()?.xfs_repair()?] {
        let done = command.args(["-n", "-f"]).arg(volume).output()?;
        let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        let strange: Vec<&str> =
            said.lines().filter(|line| !DOING.iter().any(|doing| line.starts_with(doing))).collect();
        ensure!(done.status.success() && strange.is_empty(), "{command:?}: {strange:?}\n{said}");
        ensure!(said.contains("Phase 7 - verify link counts..."), "{command:?}: {said}");
    }
    Ok(())
}

/// GRUB must find these bytes in a file of a volume.
pub fn grub_reads(volume: &Path, path: &str, file: &Path) -> Result<()> {
    let mut grub = Command::new("grub-fstest");
    let said = run::text(grub.arg(volume).args(["cmp", &format!("(loop0)/{path}")]).arg(file))?;
    ensure!(said.is_empty(), "{path}: {said}");
    Ok(())
}
