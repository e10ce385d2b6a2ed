//! Boot assets: kernel, stub, boot loader and the base initramfs with its root file system.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::Size;
use super::versions::Era;
use crate::oci::tree::{Tree, noise};
use crate::packages::Unpacked;
use crate::run;

/// The architectures, as Go and OCI name them.
pub const ARCHES: [&str; 2] = ["amd64", "arm64"];

/// Time in every squashfs: seconds since the epoch.
const SQUASHFS_TIME: &str = "1559424892";

/// Folders of the kernel package whose modules the small release has.
const MODULES: &[&str] = &[
    "arch",
    "crypto",
    "drivers/block",
    "drivers/net",
    "drivers/virtio",
    "fs/fuse",
    "fs/nls",
    "fs/overlayfs",
    "fs/squashfs",
    "fs/xfs",
    "lib",
    "net/core",
    "net/ipv4",
    "net/ipv6",
];

/// Modules that the `dummy-driver` extension holds, so that the base lacks them; but `loop` is in both.
const DRIVERS: &[&str] = &["dummy", "ifb", "nlmon", "udp_tunnel", "wireguard"];

/// Boot assets of both architectures.
pub struct Boot {
    /// By architecture.
    pub arches: BTreeMap<&'static str, Arch>,
}

/// Boot assets of one architecture.
pub struct Arch {
    /// The kernel.
    pub vmlinuz: Vec<u8>,
    /// The stub of systemd, as installed by its package.
    pub stub: PathBuf,
    /// systemd-boot.
    pub boot: PathBuf,
    /// Static busybox.
    pub busybox: PathBuf,
    /// Release of the kernel (`uname -r`).
    pub release: String,
    /// Modules of the `dummy-driver` extension, uncompressed, by name without `.ko`.
    pub drivers: BTreeMap<String, Vec<u8>>,
    /// The base initramfs by what it depends on.
    initramfs: BTreeMap<Era, Vec<u8>>,
}

impl Arch {
    /// The base initramfs of an era.
    pub fn initramfs(&self, era: Era) -> Result<&[u8]> {
        // Nothing in the base changed in 1.11.
        let era = era.min(Era::UsrLib);
        Ok(self.initramfs.get(&era).with_context(|| format!("no initramfs for {era:?}"))?)
    }
}

/// Makes all boot assets; `scratch` is an empty folder.
pub fn make(packages: &Unpacked, size: Size, scratch: &Path) -> Result<Boot> {
    let mut arches = BTreeMap::new();
    for arch in ARCHES {
        arches.insert(arch, make_arch(packages, size, arch, &scratch.join(arch))?);
    }
    Ok(Boot { arches })
}

fn make_arch(packages: &Unpacked, size: Size, arch: &str, scratch: &Path) -> Result<Arch> {
    let (kernel, release) = packages.kernel(arch)?;
    let (stub, boot) = match arch {
        "arm64" => ("linuxaa64.efi.stub", "systemd-bootaa64.efi"),
        _ => ("linuxx64.efi.stub", "systemd-bootx64.efi"),
    };
    let efi =
        |name: &str| packages.file(&format!("systemd-boot-efi:{arch}"), &format!("usr/lib/systemd/boot/efi/{name}"));
    let busybox = packages.file(&format!("busybox-static:{arch}"), "usr/bin/busybox")?;
    let mut vmlinuz = fs::read(kernel.join(format!("boot/vmlinuz-{release}")))?;
    if size == Size::Full {
        // Bytes after the end of the PE image: no loader looks at them.
        let missing = size.kernel().saturating_sub(vmlinuz.len());
        vmlinuz.extend(noise(7, missing));
    }
    let all = scratch.join("modules");
    unpack_modules(&kernel.join("usr/lib/modules").join(&release), &all, size)?;
    let mut drivers = BTreeMap::new();
    let module = |name: &str| find_module(&all, name);
    for name in DRIVERS {
        let path = module(name)?;
        drivers.insert((*name).to_owned(), fs::read(&path)?);
        fs::remove_file(path)?;
    }
    drivers.insert("loop".to_owned(), fs::read(module("loop")?)?);
    let mut initramfs = BTreeMap::new();
    for era in [Era::Xz, Era::Lib, Era::UsrLib] {
        let rootfs = rootfs(era, size, &all, &release, &busybox, &scratch.join(format!("{era:?}")))?;
        let mut tree = Tree::new();
        for folder in ["dev", "mnt", "proc", "sys", "tmp"] {
            tree.folder(folder);
        }
        tree.file("bin/busybox", 0o755, fs::read(&busybox)?);
        tree.file("init", 0o755, include_bytes!("init.sh"));
        for name in ["loop", "overlay", "squashfs"] {
            tree.copy(&format!("modules/{name}.ko"), &module(name)?)?;
        }
        tree.file("rootfs.sqsh", 0o644, rootfs);
        initramfs.insert(era, compress(era, &tree.newc(), scratch)?);
    }
    Ok(Arch { vmlinuz, stub: efi(stub)?, boot: efi(boot)?, busybox, release, drivers, initramfs })
}

