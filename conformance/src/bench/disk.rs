//! Rows about disk images that nobody asked for before.

use std::process::Command;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::http::Connection;
use super::iso::path;
use super::memory::{Watch, parallel};
use super::operator::Operator;
use super::report::{Line, bytes, in_seconds, median, quantile, seconds};
use super::serving::save;
use super::world::{World, bytes_below, forget_index};
use crate::run;

/// A format, how much faster than the operator its first byte and its whole should be there, and the most that its
/// length may be by that of the operator's.
struct Format {
    name: &'static str,
    first: Option<f64>,
    whole: f64,
    longer: Option<f64>,
}

const fn format(name: &'static str, first: Option<f64>, whole: f64, longer: Option<f64>) -> Format {
    Format { name, first, whole, longer }
}

const FORMATS: [Format; 7] = [
    format("raw.zst", Some(1000.0), 100.0, Some(1.03)),
    format("raw.xz", None, 30.0, Some(1.03)),
    format("qcow2", None, 30.0, None),
    format("ova", None, 30.0, None),
    format("raw.tar.gz", None, 30.0, Some(1.03)),
    format("vhd", None, 8.0, None),
    format("raw", None, 8.0, None),
];

/// Images of ours for one of theirs.
const ASKED: usize = 3;
/// Requests for heads, and the time between two.
const HEADS: usize = 350;
const PACE: Duration = Duration::from_millis(10);
/// Downloads at once.
const DOWNLOADS: usize = 64;
/// Images whose cost is measured.
const MODELS: usize = 21;

fn disk(id: &str, format: &str) -> String {
    path(id, &format!("metal-amd64.{format}"))
}

/// First byte and whole of never-asked disk images, and how long they are.
pub fn made(world: &mut World) -> Result<Vec<Line>> {
    // What is prepared once for each blob and codec is there before anybody asks for the next image.
    let id = world.post()?;
    for format in &FORMATS {
        world.connect()?.request("HEAD", &disk(&id, format.name), &[])?;
    }
    let mut operator = Operator::prepare(&world.release, &world.at("operator-disk"))?;
    let mut lines = Vec::new();
    for format in &FORMATS {
        let (mut first, mut whole, mut last) = (Vec::new(), Vec::new(), String::new());
        for _ in 0..ASKED {
            last = disk(&world.post()?, format.name);
            forget_index(&world.store())?;
            let mut connection = world.connect()?;
            let start = Instant::now();
            let head = connection.request("GET", &last, &[])?;
            ensure!(head.status == 200, "GET {last}: {}", head.status);
            let mut left = head.length - connection.some(head.length, |_| {})?;
            first.push(start.elapsed());
            while left > 0 {
                left -= connection.some(left, |_| {})?;
            }
            whole.push(start.elapsed());
        }
        let [ours, theirs] = ["ours", "operator"].map(|whose| world.at(&format!("{whose}.{}", format.name)));
        let mut time = operator.disk("amd64", &theirs)?.as_secs_f64();
        if matches!(format.name, "raw" | "vhd") {
            // It is to be sent in full, holes and all.
            let start = Instant::now();
            run::output(Command::new("cp").args(["--sparse=never"]).arg(&theirs).arg("/dev/null"))?;
            time += start.elapsed().as_secs_f64();
        }
        save(world.factory()?.address(), &last, &ours)?;
        for image in [&ours, &theirs] {
            check(format.name, image)?;
        }
        let [first, whole] = [first, whole].map(|samples| median(&in_seconds(&samples)));
        let what = format!("never-asked metal-amd64.{}, 3 extensions", format.name);
        if let Some(factor) = format.first {
            lines.push(Line::faster(format!("{what}, first byte"), first, time, factor).against("operator's script"));
        }
        lines.push(Line::faster(format!("{what}, whole"), whole, time, format.whole).against("operator's script"));
        let [ours_len, theirs_len] = [std::fs::metadata(&ours)?.len() as f64, std::fs::metadata(&theirs)?.len() as f64];
        let ratio = ours_len / theirs_len;
        lines.push(Line {
            peer: format!("{} (operator's script)", bytes(theirs_len)),
            ratio: format!("{ratio:.3} ×"),
            target: format.longer.map_or_else(String::new, |most| format!("≤ {most} ×")),
            met: format.longer.map(|most| ratio <= most),
            ..Line::figure(format!("length of the {}", format.name), bytes(ours_len))
        });
        for image in [ours, theirs] {
            std::fs::remove_file(image)?;
        }
    }
    Ok(lines)
}

/// Holds an image against an outside program that knows its format.
fn check(format: &str, image: &std::path::Path) -> Result<()> {
    let (program, args): (&str, &[&str]) = match format {
        "raw.zst" => ("zstd", &["-tq"]),
        "raw.xz" => ("xz", &["-t"]),
        "raw.tar.gz" => ("tar", &["-tzf"]),
        "ova" => ("tar", &["-tf"]),
        "qcow2" => ("qemu-img", &["check", "-q", "-f", "qcow2"]),
        "vhd" => ("qemu-img", &["info", "-f", "vpc"]),
        _ => ("sgdisk", &["-v"]),
    };
    let said = run::text(Command::new(program).args(args).arg(image)).with_context(|| image.display().to_string())?;
    ensure!(format != "raw" || said.contains("No problems found"), "{}: {said}", image.display());
    Ok(())
}

