//! Rows about one installer: until its manifest is answered, and until all of it is pulled.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::operator::{self, Operator};
use super::report::{Line, in_seconds, median, seconds};
use super::world::{Image, Own, VERSION, World};
use crate::registry::Registry;
use crate::run;

/// Rounds of ours and theirs, one after the other.
const ROUNDS: usize = 3;

/// Never-asked installers of ours in a round.
const ASKED: usize = 5;

/// Rounds of pulls.
const PULLS: usize = 7;

/// A never-asked installer, manifest answered, against the operator's script.
pub fn made(world: &mut World) -> Result<Vec<Line>> {
    let storage = tempfile::tempdir()?;
    let registry = Registry::writable(storage.path())?;
    let mut operator = Operator::prepare(&world.release, &world.at("operator"))?;
    let (mut ours, mut same_line, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    let mut last = String::new();
    for round in 0..ROUNDS {
        for _ in 0..ASKED {
            same_line.push(world.ask_anew(Own::Meta)?.time);
            let image = world.ask_anew(Own::Argument)?;
            ours.push(image.time);
            last = image.id;
        }
        let tag = format!("{}/operator:{round}", registry.address());
        theirs.push(operator.installer("amd64 arm64", &format!("docker://{tag}"))?);
    }
    let ours_image = format!("{}/installer/{last}:{VERSION}", world.factory()?.address());
    operator::same(world, &ours_image, &format!("{}/operator:0", registry.address()))?;
    let single = operator.installer("amd64", &format!("docker://{}/operator:single", registry.address()))?;
    let [ours, same_line, theirs] = [ours, same_line, theirs].map(|samples| median(&in_seconds(&samples)));
    let line = |what: &str, ours| {
        let what = format!("never-asked installer, 3 extensions, both architectures, manifest answered, {what}");
        Line::faster(what, ours, theirs, 100.0).against("operator's script")
    };
    let single = Line {
        peer: seconds(single.as_secs_f64()),
        ..Line::figure("the same script for amd64 alone (ours always makes both)", "")
    };
    Ok(vec![line("a command line of its own", ours), line("the usual command line", same_line), single])
}

/// The whole pull of a never-asked installer, against pulling the finished image from distribution's registry.
pub fn pulled(world: &mut World) -> Result<Vec<Line>> {
    let storage = tempfile::tempdir()?;
    let registry = Registry::writable(storage.path())?;
    let (mut ours, mut theirs) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for round in 0..PULLS {
        for (n, all) in [true, false].into_iter().enumerate() {
            let id = world.post()?;
            let source = format!("docker://{}/installer/{id}:{VERSION}", world.factory()?.address());
            let target = format!("docker://{}/finished:{round}-{n}", registry.address());
            let first = pull(&source, &world.at("pulled-ours"), all)?;
            run::output(&mut skopeo(true, &["--src-tls-verify=false", "--dest-tls-verify=false", &source, &target]))?;
            let second = pull(&target, &world.at("pulled-theirs"), all)?;
            let bytes = |side: &str| fs::read(world.at(side).join("manifest.json"));
            ensure!(bytes("pulled-ours")? == bytes("pulled-theirs")?, "the two pulls have different manifests");
            ours[n].push(first);
            theirs[n].push(second);
        }
    }
    let line = |n: usize, what: &str| {
        let (ours, theirs) = (median(&in_seconds(&ours[n])), median(&in_seconds(&theirs[n])));
        let line = Line::time_of(format!("whole pull of a never-asked installer, skopeo, {what}"), ours, theirs, 1.2);
        line.against("distribution, finished image")
    };
    Ok(vec![line(0, "both architectures"), line(1, "one architecture")])
}

fn skopeo(all: bool, args: &[&str]) -> Command {
    let mut command = Command::new("skopeo");
    command.args(["--override-os", "linux", "--override-arch", "amd64", "copy", "--quiet", "--preserve-digests"]);
    if all {
        command.arg("--all");
    }
    command.args(args);
    command
}

/// Pulls into a folder, which is emptied before; skopeo holds every byte against its digest.
fn pull(source: &str, to: &Path, all: bool) -> Result<Duration> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    run::output(&mut Command::new("sync"))?;
    let start = Instant::now();
    run::output(&mut skopeo(all, &["--src-tls-verify=false", source, &format!("dir:{}", to.display())]))?;
    let time = start.elapsed();
    let bytes = super::world::bytes_below(to)?;
    ensure!(bytes > if all { 180_000_000 } else { 90_000_000 }, "skopeo pulled no more than {bytes} bytes");
    Ok(time)
}

/// Copies an installer of ours into another registry, digests kept.
pub fn copy_finished(world: &World, image: &Image, registry: &Registry, name: &str) -> Result<()> {
    let source = format!("docker://{}/installer/{}:{VERSION}", world.factory()?.address(), image.id);
    let target = format!("docker://{}/{name}", registry.address());
    run::output(&mut skopeo(true, &["--src-tls-verify=false", "--dest-tls-verify=false", &source, &target]))
        .map(drop)
        .context("skopeo cannot copy the finished image")
}
