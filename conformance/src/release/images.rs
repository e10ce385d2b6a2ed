//! The images of a version: imager, installers, talosctl; and the overlay.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use super::boot::{ARCHES, Arch, Boot};
use super::versions::{Era, VERSIONS, Version};
use crate::golang;
use crate::oci::tree::{Tree, noise};
use crate::oci::{Config, Descriptor, Family, Layer, Layout, Packing};
use crate::packages::Unpacked;

/// Platforms for which there is a talosctl.
const TALOSCTL: &[&str] = &[
    "darwin-amd64",
    "darwin-arm64",
    "freebsd-amd64",
    "freebsd-arm64",
    "linux-amd64",
    "linux-arm64",
    "linux-armv7",
    "windows-amd64.exe",
    "windows-arm64.exe",
];

/// Writes imager, installers and talosctl of all versions.
pub fn write(layout: &mut Layout, packages: &Unpacked, boot: &Boot) -> Result<()> {
    let imagers = imagers(layout, packages, boot)?;
    let mut assets = BTreeMap::new();
    for era in Era::ALL {
        for arch in ARCHES {
            assets.insert((era, arch), installer_assets(layout, boot, arch, era)?);
        }
    }
    for version in VERSIONS {
        let imager = imagers.get(&version.era).context("no imager for the era")?;
        layout.tag("siderolabs/imager", version.tag, imager);
        if version.installer_base || version.installer {
            installers(layout, boot, version, &assets)?;
        }
        if version.talosctl {
            let image = talosctl(layout, version.tag)?;
            layout.tag("siderolabs/talosctl-all", version.tag, &image);
        }
    }
    Ok(())
}

fn asset_folder(arch: &str) -> String {
    format!("usr/install/{arch}")
}

/// One imager an era. Kernel, loaders, initramfs and tools are layers of their own, so that eras share them.
fn imagers(layout: &Layout, packages: &Unpacked, boot: &Boot) -> Result<BTreeMap<Era, Descriptor>> {
    let mut kernels = Tree::new();
    let mut loaders = Tree::new();
    for (arch, assets) in &boot.arches {
        let folder = asset_folder(arch);
        kernels.file(&format!("{folder}/vmlinuz"), 0o644, assets.vmlinuz.clone());
        loaders.copy(&format!("{folder}/systemd-stub.efi"), &assets.stub)?;
        loaders.copy(&format!("{folder}/systemd-boot.efi"), &assets.boot)?;
    }
    let kernels = layout.layer(&kernels.tar()?, Packing::Zstd)?;
    let loaders = layout.layer(&loaders.tar()?, Packing::Gzip)?;
    let mut imagers = BTreeMap::new();
    for era in Era::ALL {
        let mut initramfs = Tree::new();
        for (arch, assets) in &boot.arches {
            initramfs.file(&format!("{}/initramfs.xz", asset_folder(arch)), 0o644, assets.initramfs(era)?);
        }
        let mut tools = Tree::new();
        for (platform, package) in [
            ("i386-pc", "grub-pc-bin:amd64"),
            ("x86_64-efi", "grub-efi-amd64-bin:amd64"),
            ("arm64-efi", "grub-efi-arm64-bin:arm64"),
        ] {
            let folder = packages.folder(package)?.join("usr/lib/grub").join(platform);
            tools.copy_folder(&format!("usr/lib/grub/{platform}"), &folder, |path| path.starts_with("monolithic"))?;
        }
        if era >= Era::Spdx {
            for arch in ARCHES {
                tools.file(&format!("{}/talos.spdx.json", asset_folder(arch)), 0o644, spdx(arch)?);
            }
        }
        let mut layers = vec![kernels.clone()];
        if era > Era::Xz {
            layers.push(loaders.clone());
        }
        layers.push(layout.layer(&initramfs.tar()?, Packing::Gzip)?);
        layers.push(layout.layer(&tools.tar()?, Packing::Gzip)?);
        let config = Config { config: Some(json!({"Entrypoint": ["/usr/bin/imager"]})) };
        let manifests = ARCHES
            .iter()
            .map(|arch| Ok((*arch, layout.image(Family::Oci, arch, &layers, &config)?)))
            .collect::<Result<Vec<_>>>()?;
        imagers.insert(era, layout.index(Family::Oci, &manifests)?);
    }
    Ok(imagers)
}

fn spdx(arch: &str) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec_pretty(&json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("talos-{arch}"),
        "documentNamespace": format!("https://example.org/talos-mini/{arch}"),
        "creationInfo": {"created": "2023-11-14T22:13:20Z", "creators": ["Tool: conformance"]},
        "packages": [],
    }))?)
}

