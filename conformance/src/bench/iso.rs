//! Rows about boot media over HTTP: ISO images that nobody asked for before.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::http::Connection;
use super::memory::{Watch, parallel};
use super::operator::Operator;
use super::report::{Line, bytes, in_seconds, median, quantile, seconds};
use super::serving::{against_nginx, save};
use super::world::{VERSION, World, bytes_below, forget_index};
use crate::run;

/// Rounds of ours and theirs, one after the other.
const ROUNDS: usize = 3;

/// Never-asked images of ours in a round.
const ASKED: usize = 3;

/// Requests for heads, and the time between two.
const HEADS: usize = 500;
const PACE: Duration = Duration::from_millis(10);

/// Downloads at once.
const DOWNLOADS: usize = 1000;

/// Models whose cost is measured.
const MODELS: u64 = 20;

/// Path of an asset.
pub fn path(id: &str, asset: &str) -> String {
    format!("/image/{id}/{VERSION}/{asset}")
}

/// Path of the ISO image.
pub fn iso(id: &str) -> String {
    path(id, "metal-amd64.iso")
}

/// Whether the factory has ISO images at all; a line that says so if not.
pub fn unavailable(world: &mut World) -> Result<Option<Vec<Line>>> {
    let id = world.post()?;
    let head = world.connect()?.request("HEAD", &iso(&id), &[])?;
    let line = |status| vec![Line::figure("ISO images", format!("not available here: HEAD answers {status}"))];
    Ok((head.status != 200).then(|| line(head.status)))
}

