//! Kernel command lines.
//!
//! The order in which arguments are gathered, and which replace and which append, is the contract: a machine that was
//! installed from one factory must find the same line in the next. Golden data: `tests/golden/cmdlines`.

mod args;

use std::io::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::types::{Arch, Platform, TalosVersion};
use args::Args;

/// META values of more bytes than this are compressed, where the version allows.
const META_PLAIN_MAX: usize = 256;

/// What the command line is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CmdlineAsset {
    /// The command line itself, as an asset or in a PXE script. It never carries overlay arguments.
    Cmdline,
    /// An ISO image.
    Iso,
    /// A disk image.
    Image,
    /// A plain unified kernel image.
    Uki,
    /// An installer image.
    Installer,
}

/// All that a command line depends on.
#[derive(Clone, Copy, Debug)]
pub struct CmdlineRequest<'a> {
    /// The Talos version.
    pub version: &'a TalosVersion,
    /// The platform of the machine.
    pub platform: Platform,
    /// The architecture of the machine.
    pub arch: Arch,
    /// Whether the asset is one for secure boot.
    pub secure_boot: bool,
    /// What the command line is made for.
    pub asset: CmdlineAsset,
    /// Arguments that the overlay's installer reports; empty without an overlay.
    pub overlay_args: &'a [String],
    /// The schematic's extra kernel arguments, deletions (`-key`, `-key=value`) among them.
    pub extra_args: &'a [String],
    /// The schematic's META values in their order: key and value.
    pub meta: &'a [(u8, String)],
}

/// Why there is no command line for a request. Each is the caller's fault.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CmdlineError {
    /// A version before secure boot.
    #[error("secure boot is not supported by Talos {0}: it came with v1.5.0")]
    SecureBoot(TalosVersion),
    /// A version before unified kernel images.
    #[error("unified kernel images are not supported by Talos {0}: they came with v1.5.0")]
    Uki(TalosVersion),
    /// A version before overlays.
    #[error("overlays are not supported by Talos {0}: they came with v1.7.0")]
    Overlay(TalosVersion),
    /// A character that ends the line for whoever reads it.
    #[error("kernel argument {0:?} holds a NUL character")]
    Nul(String),
}

/// A further boot entry of a unified kernel image, after the main one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// What boot menus sort and select by.
    pub id: &'static str,
    /// What boot menus show.
    pub title: &'static str,
    /// The entry's whole command line.
    pub cmdline: String,
}

/// The command line of an asset, without a newline.
///
/// # Errors
/// [`CmdlineError`] when the version cannot have such an asset, or an argument cannot stand on a command line.
pub fn cmdline(request: &CmdlineRequest<'_>) -> Result<String, CmdlineError> {
    check(request)?;
    let CmdlineRequest { version, platform, asset, .. } = *request;
    let mut args = Args::parse(&[format!("talos.platform={}", boot_name(platform))]);
    args.set(Args::parse(&platform_args(request)));
    if asset == CmdlineAsset::Iso && version.halts_if_installed() {
        args.append(Args::parse(&["talos.halt_if_installed=1"]));
    }
    if asset != CmdlineAsset::Cmdline {
        args.set(Args::parse(request.overlay_args));
    }
    args.append(Args::parse(&version_args(version)));
    if request.secure_boot && version.forces_lockdown() {
        args.append(Args::parse(&["lockdown=confidentiality"]));
    }
    if matches!(asset, CmdlineAsset::Cmdline | CmdlineAsset::Iso) && !request.meta.is_empty() {
        let encoded = encode_meta(request.meta, version.compresses_meta());
        args.append(Args::parse(&[format!("talos.environment=INSTALLER_META_BASE64={encoded}")]));
    }
    // Before 1.10 an installed machine takes extra arguments from its configuration, unless what it boots is signed.
    let fixed = matches!(asset, CmdlineAsset::Uki | CmdlineAsset::Installer);
    if !fixed || request.secure_boot || version.has_unified_installer() {
        args.customize(Args::parse(request.extra_args));
    }
    Ok(args.to_string().trim_matches(' ').to_owned())
}

/// Whether a UKI is made for the asset: on its own, or as a part.
pub fn needs_uki(version: &TalosVersion, asset: CmdlineAsset) -> bool {
    asset != CmdlineAsset::Cmdline && version.has_uki()
}

/// The boot entry that the UKI of an asset has beside its main one, whose command line is `cmdline`.
pub fn extra_profile(version: &TalosVersion, asset: CmdlineAsset, cmdline: &str) -> Option<Profile> {
    let (id, title, wipe) = match asset {
        CmdlineAsset::Iso => ("reset", "Reset system disk", "system"),
        CmdlineAsset::Image | CmdlineAsset::Installer => {
            ("reset-maintenance", "Reset to maintenance mode", "system:EPHEMERAL,STATE")
        }
        CmdlineAsset::Cmdline | CmdlineAsset::Uki => return None,
    };
    let cmdline = format!("{cmdline} talos.experimental.wipe={wipe}");
    version.has_uki_profiles().then_some(Profile { id, title, cmdline })
}

