//! The peer that makes images: `operator.sh` over the standard tools. Its inputs, its runs, and whether it made the same.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::world::{EXTENSIONS, VERSION, World};
use crate::oci::{blob_path, unpack};
use crate::release::Release;
use crate::{packages, run};

const ARCHES: [&str; 2] = ["amd64", "arm64"];

/// The operator with all inputs on the local disk.
pub struct Operator {
    script: PathBuf,
    inputs: PathBuf,
    folder: PathBuf,
    ukify: String,
    runs: usize,
}

impl Operator {
    /// Lays the inputs out below `folder`: files of the imager, layers of the extensions, the base installer.
    pub fn prepare(release: &Release, folder: &Path) -> Result<Self> {
        let inputs = folder.join("inputs");
        let imager = folder.join("imager");
        release.unpack("siderolabs/imager", VERSION, "amd64", &imager)?;
        for arch in ARCHES {
            fs::create_dir_all(inputs.join(arch))?;
            for name in ["vmlinuz", "initramfs.xz", "systemd-stub.efi", "systemd-boot.efi"] {
                fs::rename(imager.join("usr/install").join(arch).join(name), inputs.join(arch).join(name))?;
            }
            for (n, name) in EXTENSIONS.iter().enumerate() {
                let repository = format!("siderolabs/{name}");
                let mut tags = release.manifest().images.iter();
                let tag = tags.find(|tag| tag.repository == repository && !tag.tag.ends_with("-old"));
                let tag = tag.with_context(|| format!("the release has no {repository}"))?;
                let manifest = unpack::manifest(&release.layout(), &tag.descriptor.digest, arch)?;
                let layers = inputs.join(arch).join(format!("extensions/{n}-{name}"));
                fs::create_dir_all(&layers)?;
                for (k, layer) in manifest["layers"].as_array().into_iter().flatten().enumerate() {
                    let digest = layer["digest"].as_str().context("a layer without a digest")?;
                    let blob = blob_path(&release.layout(), digest.trim_start_matches("sha256:"));
                    symlink(blob, layers.join(format!("{k}.tar")))?;
                }
            }
        }
        let mut command = Command::new("skopeo");
        command.args(["copy", "--quiet", "--all", "--preserve-digests"]);
        command.arg(format!("oci:{}:siderolabs/installer-base:{VERSION}", release.layout().display()));
        run::output(command.arg(format!("oci:{}:base", inputs.join("base").display())))?;
        let script = folder.join("operator.sh");
        fs::write(&script, include_str!("operator.sh"))?;
        let ukify = packages::unpacked()?.ukify()?;
        let words = std::iter::once(ukify.get_program()).chain(ukify.get_args());
        let ukify = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        Ok(Self { script, inputs, folder: folder.to_owned(), ukify, runs: 0 })
    }

    /// Makes an image of these architectures and pushes it: how long it took.
    pub fn installer(&mut self, arches: &str, destination: &str) -> Result<Duration> {
        self.run("installer", arches, destination)
    }

    /// Makes an ISO image: how long it took.
    pub fn iso(&mut self, arch: &str, destination: &Path) -> Result<Duration> {
        self.run("iso", arch, &destination.display().to_string())
    }

    /// Makes a disk image in the format that the name ends with: how long it took.
    pub fn disk(&mut self, arch: &str, destination: &Path) -> Result<Duration> {
        self.run("disk", arch, &destination.display().to_string())
    }

    fn run(&mut self, kind: &str, arches: &str, destination: &str) -> Result<Duration> {
        // What the run before left behind is not in this one's way, neither is its writing to the disk.
        let work = |n: usize| self.folder.join(format!("run{n}"));
        if let Some(last) = self.runs.checked_sub(1).map(work).filter(|last| last.exists()) {
            fs::remove_dir_all(last)?;
        }
        let mut command = Command::new("bash");
        command.arg(&self.script).arg(kind).arg(&self.inputs).arg(work(self.runs)).arg(arches).arg(destination);
        command.env("UKIFY", &self.ukify);
        self.runs += 1;
        run::output(&mut Command::new("sync"))?;
        let start = Instant::now();
        run::output(&mut command)?;
        Ok(start.elapsed())
    }
}

/// What an initramfs holds: the files of each extension's image, and the text of the index over modules.
#[derive(Debug, PartialEq, Eq)]
struct Contents {
    images: BTreeMap<String, Vec<String>>,
    modules_dep: String,
}