/// First byte and whole of a never-asked ISO image, against the operator's script.
pub fn made(world: &mut World) -> Result<Vec<Line>> {
    if let Some(lines) = unavailable(world)? {
        return Ok(lines);
    }
    // The index over modules must be there to be forgotten.
    let id = world.post()?;
    world.connect()?.pull(&iso(&id), false)?;
    let mut operator = Operator::prepare(&world.release, &world.at("operator-iso"))?;
    let (mut first, mut whole, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    let mut last = String::new();
    for round in 0..ROUNDS {
        for _ in 0..ASKED {
            last = world.post()?;
            forget_index(&world.store())?;
            let mut connection = world.connect()?;
            let start = Instant::now();
            let head = connection.request("GET", &iso(&last), &[])?;
            ensure!(head.status == 200, "GET {}: {}", iso(&last), head.status);
            let mut left = head.length - connection.some(head.length, |_| {})?;
            first.push(start.elapsed());
            while left > 0 {
                left -= connection.some(left, |_| {})?;
            }
            whole.push(start.elapsed());
        }
        theirs.push(operator.iso("amd64", &world.at(&format!("operator-{round}.iso")))?);
    }
    save(world.factory()?.address(), &iso(&last), &world.at("ours.iso"))?;
    for name in ["ours.iso", "operator-0.iso"] {
        check(world, name)?;
    }
    let [first, whole, theirs] = [first, whole, theirs].map(|samples| median(&in_seconds(&samples)));
    let line = |what: &str, ours, factor| {
        Line::faster(format!("never-asked ISO, 3 extensions, amd64, {what}"), ours, theirs, factor)
            .against("operator's script")
    };
    Ok(vec![line("first byte", first, 500.0), line("whole", whole, 20.0)])
}

/// Holds an image against what an outside program reads in it.
fn check(world: &World, name: &str) -> Result<()> {
    let mut command = Command::new("xorriso");
    command.arg("-indev").arg(world.at(name)).args(["-report_el_torito", "plain", "-find", "/", "-type", "f"]);
    let report = run::text(&mut command)?;
    for word in ["BIOS", "UEFI", "'/boot/vmlinuz'", "'/boot/initramfs.xz'", "'/EFI/Linux/", "'/EFI/BOOT/BOOTX64.EFI'"] {
        ensure!(report.contains(word), "{name} has no {word}:\n{report}");
    }
    Ok(())
}

/// HEAD of never-asked ISO images at a steady pace, whoever is late.
pub fn head(world: &mut World) -> Result<Vec<Line>> {
    if let Some(lines) = unavailable(world)? {
        return Ok(lines);
    }
    let ids = (0..HEADS).map(|_| world.post()).collect::<Result<Vec<_>>>()?;
    let times = std::sync::Mutex::new(Vec::new());
    let address = world.factory()?.address();
    let start = Instant::now() + Duration::from_millis(50);
    parallel(HEADS, 16, |n| {
        let mut connection = Connection::open(address)?;
        let due = start + PACE * n as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let head = connection.request("HEAD", &iso(&ids[n]), &[])?;
        let time = due.elapsed().as_secs_f64();
        ensure!(head.status == 200 && head.length > 90_000_000, "HEAD {}: {head:?}", iso(&ids[n]));
        if let Ok(mut times) = times.lock() {
            times.push(time);
        }
        Ok(())
    })?;
    let times = times.into_inner().unwrap_or_default();
    ensure!(times.len() == HEADS, "{} answers", times.len());
    let [p50, p99] = [0.5, 0.99].map(|part| quantile(&times, part));
    let line = Line::at_most("HEAD of never-asked ISO images, 100 a second, p99", p99, 0.010, seconds);
    Ok(vec![Line { ours: format!("p50 {}, p99 {}", seconds(p50), seconds(p99)), ..line }])
}

/// Warm GET, 1 and 64 connections, against nginx serving the finished file.
pub fn get(world: &mut World) -> Result<Vec<Line>> {
    if let Some(lines) = unavailable(world)? {
        return Ok(lines);
    }
    let id = world.post()?;
    against_nginx(world, &iso(&id), None, 1.0, "warm ISO GET")
}

/// Anonymous memory over downloads of different models, all at once.
pub fn memory(world: &mut World) -> Result<Vec<Line>> {
    if let Some(lines) = unavailable(world)? {
        return Ok(lines);
    }
    world.restart()?;
    let ids = (0..DOWNLOADS).map(|_| world.post()).collect::<Result<Vec<_>>>()?;
    let address = world.factory()?.address();
    let watch = Watch::start(world.factory()?.pid())?;
    let start = Instant::now();
    let pulled = std::sync::atomic::AtomicU64::new(0);
    // Nobody reads until all are connected and have the head of their answer.
    let gate = std::sync::Barrier::new(DOWNLOADS);
    parallel(DOWNLOADS, DOWNLOADS, |n| {
        let opened = Connection::with_buffer(address, 64 * 1024).and_then(|mut connection| {
            let head = connection.request("GET", &iso(&ids[n]), &[])?;
            Ok((connection, head))
        });
        gate.wait();
        let (mut connection, head) = opened?;
        ensure!(head.status == 200, "GET {}: {}", iso(&ids[n]), head.status);
        connection.body(&head, |_| {})?;
        pulled.fetch_add(head.length, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    })?;
    let rate = pulled.into_inner() as f64 / start.elapsed().as_secs_f64();
    println!("    {DOWNLOADS} ISO images of {DOWNLOADS} models at once, {}", super::report::bandwidth(rate));
    let what = format!("peak RssAnon, {DOWNLOADS} ISO downloads of different models at once");
    Ok(vec![Line::at_most(what, watch.peak()? as f64, 96.0 * 1_048_576.0, bytes)])
}

/// Bytes that a model adds to the store, and how long its ISO image is beside its UKI.
pub fn size(world: &mut World) -> Result<Vec<Line>> {
    if let Some(lines) = unavailable(world)? {
        return Ok(lines);
    }
    let id = world.post()?;
    let mut connection = world.connect()?;
    let (length, _) = connection.pull(&iso(&id), false)?;
    let uki = connection.request("HEAD", &path(&id, "metal-amd64-uki.efi"), &[])?;
    ensure!(uki.status == 200 && uki.length > 90_000_000, "HEAD of the UKI: {uki:?}");
    let before = bytes_below(&world.store())?;
    for _ in 0..MODELS {
        let id = world.post()?;
        connection.pull(&iso(&id), false)?;
    }
    let grown = bytes_below(&world.store())? - before;
    let ratio = length as f64 / uki.length as f64;
    let line = Line {
        ours: bytes(length as f64),
        peer: format!("{} (its UKI)", bytes(uki.length as f64)),
        ratio: format!("{ratio:.3} ×"),
        target: "≤ 1.15 ×".to_owned(),
        met: Some(ratio <= 1.15),
        ..Line::figure("length of the ISO", "")
    };
    let what = "store growth per model, its ISO downloaded";
    Ok(vec![Line::at_most(what, (grown / MODELS) as f64, 65_536.0, bytes), line])
}
