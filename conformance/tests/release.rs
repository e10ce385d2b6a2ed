//! The miniature release itself: shaped as promised, signed, and bootable without a factory.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use conformance::qemu::{Firmware, Machine, Medium};
use conformance::registry::Registry;
use conformance::release::{self, Size};
use conformance::{demo, oci, oci_suite, packages, qemu, run, tools};

fn cosign_verify(registry: &Registry, key: &Path, image: &str, digest: &str) -> Result<bool> {
    let mut command = Command::new(tools::COSIGN.path()?);
    command.args(["verify", "--insecure-ignore-tlog=true", "--allow-http-registry", "--key"]).arg(key);
    command.arg(format!("{}/{image}@{digest}", registry.address()));
    Ok(command.output()?.status.success())
}

#[test]
fn cosign_accepts_all_but_the_unsigned_extension() {
    let release = release::ensure(Size::Mini).unwrap();
    let registry = Registry::read_only(&release).unwrap();
    for (repository, tag, signed) in [
        ("siderolabs/imager", "v1.13.2", true),
        ("siderolabs/imager", "v1.2.0", true),
        ("siderolabs/installer-base", "v1.13.2", true),
        ("siderolabs/qemu-guest-agent", "10.0.2", true),
        ("siderolabs/unsigned", "0.1.0", false),
    ] {
        let digest = release.digest(repository, tag).unwrap();
        assert_eq!(
            cosign_verify(&registry, &release.public_key(), repository, digest).unwrap(),
            signed,
            "{repository}:{tag}"
        );
    }
}

#[test]
fn skopeo_reads_registry_and_layout_alike() {
    let release = release::ensure(Size::Mini).unwrap();
    let registry = Registry::read_only(&release).unwrap();
    for image in &release.manifest().images {
        let reference = format!("docker://{}/{}:{}", registry.address(), image.repository, image.tag);
        let raw = run::output(Command::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", &reference]));
        let digest = format!("sha256:{}", conformance::cache::sha256(&raw.unwrap()));
        assert_eq!(digest, image.descriptor.digest, "{reference}");
    }
    for name in ["siderolabs/imager:v1.13.2", "siderolabs/hello:1.0.0"] {
        let reference = format!("oci:{}:{name}", release.layout().display());
        run::output(Command::new("skopeo").args(["inspect", "--config", &reference])).unwrap();
    }
}

#[test]
fn layers_hold_the_shapes_that_readers_must_know() {
    let release = release::ensure(Size::Mini).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let agent = scratch.path().join("agent");
    release.unpack("siderolabs/qemu-guest-agent", "10.0.2", "arm64", &agent).unwrap();
    let share = agent.join("rootfs/usr/local/share");
    assert!(!share.join("removed").exists());
    assert!(!share.join("opaque/old").exists());
    assert!(share.join("opaque/new").is_file());
    let hello = release.digest("siderolabs/hello", "1.0.0").unwrap();
    let manifest = oci::unpack::manifest(&release.layout(), hello, "amd64").unwrap();
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
    let digest = manifest["layers"][0]["digest"].as_str().unwrap().trim_start_matches("sha256:");
    let bytes = fs::read(oci::blob_path(&release.layout(), digest)).unwrap();
    let tar = zstd::decode_all(bytes.as_slice()).unwrap();
    let mut archive = tar::Archive::new(tar.as_slice());
    let mut kinds = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let label = entry
            .pax_extensions()
            .unwrap()
            .is_some_and(|records| records.flatten().any(|r| r.key() == Ok("SCHILY.xattr.security.selinux")));
        kinds.push((entry.header().entry_type(), label));
    }
    assert!(kinds.contains(&(tar::EntryType::Regular, true)));
    assert!(kinds.contains(&(tar::EntryType::Link, false)));
    assert!(kinds.contains(&(tar::EntryType::Symlink, false)));
}

