//! Boots a UKI in QEMU under UEFI firmware and reads what the miniature release says on its console.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::run;

/// What the booted system said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Console {
    /// Release of the kernel.
    pub kernel: String,
    /// The kernel command line, as the kernel saw it.
    pub cmdline: String,
    /// The text of `extensions.yaml`.
    pub extensions_yaml: String,
    /// Mounted extension images in order, each with its files (paths from `/`).
    pub extensions: Vec<(String, Vec<String>)>,
    /// Firmware files beside the extensions.
    pub firmware: Vec<String>,
    /// Modules of extensions that loaded through their index.
    pub modules: Vec<String>,
    /// What went wrong inside.
    pub failures: Vec<String>,
    /// All of the console's text.
    pub text: String,
}

impl Console {
    /// Reads the init's lines; an error when the end mark is missing.
    pub fn parse(text: &str) -> Result<Self> {
        let mut console = Self { text: text.to_owned(), ..Self::default() };
        let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut images = Vec::new();
        let mut started = false;
        let mut done = false;
        for line in text.lines().map(|line| line.trim_end_matches('\r')) {
            let Some((word, rest)) = line.split_once(':') else { continue };
            let value = rest.strip_prefix(' ').unwrap_or(rest);
            match (word, value) {
                ("TALOS-MINI", "start") => started = true,
                ("TALOS-MINI", "done") => done = true,
                _ if !started => {}
                ("kernel", _) => console.kernel = value.to_owned(),
                ("cmdline", _) => console.cmdline = value.to_owned(),
                ("yaml", _) => {
                    console.extensions_yaml.push_str(value);
                    console.extensions_yaml.push('\n');
                }
                ("extension", _) => images.push(value.to_owned()),
                ("file", _) => {
                    let (image, path) = value.split_once(' ').with_context(|| format!("odd line: {line}"))?;
                    files.entry(image.to_owned()).or_default().push(path.to_owned());
                }
                ("firmware", _) => console.firmware.push(value.to_owned()),
                ("modprobe", _) if !value.contains(' ') => console.modules.push(value.to_owned()),
                ("failed", _) => console.failures.push(value.to_owned()),
                _ => {}
            }
        }
        if !done {
            let tail: Vec<&str> = text.lines().rev().take(30).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            bail!("the console ends without the end mark:\n{}", tail.join("\n"));
        }
        console.extensions =
            images.into_iter().map(|image| (image.clone(), files.remove(&image).unwrap_or_default())).collect();
        Ok(console)
    }
}

/// How to boot an architecture.
struct Machine {
    program: &'static str,
    arguments: &'static [&'static str],
    code: &'static str,
    variables: &'static str,
    boot_file: &'static str,
}

const AMD64: Machine = Machine {
    program: "qemu-system-x86_64",
    arguments: &["-machine", "q35", "-cpu", "max"],
    code: "/usr/share/OVMF/OVMF_CODE_4M.fd",
    variables: "/usr/share/OVMF/OVMF_VARS_4M.fd",
    boot_file: "BOOTX64.EFI",
};

const ARM64: Machine = Machine {
    program: "qemu-system-aarch64",
    arguments: &["-machine", "virt", "-cpu", "cortex-a57"],
    code: "/usr/share/AAVMF/AAVMF_CODE.fd",
    variables: "/usr/share/AAVMF/AAVMF_VARS.fd",
    boot_file: "BOOTAA64.EFI",
};

/// Boots a UKI as the default loader of an EFI system partition, without network, by software emulation.
/// Fails when the machine does not power off within `limit`.
pub fn boot_uki(uki: &Path, arch: &str, limit: Duration) -> Result<Console> {
    let machine = if arch == "arm64" { &ARM64 } else { &AMD64 };
    let scratch = tempfile::tempdir()?;
    let at = |name: &str| scratch.path().join(name);
    let boot = at("esp").join("EFI/BOOT");
    fs::create_dir_all(&boot)?;
    fs::copy(uki, boot.join(machine.boot_file)).with_context(|| format!("cannot copy {}", uki.display()))?;
    fs::copy(machine.variables, at("vars.fd"))?;
    let mut command = Command::new(machine.program);
    command.args(machine.arguments).args(["-accel", "tcg", "-m", "1536", "-nographic", "-no-reboot"]);
    command.args(["-monitor", "none", "-net", "none", "-serial"]).arg(format!("file:{}", at("console").display()));
    command.arg("-drive").arg(format!("if=pflash,format=raw,readonly=on,file={}", machine.code));
    command.arg("-drive").arg(format!("if=pflash,format=raw,file={}", at("vars.fd").display()));
    command.arg("-drive").arg(format!("if=none,id=esp,format=raw,readonly=on,file=fat:{}", at("esp").display()));
    command.args(["-device", "virtio-blk-pci,drive=esp"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(at("qemu.log"))?);
    let mut child = command.spawn().with_context(|| format!("cannot start {}", machine.program))?;
    let start = Instant::now();
    let ended = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if start.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let text = String::from_utf8_lossy(&fs::read(at("console")).unwrap_or_default()).into_owned();
    match ended {
        Some(status) if status.success() => Console::parse(&text),
        Some(status) => bail!("{} ended with {status}: {}", machine.program, fs::read_to_string(at("qemu.log"))?),
        None => {
            let console = Console::parse(&text)?;
            bail!("the system said all but did not power off in {limit:?}: {}", console.text)
        }
    }
}

/// Makes a UKI with systemd's `ukify`, to boot a release without a factory.
pub fn ukify(
    packages: &crate::packages::Unpacked,
    assets: &Path,
    initrds: &[&Path],
    cmdline: &str,
    output: &Path,
) -> Result<()> {
    let mut command = packages.ukify()?;
    command.arg("build").arg("--stub").arg(assets.join("systemd-stub.efi"));
    command.arg("--linux").arg(assets.join("vmlinuz")).arg(format!("--cmdline={cmdline}"));
    for initrd in initrds {
        command.arg("--initrd").arg(initrd);
    }
    command.arg("--os-release=ID=talos\nNAME=Talos\n").arg("--output").arg(output);
    run::output(&mut command)?;
    Ok(())
}