/// The layer of boot assets in an old installer.
fn installer_assets(layout: &Layout, boot: &Boot, arch: &str, era: Era) -> Result<Layer> {
    let assets = boot.arches.get(arch).context("no such architecture")?;
    let mut tree = Tree::new();
    tree.file(&format!("{}/vmlinuz", asset_folder(arch)), 0o644, assets.vmlinuz.clone());
    tree.file(&format!("{}/initramfs.xz", asset_folder(arch)), 0o644, assets.initramfs(era)?);
    layout.layer(&tree.tar()?, Packing::Gzip)
}

/// The layer of the installer and its tools.
fn installer_tools(layout: &Layout, assets: &Arch, tag: &str) -> Result<Layer> {
    let busybox = fs::read(&assets.busybox)?;
    let mut tree = Tree::new();
    tree.file("usr/bin/installer", 0o755, busybox.clone());
    tree.file("usr/bin/busybox", 0o755, busybox);
    tree.symlink("bin", "usr/bin");
    tree.file("etc/os-release", 0o644, format!("NAME=\"Talos\"\nID=talos\nVERSION_ID={tag}\n"));
    tree.file("usr/share/base.bin", 0o644, noise(3, 300_000));
    tree.hardlink("usr/bin/sh", "usr/bin/busybox");
    layout.layer(&tree.tar()?, Packing::Gzip)
}

fn installers(
    layout: &mut Layout,
    boot: &Boot,
    version: &Version,
    assets: &BTreeMap<(Era, &'static str), Layer>,
) -> Result<()> {
    let config = Config {
        config: Some(json!({
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Entrypoint": ["/usr/bin/installer"],
            "Labels": {
                "alpha.talos.dev/version": version.tag,
                "org.opencontainers.image.source": "https://github.com/siderolabs/talos",
            },
        })),
    };
    let mut bases = Vec::new();
    let mut wholes = Vec::new();
    for arch in ARCHES {
        let tools = installer_tools(layout, boot.arches.get(arch).context("no such architecture")?, version.tag)?;
        let assets = assets.get(&(version.era, arch)).context("no assets for the era")?;
        bases.push((arch, layout.image(Family::Oci, arch, std::slice::from_ref(&tools), &config)?));
        wholes.push((arch, layout.image(Family::Docker, arch, &[tools, assets.clone()], &config)?));
    }
    if version.installer_base {
        let index = layout.index(Family::Oci, &bases)?;
        layout.tag("siderolabs/installer-base", version.tag, &index);
    }
    if version.installer {
        let index = layout.index(Family::Docker, &wholes)?;
        layout.tag("siderolabs/installer", version.tag, &index);
    }
    Ok(())
}

fn talosctl(layout: &Layout, tag: &str) -> Result<Descriptor> {
    let mut tree = Tree::new();
    for platform in TALOSCTL {
        let text = format!("#!/bin/sh\necho talosctl {tag} {platform}\n").repeat(20);
        tree.file(&format!("talosctl-{platform}"), 0o755, text);
    }
    let layer = layout.layer(&tree.tar()?, Packing::Gzip)?;
    let manifests = ARCHES
        .iter()
        .map(|arch| Ok((*arch, layout.image(Family::Oci, arch, std::slice::from_ref(&layer), &Config::default())?)))
        .collect::<Result<Vec<_>>>()?;
    layout.index(Family::Oci, &manifests)
}

/// The overlay image: firmware, a boot loader and a static installer.
pub fn overlay(layout: &mut Layout, scratch: &Path) -> Result<Descriptor> {
    let mut manifests = Vec::new();
    for arch in ARCHES {
        let installer = scratch.join(format!("installer-{arch}"));
        golang::build(include_str!("../../overlay/main.go"), arch, &installer)?;
        let mut tree = Tree::new();
        tree.file("artifacts/firmware/config.txt", 0o644, "enable_uart=1\narm_64bit=1\n");
        tree.file("artifacts/firmware/overlays/disable-bt.dtbo", 0o644, noise(21, 1500));
        tree.file("artifacts/firmware/tool.sh", 0o755, "#!/bin/sh\n");
        tree.file("artifacts/u-boot.bin", 0o644, noise(22, 40_000));
        tree.copy("installers/sbc-mini", &installer)?;
        let profile = "arch: arm64\nplatform: metal\nsecureboot: false\noutput:\n  kind: image\n  outFormat: .xz\n";
        tree.file("profiles/sbc-mini.yaml", 0o644, profile);
        let layer = layout.layer(&tree.tar()?, Packing::Gzip)?;
        manifests.push((arch, layout.image(Family::Oci, arch, &[layer], &Config::default())?));
    }
    let index = layout.index(Family::Oci, &manifests)?;
    layout.tag("siderolabs/sbc-mini", "v0.1.0", &index);
    Ok(index)
}