/// Copies the modules of a kernel package and unpacks them (Debian's are xz).
fn unpack_modules(from: &Path, to: &Path, size: Size) -> Result<()> {
    fs::create_dir_all(to.join("kernel"))?;
    for file in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        fs::copy(from.join(file), to.join(file))?;
    }
    let folders: &[&str] = if size == Size::Full { &["."] } else { MODULES };
    for folder in folders {
        let target = to.join("kernel").join(folder);
        fs::create_dir_all(&target)?;
        run::output(Command::new("cp").arg("-RT").arg(from.join("kernel").join(folder)).arg(&target))?;
    }
    let script = "find \"$1\" -name '*.ko.xz' -print0 | xargs -0 -r xz -d && chmod -R u=rwX,go=rX \"$1\"";
    run::output(Command::new("sh").args(["-c", script, "sh"]).arg(to))?;
    Ok(())
}

fn find_module(folder: &Path, name: &str) -> Result<PathBuf> {
    let file = format!("{name}.ko");
    walkdir::WalkDir::new(folder)
        .into_iter()
        .flatten()
        .find(|entry| entry.file_name().to_str() == Some(&file))
        .map(walkdir::DirEntry::into_path)
        .with_context(|| format!("the kernel package has no module {name}"))
}

/// The root file system of an era: modules, busybox and filler, as a squashfs.
fn rootfs(era: Era, size: Size, modules: &Path, release: &str, busybox: &Path, scratch: &Path) -> Result<Vec<u8>> {
    let root = scratch.join("root");
    let target = root.join(era.lib()).join("modules").join(release);
    fs::create_dir_all(target.parent().context("no parent")?)?;
    for folder in ["dev", "etc", "proc", "sys", "tmp", "usr/bin", "usr/local", "usr/share", "usr/lib"] {
        fs::create_dir_all(root.join(folder))?;
    }
    if era > Era::Lib {
        std::os::unix::fs::symlink("usr/lib", root.join("lib"))?;
    }
    run::output(Command::new("cp").arg("-RlT").arg(modules).arg(&target))?;
    fs::copy(busybox, root.join("usr/bin/busybox"))?;
    fs::write(root.join("etc/os-release"), "NAME=\"Talos\"\nID=talos\n")?;
    fs::write(root.join("usr/share/filler"), noise(11, size.rootfs_filler()))?;
    let image = scratch.join("rootfs.sqsh");
    let mut command = Command::new("mksquashfs");
    command.arg(&root).arg(&image);
    command.args(["-noappend", "-no-progress", "-quiet", "-all-root", "-no-xattrs", "-reproducible"]);
    command.args(["-mkfs-time", SQUASHFS_TIME, "-all-time", SQUASHFS_TIME]);
    match era {
        Era::Xz => command.args(["-comp", "xz"]),
        _ => command.args(["-comp", "zstd", "-Xcompression-level", "6"]),
    };
    command.env_remove("SOURCE_DATE_EPOCH");
    run::output(&mut command)?;
    Ok(fs::read(image)?)
}

/// Compresses an initramfs: xz with CRC-32, as the kernel wants it, or a zstd frame with its size and checksum.
fn compress(era: Era, archive: &[u8], scratch: &Path) -> Result<Vec<u8>> {
    if era == Era::Xz {
        let plain = scratch.join("initramfs");
        fs::write(&plain, archive)?;
        return run::output(Command::new("xz").args(["--check=crc32", "-1", "-T1", "-c"]).arg(&plain));
    }
    let mut encoder = zstd::Encoder::new(Vec::new(), 3)?;
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(Some(archive.len() as u64))?;
    std::io::copy(&mut &archive[..], &mut encoder)?;
    Ok(encoder.finish()?)
}