/// Holds a pulled image of ours against one that the operator made: the same files in the same extensions' images, and
/// the same index over modules, in both architectures.
pub fn same(world: &World, ours: &str, theirs: &str) -> Result<()> {
    for arch in ARCHES {
        let mut found = Vec::new();
        for (name, image) in [("ours", ours), ("theirs", theirs)] {
            let to = world.at(&format!("compared/{name}-{arch}"));
            crate::demo::pull(image, arch, &to)?;
            let uki = to.join("root/usr/install").join(arch).join("vmlinuz.efi");
            let initrd = section(&fs::read(&uki)?, ".initrd").with_context(|| format!("{name}, {arch}: {uki:?}"))?;
            found.push(contents(&initrd, &to).with_context(|| format!("{name}, {arch}"))?);
        }
        ensure!(found.first() == found.last(), "{arch}: ours holds other files than the operator's: {found:?}");
        fs::remove_dir_all(world.at("compared"))?;
    }
    Ok(())
}

/// The bytes of a section of a PE image (Microsoft's "PE Format": the COFF header, then the table of sections).
fn section(image: &[u8], name: &str) -> Result<Vec<u8>> {
    let short = |at: usize| image.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes).map(usize::from);
    let long = |at: usize| image.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes).map(|value| value as usize);
    let find = || {
        let coff = long(0x3c)? + 4;
        let table = coff + 20 + short(coff + 16)?;
        let mut heads = (0..short(coff + 2)?).map(|n| table + 40 * n);
        let head = heads.find(|head| {
            let found = image.get(*head..head + 8).unwrap_or_default();
            found.iter().copied().filter(|byte| *byte != 0).eq(name.bytes())
        })?;
        let (size, start) = (long(head + 8)?, long(head + 20)?);
        image.get(start..start + size)
    };
    Ok(find().with_context(|| format!("it has no section {name}"))?.to_vec())
}

fn contents(initrd: &[u8], scratch: &Path) -> Result<Contents> {
    let members = members(initrd)?;
    let mut images = BTreeMap::new();
    let mut modules_dep = String::new();
    for (name, bytes) in members.iter().filter(|(name, _)| name.ends_with(".sqsh") && *name != "rootfs.sqsh") {
        let image = scratch.join(name);
        fs::write(&image, bytes)?;
        let list = run::text(Command::new("unsquashfs").arg("-l").arg(&image))?;
        // The name of the schematic's own file is its ID.
        let files = list.lines().filter(|line| line.starts_with("squashfs-root") && !line.contains("/schematic/"));
        let mut files: Vec<String> = files.map(str::to_owned).collect();
        files.sort();
        if name == "modules.dep.sqsh" {
            let path = files.iter().find(|path| path.ends_with("/modules.dep")).context("no modules.dep")?;
            let path = path.trim_start_matches("squashfs-root/");
            modules_dep = run::text(Command::new("unsquashfs").arg("-cat").arg(&image).arg(path))?;
            // Versions of depmod differ in which indexes they write beside it.
            files.retain(|path| path.ends_with("/modules.dep") || path.ends_with("/modules.alias"));
        }
        images.insert(name.clone(), files);
    }
    ensure!(images.len() == EXTENSIONS.len() + 2, "the images in it are {:?}", images.keys());
    ensure!(members.contains_key("extensions.yaml"), "it has no extensions.yaml");
    ensure!(modules_dep.contains("/dummy.ko:"), "its modules.dep does not name the extension's module");
    Ok(Contents { images, modules_dep })
}

/// The files of a row of cpio archives (newc), plain or compressed with zstd each, zeros between them.
fn members(mut rest: &[u8]) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    while let Some(first) = rest.first() {
        if *first == 0 {
            rest = &rest[1..];
        } else if rest.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            let mut decoder = zstd::Decoder::with_buffer(rest)?.single_frame();
            let mut plain = Vec::new();
            decoder.read_to_end(&mut plain)?;
            rest = decoder.finish();
            found.extend(members(&plain)?);
        } else {
            rest = archive(rest, &mut found)?;
        }
    }
    Ok(found)
}

/// Reads one plain archive and gives what is behind it.
fn archive<'a>(all: &'a [u8], found: &mut BTreeMap<String, Vec<u8>>) -> Result<&'a [u8]> {
    let mut at = 0;
    loop {
        let head = all.get(at..at + 110).context("half a header of cpio")?;
        ensure!(head.starts_with(b"070701"), "no header of cpio at {at}");
        let field =
            |n: usize| Ok::<_, anyhow::Error>(usize::from_str_radix(std::str::from_utf8(&head[n..n + 8])?, 16)?);
        let (size, name_len) = (field(54)?, field(94)?);
        let name = all.get(at + 110..at + 110 + name_len).context("half a name")?;
        let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
        let start = (at + 110 + name_len).next_multiple_of(4);
        let Some(bytes) = all.get(start..start + size) else { bail!("half a file: {name}") };
        at = (start + size).next_multiple_of(4).min(all.len());
        if name == "TRAILER!!!" {
            return Ok(&all[at..]);
        }
        found.insert(name, bytes.to_vec());
    }
}
