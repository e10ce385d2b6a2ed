//! `./conformance/bench`: how fast it is, against named peers in the same run, on the full release.
//!
//! Ours and the peer take turns, and a row gives the medians. Both must have done the work: digests, lengths and files are
//! held against each other. A missed target is printed and fails nothing; what is broken does.

mod disk;
mod http;
mod installer;
mod iso;
mod load;
mod memory;
mod operator;
mod report;
mod schematics;
mod serving;
mod slow;
mod world;

use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{packages, run};
use report::Line;
use world::World;

/// What the bench needs on the machine beside what the harness does: peers, and the tools of the operator's script.
const PACKAGES: &[&str] = &[
    "dosfstools",
    "gdisk",
    "grub-common",
    "grub-pc-bin",
    "mtools",
    "nginx",
    "pigz",
    "qemu-utils",
    "wrk",
    "xfsprogs",
    "xorriso",
    "xz-utils",
];

/// A row of the table, or some that come from one measurement.
struct Row {
    name: &'static str,
    what: &'static str,
    run: fn(&mut World) -> Result<Vec<Line>>,
}

const fn row(name: &'static str, what: &'static str, run: fn(&mut World) -> Result<Vec<Line>>) -> Row {
    Row { name, what, run }
}

const ROWS: &[Row] = &[
    row("installer", "a never-asked installer against an operator's script", installer::made),
    row("pull", "its whole pull with skopeo against distribution's registry", installer::pulled),
    row("blob", "warm GET of a 100 MB blob against nginx", serving::blob),
    row("manifest", "GET of a manifest against distribution's registry", serving::manifest),
    row("memory", "anonymous memory over 1,000 pulls", memory::pulls),
    row("post", "POST of new schematics", schematics::post),
    row("growth", "what the store grows by for a schematic", schematics::growth),
    row("iso", "a never-asked ISO image against an operator's script", iso::made),
    row("iso-head", "HEAD of never-asked ISO images", iso::head),
    row("iso-get", "warm GET of an ISO image against nginx", iso::get),
    row("iso-memory", "anonymous memory over 1,000 downloads at once", iso::memory),
    row("iso-size", "what a model adds to the store; the length of its ISO image", iso::size),
    row("disk", "never-asked disk images in every format against an operator's script", disk::made),
    row("disk-head", "HEAD of never-asked disk images in every format", disk::head),
    row("disk-memory", "anonymous memory over 64 different disk images at once", disk::memory),
    row("disk-growth", "what a disk image adds to the store and to temporary files", disk::growth),
    row("iso-slow", "full speed beside 500 slow clients", slow::slow),
];

/// Measures the rows named, or all, and prints the table.
pub fn run(names: &[String]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| ROWS.iter().all(|row| row.name != **name)) {
        let known: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        bail!("no row is named {unknown}; there are {}", known.join(", "));
    }
    packages::install(packages::MACHINE)?;
    packages::install(PACKAGES)?;
    // A thousand connections at once, here and in what is started from here.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let start = Instant::now();
    let passed = || format!("{:.0} s", start.elapsed().as_secs_f64());
    println!("== {}\n== the full release; a factory from an empty store", machine()?);
    let mut world = World::start()?;
    let mut lines = Vec::new();
    for row in ROWS.iter().filter(|row| names.is_empty() || names.iter().any(|name| name == row.name)) {
        println!("== {}: {} ({})", row.name, row.what, passed());
        let measured = (row.run)(&mut world).with_context(|| format!("row {}", row.name))?;
        measured.iter().for_each(|line| println!("{}", line.row()));
        lines.extend(measured);
    }
    lines.extend(world.setup);
    println!("\n{}\n{}\n\n{}", machine()?, compared()?, report::HEAD);
    lines.iter().for_each(|line| println!("{}", line.row()));
    let missed = lines.iter().filter(|line| line.met == Some(false)).count();
    println!("\n{missed} missed, {}", passed());
    Ok(())
}

/// The machine in a line.
fn machine() -> Result<String> {
    let text = |path: &str| fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
    let (processor, memory) = (text("/proc/cpuinfo")?, text("/proc/meminfo")?);
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
        line.map_or_else(|| "?".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let gigabytes = field(&memory, "MemTotal").trim_end_matches(" kB").parse::<f64>().unwrap_or_default() / 1e6;
    let processors = std::thread::available_parallelism()?;
    let system = text("/etc/os-release")?;
    let system = system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("?").trim_matches('"');
    let kernel = text("/proc/sys/kernel/osrelease")?;
    let load = text("/proc/loadavg")?;
    Ok(format!(
        "machine: {processors} × {}, {gigabytes:.0} GB, Linux {}, {system}, load {}",
        field(&processor, "model name"),
        kernel.trim(),
        load.split(' ').next().unwrap_or("?")
    ))
}

/// What was compared, by package and version.
fn compared() -> Result<String> {
    let mut peers = Vec::new();
    for name in [
        "nginx",
        "docker-registry",
        "skopeo",
        "squashfs-tools",
        "kmod",
        "zstd",
        "xz-utils",
        "pigz",
        "qemu-utils",
        "xorriso",
        "wrk",
    ] {
        let mut command = Command::new("dpkg-query");
        command.args(["-W", "-f", "${Package} ${Version}", name]);
        peers.push(run::text(&mut command)?);
    }
    Ok(format!("against: {}", peers.join(", ")))
}
