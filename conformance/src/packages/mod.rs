//! Debian packages: those that the harness needs on the machine, installed, and those of Debian 13
//! that the miniature release is made of, unpacked into the cache and never installed.

mod apt;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::{cache, run};

/// What the harness needs on the machine beside a Rust and a Go toolchain.
pub const MACHINE: &[&str] = &[
    "aria2",
    "binutils",
    "bmap-tools",
    "ca-certificates",
    "containerd",
    "cpio",
    "curl",
    "debian-archive-keyring",
    "docker-registry",
    "docker.io",
    "dosfstools",
    "gdisk",
    "genisoimage",
    "grub-common",
    "grub-efi-amd64-bin",
    "grub-pc-bin",
    "ipxe-qemu",
    "initramfs-tools-core",
    "kmod",
    "libarchive-tools",
    "libnbd-bin",
    "mtools",
    "nbdkit",
    "openssl",
    "ovmf",
    "p7zip-full",
    "pigz",
    "python3",
    "python3-pefile",
    "qemu-block-extra",
    "qemu-efi-aarch64",
    "qemu-system-arm",
    "qemu-system-x86",
    "seabios",
    "qemu-utils",
    "skopeo",
    "squashfs-tools",
    "strace",
    "umoci",
    "wget",
    "xorriso",
    "xfsprogs",
    "xz-utils",
    "zstd",
];

/// The release from which the unpacked packages come.
const SUITE: &str = "trixie";

/// Unpacked packages of [`SUITE`], as `name:architecture`. The two kernel packages are found through these.
const UNPACKED: &[&str] = &[
    "amd64-microcode:amd64",
    "busybox-static:amd64",
    "busybox-static:arm64",
    "grub-efi-amd64-bin:amd64",
    "grub-efi-arm64-bin:arm64",
    "grub-pc-bin:amd64",
    "intel-microcode:amd64",
    "kmod:amd64",
    "libblkid1:amd64",
    "libc6:amd64",
    "libglib2.0-0t64:amd64",
    "libglib2.0-0t64:arm64",
    "libkmod2:amd64",
    "liblzma5:amd64",
    "libssl3t64:amd64",
    "liburcu8t64:amd64",
    "libuuid1:amd64",
    "libzstd1:amd64",
    "qemu-guest-agent:amd64",
    "qemu-guest-agent:arm64",
    "systemd-boot-efi:amd64",
    "systemd-boot-efi:arm64",
    "systemd-ukify:all",
    "xfsprogs:amd64",
    "zlib1g:amd64",
];

/// Meta packages whose first dependency is the kernel itself.
const KERNELS: &[&str] = &["linux-image-cloud-amd64:amd64", "linux-image-cloud-arm64:arm64"];

/// Installs what is missing of `names`; gives the names that it installed.
pub fn install(names: &[&str]) -> Result<Vec<String>> {
    let missing: Vec<&str> = names.iter().copied().filter(|name| !installed(name)).collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    println!("installing Debian packages: {}", missing.join(" "));
    let _lock = cache::lock("apt")?;
    let apt = |args: &[&str]| run::output(run::command("apt-get", args).env("DEBIAN_FRONTEND", "noninteractive"));
    apt(&["update", "-qq"])?;
    let mut args = vec!["install", "-y", "-qq", "--no-install-recommends"];
    args.extend(&missing);
    apt(&args)?;
    Ok(missing.into_iter().map(str::to_owned).collect())
}

fn installed(name: &str) -> bool {
    run::text(&mut run::command("dpkg-query", &["-W", "-f", "${db:Status-Status}", name]))
        .is_ok_and(|status| status == "installed")
}

