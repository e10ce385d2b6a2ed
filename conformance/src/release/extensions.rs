//! The extensions, and the catalogs that list extensions and overlays.

use std::fs;

use anyhow::{Context, Result};

use super::Size;
use super::boot::{ARCHES, Arch, Boot};
use super::versions::Era;
use crate::oci::tree::{Tree, noise};
use crate::oci::{Config, Descriptor, Family, Layer, Layout, Packing};
use crate::packages::Unpacked;

/// What the catalogs call the registry; a factory replaces it by its own upstream.
const HOST: &str = "ghcr.io";

/// Author of all extensions.
const AUTHOR: &str = "Oracle Labs";

/// An extension by name and version, in the order of the catalog.
struct Extension {
    name: &'static str,
    version: &'static str,
    /// The range of Talos versions in its manifest.
    talos: &'static str,
    /// Its content differs before 1.10, where modules and firmware live under `/lib`.
    by_era: bool,
}

const fn extension(name: &'static str, version: &'static str, talos: &'static str, by_era: bool) -> Extension {
    Extension { name, version, talos, by_era }
}

const EXTENSIONS: &[Extension] = &[
    extension("hello", "1.0.0", ">= v1.5.0", false),
    extension("qemu-guest-agent", "10.0.2", ">= v1.5.0", false),
    extension("dummy-driver", "6.12.0-v1", ">= v1.5.0", true),
    extension("intel-ucode", "20260101", ">= v1.5.0", true),
    extension("amd-ucode", "20260101", ">= v1.5.0", true),
    extension("big-firmware", "20260101", ">= v1.5.0", true),
    extension("future", "0.1.0", ">= v99.0.0", false),
    extension("v4l-uvc-drivers", "0.1.0", ">= v1.0.0", false),
    extension("unsigned", "0.1.0", ">= v1.0.0", false),
];

/// Writes all extensions; `old` ones (before 1.10) are tagged with `-old`. Gives the catalog image of each.
pub fn write(layout: &mut Layout, packages: &Unpacked, boot: &Boot, size: Size) -> Result<(Descriptor, Descriptor)> {
    let old = write_era(layout, packages, boot, size, Era::Lib)?;
    let new = write_era(layout, packages, boot, size, Era::UsrLib)?;
    Ok((old, new))
}

fn write_era(layout: &mut Layout, packages: &Unpacked, boot: &Boot, size: Size, era: Era) -> Result<Descriptor> {
    let mut digests = String::new();
    let mut descriptions = String::new();
    for extension in EXTENSIONS {
        let suffix = if era == Era::Lib { "-old" } else { "" };
        let tag = format!("{}{suffix}", extension.version);
        let family = if extension.name == "qemu-guest-agent" { Family::Docker } else { Family::Oci };
        let lib = if extension.by_era { era.lib() } else { Era::UsrLib.lib() };
        let mut manifests = Vec::new();
        for arch in ARCHES {
            let assets = boot.arches.get(arch).context("no such architecture")?;
            let layers = layers(layout, packages, extension, arch, assets, lib, size)?;
            manifests.push((arch, layout.image(family, arch, &layers, &Config::default())?));
        }
        let index = layout.index(family, &manifests)?;
        let repository = format!("siderolabs/{}", extension.name);
        layout.tag(&repository, &tag, &index);
        let line = format!("{HOST}/{repository}:{tag}@{}", index.digest);
        digests.push_str(&format!("{line}\n"));
        // One extension has no description: a catalog need not describe all it lists.
        if extension.name != "future" {
            descriptions.push_str(&format!(
                "{line}:\n  author: {AUTHOR}\n  description: |\n    [extra] The {} test extension.\n",
                extension.name
            ));
        }
    }
    let mut tree = Tree::new();
    tree.file("descriptions.yaml", 0o644, descriptions);
    tree.file("image-digests", 0o644, digests);
    catalog(layout, &tree)
}

/// A catalog image: one platform-less layer with Docker's media types.
fn catalog(layout: &Layout, tree: &Tree) -> Result<Descriptor> {
    let layer = layout.layer(&tree.tar()?, Packing::Gzip)?;
    layout.image(Family::Docker, "amd64", &[layer], &Config::default())
}

/// The overlays catalog: one overlay image under two names, of which it holds only the first's installer.
pub fn overlays(layout: &Layout, overlay: &Descriptor) -> Result<Descriptor> {
    let mut yaml = "overlays:\n".to_owned();
    for name in ["sbc-mini", "board"] {
        yaml.push_str(&format!(
            "    - name: {name}\n      image: {HOST}/siderolabs/sbc-mini:v0.1.0\n      digest: {}\n",
            overlay.digest
        ));
    }
    let mut tree = Tree::new();
    tree.file("overlays.yaml", 0o644, yaml);
    catalog(layout, &tree)
}

fn manifest(extension: &Extension) -> String {
    format!(
        "version: v1alpha1\nmetadata:\n  name: {name}\n  version: \"{}\"\n  author: {AUTHOR}\n  description: |\n    \
         [extra] The {name} test extension.\n    Second line of its description.\n  compatibility:\n    talos:\n      \
         version: \"{}\"\n",
        extension.version,
        extension.talos,
        name = extension.name
    )
}