/// HEAD of never-asked disk images of each format at a steady pace, whoever is late.
pub fn head(world: &mut World) -> Result<Vec<Line>> {
    let ids = (0..HEADS).map(|_| world.post()).collect::<Result<Vec<_>>>()?;
    let id = world.post()?;
    for format in &FORMATS {
        world.connect()?.request("HEAD", &disk(&id, format.name), &[])?;
    }
    let times = std::sync::Mutex::new(Vec::new());
    let address = world.factory()?.address();
    let start = Instant::now() + Duration::from_millis(50);
    parallel(HEADS, 16, |n| {
        let mut connection = Connection::open(address)?;
        let path = disk(&ids[n], FORMATS[n % FORMATS.len()].name);
        let due = start + PACE * n as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let head = connection.request("HEAD", &path, &[])?;
        let time = due.elapsed().as_secs_f64();
        ensure!(head.status == 200 && head.length > 90_000_000, "HEAD {path}: {head:?}");
        if let Ok(mut times) = times.lock() {
            times.push((n % FORMATS.len(), time));
        }
        Ok(())
    })?;
    let times = times.into_inner().unwrap_or_default();
    let mut lines = Vec::new();
    for (n, format) in FORMATS.iter().enumerate() {
        let times: Vec<f64> = times.iter().filter(|(of, _)| *of == n).map(|(_, time)| *time).collect();
        ensure!(times.len() == HEADS / FORMATS.len(), "{} answers", times.len());
        let [p50, p99] = [0.5, 0.99].map(|part| quantile(&times, part));
        let what = format!("HEAD of never-asked {}, 100 a second over all formats, p99", format.name);
        let line = Line::at_most(what, p99, 0.010, seconds);
        lines.push(Line { ours: format!("p50 {}, p99 {}", seconds(p50), seconds(p99)), ..line });
    }
    Ok(lines)
}

/// Anonymous memory over downloads of different disk images, all at once.
pub fn memory(world: &mut World) -> Result<Vec<Line>> {
    world.restart()?;
    let id = world.post()?;
    for format in &FORMATS {
        world.connect()?.request("HEAD", &disk(&id, format.name), &[])?;
    }
    world.restart()?;
    let paths = (0..DOWNLOADS).map(|n| Ok(disk(&world.post()?, FORMATS[n % 6].name))).collect::<Result<Vec<_>>>()?;
    let address = world.factory()?.address();
    let watch = Watch::start(world.factory()?.pid())?;
    let gate = Barrier::new(DOWNLOADS);
    parallel(DOWNLOADS, DOWNLOADS, |n| {
        let opened = Connection::with_buffer(address, 64 * 1024).and_then(|mut connection| {
            let head = connection.request("GET", &paths[n], &[])?;
            Ok((connection, head))
        });
        gate.wait();
        let (mut connection, head) = opened?;
        ensure!(head.status == 200, "GET {}: {}", paths[n], head.status);
        // As much of a disk that is sent in full as of the others.
        let mut left = head.length.min(256 << 20);
        while left > 0 {
            left -= connection.some(left, |_| {})?;
        }
        Ok(())
    })?;
    let what = format!("peak RssAnon, {DOWNLOADS} different disk images at once");
    Ok(vec![Line::at_most(what, watch.peak()? as f64, 96.0 * 1_048_576.0, bytes)])
}

/// Bytes that an image adds to the store, and temporary files.
pub fn growth(world: &mut World) -> Result<Vec<Line>> {
    let id = world.post()?;
    for format in &FORMATS {
        world.connect()?.request("HEAD", &disk(&id, format.name), &[])?;
    }
    let before = bytes_below(&world.store())?;
    let mut open = Vec::new();
    for n in 0..MODELS {
        let path = disk(&world.post()?, FORMATS[n % FORMATS.len()].name);
        let mut connection = world.connect()?;
        let head = connection.request("GET", &path, &[])?;
        ensure!(head.status == 200, "GET {path}: {}", head.status);
        connection.some(head.length, |_| {})?;
        // In the middle of a download nothing but files of the store is open.
        open.extend(temporary(world)?);
    }
    let grown = bytes_below(&world.store())?.saturating_sub(before);
    let files = Line {
        target: "none".to_owned(),
        met: Some(open.is_empty()),
        ..Line::figure("temporary files over downloads of disk images", format!("{}", open.len()))
    };
    let what = "store growth per disk image";
    Ok(vec![Line::at_most(what, (grown / MODELS as u64) as f64, 65_536.0, bytes), files])
}

/// Files outside of the store that the factory has open for writing, and unnamed ones.
fn temporary(world: &World) -> Result<Vec<String>> {
    let folder = format!("/proc/{}/fd", world.factory()?.pid());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let Ok(target) = std::fs::read_link(entry?.path()) else { continue };
        let name = target.display().to_string();
        if name.starts_with('/') && name.ends_with(" (deleted)")
            || name.starts_with("/tmp/") && !target.starts_with(world.store())
        {
            found.push(name);
        }
    }
    found.retain(|name| !name.contains("factory.log"));
    Ok(found)
}
