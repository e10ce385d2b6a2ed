//! Every format and compression holds the same disk, on the smallest disk and on those of platforms with large ones.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use conformance::{cache, run};

use super::image::Image;
use super::layouts::{parts, sgdisk};
use crate::media::quiet;
use crate::world::World;

const EMPTY: &str = "customization: {}\n";
const ENDINGS: [&str; 4] = [".raw", ".qcow2", ".vhd", ".ova"];

/// Endings of compressions, what tests such a file and what unpacks it to standard output; `$1` stands for the file.
const COMPRESSIONS: [(&str, &str, &str); 4] = [
    (".xz", "xz -t \"$1\"", "xz -dc \"$1\""),
    (".zst", "zstd -q -t \"$1\"", "zstd -qdc \"$1\""),
    (".gz", "gzip -t \"$1\"", "gzip -dc \"$1\""),
    (".tar.gz", "tar -tzf \"$1\"", "tar -xzOf \"$1\""),
];

/// Lets Python's XML reader find what an OVF must hold (DSP0243, sections 7 to 9): one file and one disk by name, and the
/// disk in a drive.
const OVF: &str = r#"
import sys, xml.etree.ElementTree as tree
ovf = "{http://schemas.dmtf.org/ovf/envelope/1}"
item = "{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData}"
root = tree.parse(sys.argv[1]).getroot()
assert root.tag == ovf + "Envelope", root.tag
(file,) = root.find(ovf + "References")
(disk,) = root.find(ovf + "DiskSection").iter(ovf + "Disk")
assert disk.get(ovf + "fileRef") == file.get(ovf + "id")
system = root.find(ovf + "VirtualSystem")
assert system.get(ovf + "id")
items = system.find(ovf + "VirtualHardwareSection").findall(ovf + "Item")
kinds = {part.find(item + "InstanceID").text: part for part in items}
assert len(kinds) == len(items)
drives = [part for part in items if part.find(item + "ResourceType").text == "17"]
(drive,) = drives
assert drive.find(item + "HostResource").text == "ovf:/disk/" + disk.get(ovf + "diskId")
assert drive.find(item + "Parent").text in kinds
print(file.get(ovf + "href"), file.get(ovf + "size"), disk.get(ovf + "capacity"), disk.get(ovf + "capacityAllocationUnits"))
"#;

fn shell(script: &str, file: &Path) -> Result<String> {
    let mut bash = Command::new("bash");
    let said = run::text(bash.args(["-eo", "pipefail", "-c", script, "bash"]).arg(file).env("LC_ALL", "C.UTF-8"))?;
    Ok(said.trim().to_owned())
}

/// SHA-256 of a file, by a program that is faster than coreutils'.
fn sha256(file: &Path) -> Result<String> {
    let said = run::text(Command::new("openssl").args(["dgst", "-r", "-sha256"]).arg(file))?;
    Ok(said.split(' ').next().unwrap_or_default().to_owned())
}

/// What the factory says that an asset's SHA-256 is.
fn told(world: &World, path: &str) -> Result<String> {
    let line = world.get(&format!("{path}.sha256"))?.error_for_status()?.text()?;
    Ok(line.split(' ').next().unwrap_or_default().to_owned())
}

/// Programs read a disk in every format, and find what is in `raw`.
fn compare(raw: &Path, image: &Image) -> Result<()> {
    if matches!(image.format, "qcow2" | "vmdk") {
        let said =
            quiet(Command::new("qemu-img").args(["check", "-f", image.format]).arg(&image.file), &["rror:", "leak"])?;
        ensure!(said.contains("No errors were found"), "{said}");
    }
    let mut compare = Command::new("qemu-img");
    let said = run::text(compare.args(["compare", "-f", "raw", "-F", image.format]).arg(raw).arg(&image.file))?;
    ensure!(said.trim() == "Images are identical.", "{said}");
    Ok(())
}

/// An OVA's files are in its manifest, and its description is of the disk.
fn check_ova(archive: &Path, len: u64) -> Result<()> {
    let folder = tempfile::tempdir()?;
    run::output(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(folder.path()))?;
    shell(
        "cd \"$1\" && sed -nE 's/^SHA256\\((.*)\\)= (.*)$/\\2  \\1/p' disk.mf | sha256sum --strict -c",
        folder.path(),
    )?;
    let ovf = folder.path().join("disk.ovf");
    let said = run::text(Command::new("python3").args(["-c", OVF]).arg(&ovf))?;
    let size = fs::metadata(folder.path().join("disk.vmdk"))?.len();
    ensure!(said.trim() == format!("disk.vmdk {size} {} byte * 2^20", len >> 20), "{said}");
    Ok(())
}

