//! What a booted system must say, told by the release that it was made from.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use conformance::qemu::{self, Console, Firmware, Machine, Medium};
use walkdir::WalkDir;

use super::world::World;

/// Extensions of all kinds: plain, of two layers, with modules, with firmware.
pub const SCHEMATIC: &str = "customization:
    extraKernelArgs:
        - console=ttyS0
        - -slab_nomerge
    systemExtensions:
        officialExtensions:
            - siderolabs/hello
            - siderolabs/qemu-guest-agent
            - siderolabs/dummy-driver
            - siderolabs/big-firmware
";

/// The extensions of [`SCHEMATIC`], with their versions.
const EXTENSIONS: [(&str, &str); 4] =
    [("hello", "1.0.0"), ("qemu-guest-agent", "10.0.2"), ("dummy-driver", "6.12.0-v1"), ("big-firmware", "20260101")];

/// The modules of `dummy-driver`.
const MODULES: [&str; 6] = ["dummy", "ifb", "loop", "nlmon", "udp_tunnel", "wireguard"];

/// The files of the module index.
const INDEX: [&str; 14] = [
    "modules.alias",
    "modules.alias.bin",
    "modules.builtin",
    "modules.builtin.alias.bin",
    "modules.builtin.bin",
    "modules.builtin.modinfo",
    "modules.dep",
    "modules.dep.bin",
    "modules.devname",
    "modules.order",
    "modules.softdep",
    "modules.symbols",
    "modules.symbols.bin",
    "modules.weakdep",
];

/// How long a boot may take.
const LIMIT: Duration = Duration::from_secs(600);

/// [`SCHEMATIC`], or it with more in it, on a version and an architecture.
pub struct Model<'a> {
    world: &'a World,
    version: &'a str,
    arch: &'a str,
    /// ID of the schematic.
    pub id: String,
}

impl<'a> Model<'a> {
    /// Posts a schematic.
    pub fn post(world: &'a World, schematic: &str, version: &'a str, arch: &'a str) -> Result<Self> {
        Ok(Self { world, version, arch, id: world.factory.post_schematic(schematic)? })
    }

    /// Downloads an asset.
    pub fn download(&self, path: &str) -> Result<PathBuf> {
        self.world.download(&format!("/image/{}/{}/{path}", self.id, self.version), path)
    }

    /// Boots a machine: exactly this is the command line, all extensions are there, nothing failed.
    pub fn boots(&self, firmware: Firmware, medium: Medium<'_>, cmdline: &str) -> Result<Console> {
        let machine = Machine { arch: self.arch, firmware, medium };
        let console = qemu::boot(&machine, LIMIT)?;
        self.check(&console, firmware, cmdline).with_context(|| format!("{machine:?} said:\n{}", console.text))?;
        Ok(console)
    }

    fn check(&self, console: &Console, firmware: Firmware, cmdline: &str) -> Result<()> {
        ensure!(console.by_uefi() == (firmware == Firmware::Uefi), "another firmware");
        ensure!(console.cmdline == cmdline, "command line: {}", console.cmdline);
        ensure!(!console.cmdline.contains("wipe"), "command line: {}", console.cmdline);
        ensure!(console.failures.is_empty(), "failed: {:?}", console.failures);
        let kernel = self.world.release.manifest().kernels.get(self.arch).context("no kernel")?;
        ensure!(console.kernel == *kernel, "kernel {}", console.kernel);
        let listed: Vec<_> =
            console.listed()?.into_iter().map(|e| (e.image, e.metadata.name, e.metadata.version)).collect();
        let mut expected = EXTENSIONS.to_vec();
        expected.push(("schematic", &self.id));
        let mut names: Vec<_> = (0..expected.len()).map(|n| format!("{n}.sqsh")).collect();
        names.push("modules.dep.sqsh".to_owned());
        expected.push(("modules.dep", kernel));
        let expected = names
            .iter()
            .zip(expected)
            .map(|(image, (name, version))| (image.clone(), name.to_owned(), version.to_owned()));
        ensure!(listed == expected.collect::<Vec<_>>(), "extensions: {listed:?}");
        let (images, firmware) = self.files(kernel)?;
        let images: Vec<_> = names.into_iter().zip(images).collect();
        ensure!(console.extensions == images, "files: {:?}\nbut not {images:?}", console.extensions);
        ensure!(console.firmware == firmware, "firmware: {:?}", console.firmware);
        let mut modules = console.modules.clone();
        modules.sort();
        ensure!(modules == MODULES, "modules: {modules:?}");
        Ok(())
    }

    /// The files of every extension in order, and the firmware beside them; paths from `/`.
    fn files(&self, kernel: &str) -> Result<(Vec<Vec<String>>, Vec<String>)> {
        // Before 1.10 /lib was a folder of its own, with extensions made for it.
        let (lib, suffix) = if self.version.starts_with("v1.9.") { ("/lib", "-old") } else { ("/usr/lib", "") };
        let (mut images, mut firmware) = (Vec::new(), Vec::new());
        for (name, version) in EXTENSIONS {
            let scratch = tempfile::tempdir()?;
            let tag = format!("{version}{suffix}");
            self.world.release.unpack(&format!("siderolabs/{name}"), &tag, self.arch, scratch.path())?;
            let mut files = Vec::new();
            for entry in WalkDir::new(scratch.path().join("rootfs")) {
                let entry = entry?;
                if entry.file_type().is_dir() {
                    continue;
                }
                let path = entry.path().strip_prefix(scratch.path().join("rootfs"))?;
                files.push(format!("/{}", path.display()));
            }
            files.sort();
            let (beside, inside) = files.into_iter().partition(|file| file.starts_with(&format!("{lib}/firmware/")));
            firmware.extend::<Vec<String>>(beside);
            images.push(inside);
        }
        images.push(vec![format!("/usr/local/share/schematic/{}", self.id)]);
        images.push(INDEX.iter().map(|file| format!("{lib}/modules/{kernel}/{file}")).collect());
        Ok((images, firmware))
    }
}