/// The command line as a disk image's GRUB configuration has it: read and written once more, so that empty words vanish.
pub fn grub_disk_cmdline(cmdline: &str) -> String {
    Args::parse(&[cmdline]).to_string()
}

fn check(request: &CmdlineRequest<'_>) -> Result<(), CmdlineError> {
    let version = request.version;
    if !request.overlay_args.is_empty() && !version.has_overlays() {
        return Err(CmdlineError::Overlay(version.clone()));
    }
    if request.secure_boot && !version.has_uki() {
        return Err(CmdlineError::SecureBoot(version.clone()));
    }
    if request.asset == CmdlineAsset::Uki && !version.has_uki() {
        return Err(CmdlineError::Uki(version.clone()));
    }
    match request.extra_args.iter().chain(request.overlay_args).find(|arg| arg.contains('\0')) {
        Some(arg) => Err(CmdlineError::Nul(arg.clone())),
        None => Ok(()),
    }
}

/// The name that Talos knows a platform by when it boots.
fn boot_name(platform: Platform) -> &'static str {
    match platform {
        Platform::Packet => Platform::EquinixMetal.as_str(),
        other => other.as_str(),
    }
}

/// What a platform needs, by architecture and version.
fn platform_args(request: &CmdlineRequest<'_>) -> Vec<&'static str> {
    use Platform as P;
    let amd64 = request.arch == Arch::Amd64;
    let mut args = match request.platform {
        P::Metal if !amd64 => vec!["console=ttyAMA0", "console=tty0"],
        P::Metal if request.version.has_metal_serial_console() => vec!["console=ttyS0", "console=tty0"],
        P::Metal => vec!["console=tty0"],
        P::Container => vec![],
        P::EquinixMetal | P::Packet if amd64 => vec!["console=ttyS1,115200n8"],
        P::EquinixMetal | P::Packet => vec!["console=ttyAMA0,115200"],
        P::Akamai | P::DigitalOcean => vec!["console=ttyS0", "console=tty0", "console=tty1", "net.ifnames=0"],
        P::Azure => {
            vec!["console=ttyS0,115200n8", "earlyprintk=ttyS0,115200", "rootdelay=300", "net.ifnames=0"]
        }
        P::Gcp => vec!["console=ttyS0", "net.ifnames=0"],
        P::UpCloud | P::Vultr => vec!["net.ifnames=0"],
        P::Vmware if amd64 => {
            vec!["talos.config=guestinfo", "console=tty0", "console=ttyS0", "earlyprintk=ttyS0,115200", "net.ifnames=0"]
        }
        P::Vmware => vec!["talos.config=guestinfo", "console=tty0", "console=ttyAMA0", "net.ifnames=0"],
        P::Aws
        | P::AlibabaCloud
        | P::CloudStack
        | P::Exoscale
        | P::Hcloud
        | P::Nocloud
        | P::OpenNebula
        | P::OpenStack
        | P::Oracle
        | P::Scaleway => vec!["console=tty1", "console=ttyS0", "net.ifnames=0"],
    };
    if matches!(request.platform, P::Azure | P::Gcp | P::Oracle | P::Scaleway) {
        args.push("talos.dashboard.disabled=1");
    }
    if matches!(request.platform, P::Azure | P::Gcp) {
        args.push("sysctl.kernel.kexec_load_disabled=1");
    }
    if request.platform == P::Aws && !request.version.sets_nvme_timeout_everywhere() {
        args.push(NVME_TIMEOUT);
    }
    args
}

/// The longest time-out there is, in seconds: network block devices may be away for long.
const NVME_TIMEOUT: &str = "nvme_core.io_timeout=4294967295";

/// What every machine of a version gets.
fn version_args(version: &TalosVersion) -> Vec<&'static str> {
    let all: [(bool, &[&str]); 8] = [
        (version.sets_init_on_alloc(), &["init_on_alloc=1"]),
        (true, &["slab_nomerge", "pti=on", "consoleblank=0"]),
        (version.sets_nvme_timeout_everywhere(), &[NVME_TIMEOUT]),
        (true, &["printk.devkmsg=on"]),
        (version.has_ima(), &["ima_template=ima-ng", "ima_appraise=fix", "ima_hash=sha512"]),
        (version.has_selinux(), &["selinux=1"]),
        (version.enforces_module_signatures(), &["module.sig_enforce=1"]),
        (version.forbids_proc_mem_override(), &["proc_mem.force_override=never"]),
    ];
    all.into_iter().filter(|(wanted, _)| *wanted).flat_map(|(_, args)| args.iter().copied()).collect()
}

/// META values as the installer reads them from its environment: `0x<hex key>=<value>` joined by `;`, in base64.
fn encode_meta(meta: &[(u8, String)], may_compress: bool) -> String {
    let plain = meta.iter().map(|(key, value)| format!("{key:#x}={value}")).collect::<Vec<_>>().join(";");
    let compressed = if may_compress && plain.len() > META_PLAIN_MAX { gzip(plain.as_bytes()).ok() } else { None };
    STANDARD.encode(compressed.unwrap_or_else(|| plain.into_bytes()))
}

/// RFC 1952, without name and time.
fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

#[cfg(test)]
mod tests;