#[test]
fn every_compression_of_every_format_is_the_same_file() {
    let world = World::start().unwrap();
    let folder = format!("/image/{}/v1.9.5", world.factory.post_schematic(EMPTY).unwrap());
    for ending in ENDINGS {
        let path = format!("{folder}/metal-amd64{ending}");
        let plain = world.download(&path, "plain").unwrap();
        assert_eq!(sha256(&plain).unwrap(), told(&world, &path).unwrap(), "{ending}");
        for (compression, test, unpack) in COMPRESSIONS {
            let path = format!("{path}{compression}");
            let packed = world.download(&path, "packed").unwrap();
            assert_eq!(sha256(&packed).unwrap(), told(&world, &path).unwrap(), "{path}");
            // What unpacks tests, too: once is enough for streams of the same kind.
            if ending == ".raw" || compression == ".tar.gz" {
                let said = shell(test, &packed).unwrap();
                assert_eq!(
                    said,
                    if compression == ".tar.gz" { format!("disk{ending}") } else { String::new() },
                    "{path}"
                );
            }
            shell(&format!("{unpack} | cmp - \"$(dirname \"$1\")/plain\""), &packed).unwrap();
        }
    }
}

#[test]
fn every_format_holds_the_same_disk() {
    let world = World::start().unwrap();
    let id = world.factory.post_schematic(EMPTY).unwrap();
    for (version, platform, len) in [
        ("v1.9.5", "metal-amd64", 1246 << 20),
        ("v1.9.5", "exoscale-amd64", 10_240 << 20),
        ("v1.13.2", "aws-amd64", (8192 + 1000 + 2001) << 20),
        ("v1.13.2", "vmware-arm64", (8192 + 1000) << 20),
    ] {
        let folder = format!("/image/{id}/{version}");
        let check = || -> Result<()> {
            let raw = Image::download(&world, &folder, platform, ".raw", 512)?;
            ensure!(fs::metadata(&raw.file)?.len() == len, "{} bytes", fs::metadata(&raw.file)?.len());
            sgdisk(&raw.file, 512)?;
            let copies = tempfile::tempdir()?;
            parts(&raw, copies.path())?;
            for ending in &ENDINGS[1..] {
                let image = Image::download(&world, &folder, platform, ending, 512)?;
                compare(&raw.file, &image).context(*ending)?;
                match image.format {
                    "vpc" => ensure!(fs::metadata(&image.file)?.len() == len + 512, "no fixed VHD"),
                    "vmdk" => check_ova(&world.at(&format!("{platform}.ova")), len)?,
                    _ => {}
                }
                fs::remove_file(&image.file)?;
            }
            Ok(fs::remove_file(&raw.file)?)
        };
        check().unwrap_or_else(|error| panic!("{version} {platform}: {error:?}"));
    }
}

/// A download that broke off goes on, and is written to a disk by the programs that people use for it.
#[test]
fn a_resumed_download_is_written_to_a_disk() {
    let world = World::start().unwrap();
    let id = world.factory.post_schematic(EMPTY).unwrap();
    let path = format!("/image/{id}/v1.9.5/metal-amd64.raw.xz");
    let whole = world.download(&path, "whole.raw.xz").unwrap();
    let digest = told(&world, path.trim_end_matches(".xz")).unwrap();
    let (resumed, disk) = (world.at("disk.raw.xz"), world.at("disk"));
    fs::write(&resumed, &fs::read(&whole).unwrap()[..7_654_321]).unwrap();
    let mut curl = Command::new("curl");
    curl.args(["-s", "-f", "-C", "-", "-w", "%{http_code}", "-o"]).arg(&resumed).arg(world.factory.url(&path));
    assert_eq!(run::text(&mut curl).unwrap(), "206");
    assert_eq!(cache::sha256_file(&resumed).unwrap(), cache::sha256_file(&whole).unwrap());
    for write in ["xz -dc \"$1\" | dd of=disk bs=4M conv=sparse status=none", "bmaptool -q copy --nobmap \"$1\" disk"] {
        shell(&format!("cd \"$(dirname \"$1\")\"; {write}"), &resumed).unwrap();
        assert_eq!(sha256(&disk).unwrap(), digest, "{write}");
        fs::remove_file(&disk).unwrap();
    }
}