/// Boots kernel and initramfs of a version with one extension appended as Talos appends it, `modules.dep` by depmod.
fn boots(arch: &str, limit: Duration) -> Result<()> {
    let release = release::ensure(Size::Mini)?;
    let packages = packages::unpacked()?;
    let scratch = tempfile::tempdir()?;
    let at = |name: &str| scratch.path().join(name);
    release.unpack("siderolabs/imager", "v1.13.2", arch, &at("imager"))?;
    release.unpack("siderolabs/dummy-driver", "6.12.0-v1", arch, &at("driver"))?;
    let assets = at("imager/usr/install").join(arch);
    let kernel = &release.manifest().kernels[arch];

    let shell = |script: &str| run::output(Command::new("sh").args(["-ec", script]).current_dir(scratch.path()));
    shell(&format!(
        "zstd -qdc imager/usr/install/{arch}/initramfs.xz | cpio -idm --quiet rootfs.sqsh
         unsquashfs -q -n -d root rootfs.sqsh > /dev/null
         cp -a driver/rootfs/. root/
         mkdir -p depmod.d index/usr/lib/modules/{kernel} archive
         echo 'search extras built-in' > depmod.d/talos.conf"
    ))?;
    let mut depmod = packages.depmod()?;
    depmod.arg("-b").arg(at("root")).arg("-C").arg(at("depmod.d")).arg(kernel);
    run::output(&mut depmod)?;
    fs::write(
        at("archive/extensions.yaml"),
        "layers:\n    - image: 0.sqsh\n      metadata:\n        name: dummy-driver\n    - image: modules.dep.sqsh\n",
    )?;
    shell(&format!(
        "cp root/usr/lib/modules/{kernel}/modules.* index/usr/lib/modules/{kernel}/
         mksquashfs driver/rootfs archive/0.sqsh -quiet -no-progress -all-root -comp zstd
         mksquashfs index archive/modules.dep.sqsh -quiet -no-progress -all-root -comp zstd
         cd archive; find . -mindepth 1 | cpio -o -H newc --quiet > ../appended"
    ))?;
    let cmdline = "talos.platform=metal module.sig_enforce=1 answer=42";
    let initramfs = assets.join("initramfs.xz");
    qemu::ukify(&packages, &assets, &[&initramfs, &at("appended")], cmdline, &at("uki.efi"))?;
    let machine = Machine { arch, firmware: Firmware::Uefi, medium: Medium::Uki(&at("uki.efi")) };
    let console = qemu::boot(&machine, limit)?;
    assert_eq!(console.failures, Vec::<String>::new(), "{}", console.text);
    assert_eq!(console.cmdline, cmdline);
    assert_eq!(&console.kernel, kernel);
    let images: Vec<&str> = console.extensions.iter().map(|(image, _)| image.as_str()).collect();
    assert_eq!(images, ["0.sqsh", "modules.dep.sqsh"]);
    let wireguard = format!("/usr/lib/modules/{kernel}/extras/wireguard/wireguard.ko");
    assert!(console.extensions[0].1.contains(&wireguard), "{}", console.text);
    let mut modules = console.modules.clone();
    modules.sort();
    assert_eq!(modules, ["dummy", "ifb", "loop", "nlmon", "udp_tunnel", "wireguard"], "{}", console.text);
    Ok(())
}

#[test]
fn boots_under_aavmf() {
    boots("arm64", Duration::from_secs(600)).unwrap();
}

#[test]
fn boots_under_ovmf() {
    boots("amd64", Duration::from_secs(300)).unwrap();
}

#[test]
fn skopeo_pulls_and_the_harness_unpacks() {
    let release = release::ensure(Size::Mini).unwrap();
    let registry = Registry::scratch(&release).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let image = format!("{}/siderolabs/installer:v1.9.5", registry.address());
    demo::pull(&image, "arm64", scratch.path()).unwrap();
    assert!(scratch.path().join("root/usr/install/arm64/vmlinuz").is_file());
    assert!(scratch.path().join("root/usr/bin/sh").is_file());
    // The copy is the test's own: a blob can be broken without harm to the cached release.
    let digest = release.digest("siderolabs/installer", "v1.9.5").unwrap();
    fs::write(registry.blob(digest), "broken").unwrap();
    assert!(demo::pull(&image, "arm64", &scratch.path().join("again")).is_err());
    let stored = oci::blob_path(&release.layout(), digest.trim_start_matches("sha256:"));
    assert_ne!(fs::read(stored).unwrap(), b"broken");
}

#[test]
fn the_oci_suite_tells_what_a_registry_lacks() {
    let release = release::ensure(Size::Mini).unwrap();
    let registry = Registry::read_only(&release).unwrap();
    let index = release.digest("siderolabs/talosctl-all", "v1.13.2").unwrap();
    let manifest = oci::unpack::manifest(&release.layout(), index, "amd64").unwrap();
    let inputs = oci_suite::Inputs {
        tags: vec!["v1.13.2".to_owned()],
        manifests: vec![index.to_owned()],
        blobs: vec![manifest["layers"][0]["digest"].as_str().unwrap().to_owned()],
        referrers: vec![index.to_owned()],
    };
    let outcome = oci_suite::run(registry.address(), "siderolabs/talosctl-all", &inputs).unwrap();
    // Debian's registry is older than the referrers API, all else that reads works.
    assert!(outcome.failures.contains(&"OCI Conformance Test/read-only/referrers".to_owned()), "{}", outcome.report);
    assert!(!outcome.failures.iter().any(|name| name.contains("/read-only/pull")), "{}", outcome.report);
    assert!(outcome.passed >= 8, "{}", outcome.report);
}
