//! Boots what a factory serves in QEMU, by software emulation, and reads what the miniature release says on its console.

mod console;
mod machine;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

pub use console::{Console, Listed, meta};
pub use machine::{Firmware, Machine, Medium};

use crate::run;

/// Where a machine on [`Medium::Network`] finds the host's loopback interface.
pub const HOST: &str = "10.0.2.2";

/// Boots a machine and gives what the system said; fails when it does not power off within `limit`.
pub fn boot(machine: &Machine<'_>, limit: Duration) -> Result<Console> {
    let scratch = tempfile::tempdir()?;
    let at = |name: &str| scratch.path().join(name);
    let mut command = machine.command(scratch.path())?;
    command.args(["-accel", "tcg", "-m", "1536", "-nographic", "-no-reboot", "-monitor", "none"]);
    command.arg("-serial").arg(format!("file:{}", at("console").display()));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(at("qemu.log"))?);
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
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
        Some(status) if status.success() => Console::parse(&text).with_context(|| format!("{machine:?}")),
        Some(status) => bail!("{command:?} ended with {status}: {}", fs::read_to_string(at("qemu.log"))?),
        None => {
            let console = Console::parse(&text).with_context(|| format!("{machine:?} did not end in {limit:?}"))?;
            bail!("{machine:?} said all but did not power off in {limit:?}: {}", console.text)
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