/// The unpacked packages, by `name:architecture`.
#[derive(Clone, Debug)]
pub struct Unpacked {
    root: PathBuf,
    lock: Lock,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Lock {
    suite: String,
    packages: BTreeMap<String, Locked>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Locked {
    file: String,
    sha256: String,
}

impl Unpacked {
    /// The folder of one package's files.
    pub fn folder(&self, package: &str) -> Result<PathBuf> {
        let locked = self.lock.packages.get(package);
        let locked = locked.with_context(|| format!("no package {package} among the unpacked"))?;
        Ok(self.root.join(&locked.sha256))
    }

    /// One file of a package.
    pub fn file(&self, package: &str, path: &str) -> Result<PathBuf> {
        let file = self.folder(package)?.join(path);
        ensure!(file.is_file(), "package {package} has no file {path}");
        Ok(file)
    }

    /// The kernel package of an architecture, and its release (`uname -r`).
    pub fn kernel(&self, arch: &str) -> Result<(PathBuf, String)> {
        let name = self
            .lock
            .packages
            .keys()
            .find(|name| name.starts_with("linux-image-") && name.ends_with(&format!(":{arch}")));
        let name = name.with_context(|| format!("no kernel for {arch}"))?;
        let (package, _) = name.split_once(':').context("package without an architecture")?;
        let release = package.trim_start_matches("linux-image-").to_owned();
        Ok((self.folder(name)?, release))
    }

    /// A hash over every package's digest: changes when any package does.
    pub fn key(&self) -> String {
        let digests: Vec<&str> = self.lock.packages.values().map(|l| l.sha256.as_str()).collect();
        cache::sha256(digests.join("\n").as_bytes())
    }

    /// A program of an unpacked package, started through the unpacked C library (the machine's may be older).
    /// `name` is what the program finds as its own name: `depmod` makes kmod depmod.
    pub fn program(&self, package: &str, path: &str, name: &str) -> Result<Command> {
        let libraries = [
            "libblkid1",
            "libc6",
            "libkmod2",
            "liblzma5",
            "libssl3t64",
            "liburcu8t64",
            "libuuid1",
            "libzstd1",
            "zlib1g",
        ]
        .iter()
        .map(|library| Ok(self.folder(&format!("{library}:amd64"))?.join("usr/lib/x86_64-linux-gnu")))
        .collect::<Result<Vec<_>>>()?;
        let mut command = Command::new(self.file("libc6:amd64", "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")?);
        command.arg("--argv0").arg(name).arg("--library-path");
        command.arg(std::env::join_paths(libraries)?);
        command.arg(self.file(package, path)?);
        Ok(command)
    }

    /// `depmod` of kmod 34.
    pub fn depmod(&self) -> Result<Command> {
        self.program("kmod:amd64", "usr/bin/kmod", "depmod")
    }

    /// `xfs_repair` of xfsprogs 6.13.
    pub fn xfs_repair(&self) -> Result<Command> {
        self.program("xfsprogs:amd64", "usr/sbin/xfs_repair", "xfs_repair")
    }

    /// `ukify` of the unpacked systemd, run by the machine's own Python.
    pub fn ukify(&self) -> Result<Command> {
        let mut command = Command::new("/usr/bin/python3");
        command.arg(self.file("systemd-ukify:all", "usr/bin/ukify")?);
        Ok(command)
    }
}

/// Gets the unpacked packages, from the cache when they are all there.
pub fn unpacked() -> Result<Unpacked> {
    let _lock = cache::lock("packages")?;
    let root = cache::subfolder("packages")?;
    let lock_file = root.join("lock.json");
    if let Ok(bytes) = fs::read(&lock_file) {
        let lock: Lock = serde_json::from_slice(&bytes).context("cannot read the package lock")?;
        let wanted = UNPACKED.len() + KERNELS.len();
        let whole = lock.suite == SUITE
            && lock.packages.len() == wanted
            && UNPACKED.iter().all(|name| lock.packages.contains_key(*name))
            && lock.packages.values().all(|l| root.join(&l.sha256).is_dir());
        if whole {
            return Ok(Unpacked { root, lock });
        }
    }
    println!("unpacking Debian 13 packages into {}", root.display());
    let apt = apt::PrivateApt::new(&root.join("apt"))?;
    apt.run("apt-get", &["update", "-qq"])?;
    let mut names: Vec<String> = UNPACKED.iter().map(|name| (*name).to_owned()).collect();
    for meta in KERNELS {
        names.push(apt.kernel_behind(meta)?);
    }
    let lock = apt.download(&names, &root)?;
    fs::write(&lock_file, serde_json::to_vec_pretty(&lock)?)?;
    Ok(Unpacked { root, lock })
}