fn layers(
    layout: &Layout,
    packages: &Unpacked,
    extension: &Extension,
    arch: &str,
    assets: &Arch,
    lib: &str,
    size: Size,
) -> Result<Vec<Layer>> {
    let mut tree = Tree::new();
    tree.file("manifest.yaml", 0o644, manifest(extension));
    let mut packing = Packing::Gzip;
    match extension.name {
        "hello" => {
            hello(&mut tree);
            packing = Packing::Zstd;
        }
        "qemu-guest-agent" => return guest_agent(layout, packages, tree, arch, assets),
        "dummy-driver" => {
            for (name, data) in &assets.drivers {
                let path = format!("rootfs/{lib}/modules/{}/extras/{name}/{name}.ko", assets.release);
                tree.file(&path, 0o644, data.clone());
            }
        }
        "intel-ucode" => firmware(&mut tree, packages, lib, "intel-ucode", size.microcode_files())?,
        "amd-ucode" => firmware(&mut tree, packages, lib, "amd-ucode", usize::MAX)?,
        "big-firmware" => {
            for n in 0..4 {
                let path = format!("rootfs/{lib}/firmware/big/fw{n}.bin");
                tree.file(&path, 0o644, noise(100 + n, size.big_firmware()));
            }
            tree.file(&format!("rootfs/{lib}/firmware/big/sub/readme.txt"), 0o644, "hi\n");
            tree.file("rootfs/usr/share/doc/big-firmware/LICENSE", 0o644, "license\n");
        }
        name => tree.file(&format!("rootfs/usr/local/share/{name}/x"), 0o644, "x\n"),
    }
    Ok(vec![layout.layer(&tree.tar()?, packing)?])
}

/// Links, labels and an empty file.
fn hello(tree: &mut Tree) {
    let label = "system_u:object_r:bin_exec_t:s0";
    tree.labelled("rootfs/usr/local/bin/hello", 0o755, "#!/bin/sh\necho hello from Talos\n", label);
    tree.symlink("rootfs/usr/local/bin/hi", "hello");
    let service =
        "name: hello\ncontainer:\n  entrypoint: ./hello\ndepends:\n  - network:\n      - addresses\nrestart: always\n";
    tree.file("rootfs/usr/local/etc/containers/hello.yaml", 0o644, service);
    tree.file("rootfs/usr/local/share/hello/data.txt", 0o644, "hello data\n".repeat(200));
    tree.hardlink("rootfs/usr/local/share/hello/data-link.txt", "rootfs/usr/local/share/hello/data.txt");
    tree.file("rootfs/usr/local/share/hello/empty", 0o600, "");
}

/// Two layers: the second takes back a file by a whiteout and a folder's content by an opaque mark.
fn guest_agent(layout: &Layout, packages: &Unpacked, mut tree: Tree, arch: &str, assets: &Arch) -> Result<Vec<Layer>> {
    let container = "rootfs/usr/local/lib/containers/qemu-guest-agent/usr";
    let service = "name: qemu-guest-agent\ncontainer:\n  entrypoint: ./qemu-ga\nrestart: always\n";
    tree.file("rootfs/usr/local/etc/containers/qemu-guest-agent.yaml", 0o644, service);
    tree.file(&format!("{container}/bin/busybox"), 0o755, fs::read(&assets.busybox)?);
    let agent = packages.folder(&format!("qemu-guest-agent:{arch}"))?;
    tree.copy(&format!("{container}/bin/qemu-ga"), &agent.join("usr/sbin/qemu-ga"))?;
    let triplet = if arch == "arm64" { "aarch64-linux-gnu" } else { "x86_64-linux-gnu" };
    let glib = packages.folder(&format!("libglib2.0-0t64:{arch}"))?.join("usr/lib").join(triplet);
    tree.copy_folder(&format!("{container}/lib"), &glib, |path| {
        !(path.starts_with("libgio-2.0.so") || path.starts_with("libglib-2.0.so"))
    })?;
    tree.file("rootfs/usr/local/share/removed", 0o644, "the second layer removes this\n");
    tree.file("rootfs/usr/local/share/opaque/old", 0o644, "the second layer hides this\n");
    let mut second = Tree::new();
    second.file("rootfs/usr/local/share/.wh.removed", 0o644, "");
    second.file("rootfs/usr/local/share/opaque/.wh..wh..opq", 0o644, "");
    second.file("rootfs/usr/local/share/opaque/new", 0o644, "ok\n");
    Ok(vec![layout.layer(&tree.tar()?, Packing::Gzip)?, layout.layer(&second.tar()?, Packing::Gzip)?])
}

/// Microcode of a Debian package: its first `count` files by name, and a licence.
fn firmware(tree: &mut Tree, packages: &Unpacked, lib: &str, name: &str, count: usize) -> Result<()> {
    let package = if name == "intel-ucode" { "intel-microcode:amd64" } else { "amd64-microcode:amd64" };
    let folder = packages.folder(package)?.join("usr/lib/firmware").join(name);
    let mut files: Vec<_> = fs::read_dir(&folder)?.map(|e| Ok(e?.path())).collect::<Result<_>>()?;
    files.retain(|file| {
        let file = file.file_name().unwrap_or_default().to_string_lossy();
        !file.contains('.') || file.ends_with(".bin")
    });
    files.sort();
    for file in files.iter().take(count) {
        let base = file.file_name().context("no file name")?.to_string_lossy();
        tree.copy(&format!("rootfs/{lib}/firmware/{name}/{base}"), file)?;
    }
    tree.file(&format!("rootfs/usr/share/doc/{name}/LICENSE"), 0o644, "license\n");
    Ok(())
}
