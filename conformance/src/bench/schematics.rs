//! Rows about schematics: how fast a new one is durable, and what it costs to keep.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Result, bail, ensure};

use super::http::Connection;
use super::memory::parallel;
use super::report::{Line, bytes, quantile, seconds};
use super::world::{Own, World, bytes_below};

/// Connections at once.
const AT_ONCE: usize = 16;

/// New schematics in a round.
const POSTS: usize = 1600;

/// Rounds of the disk and ours, one after the other.
const ROUNDS: usize = 3;

/// Schematics whose cost is measured.
const KEPT: u64 = 20;

/// POST of new schematics, beside what the disk takes to make a file and flush it.
pub fn post(world: &mut World) -> Result<Vec<Line>> {
    let (mut posts, mut alone, mut together) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Nothing is removed meanwhile: file systems pass over inodes that were freed a moment ago, one by one.
        alone.extend(flushes(&world.at(&format!("raw-alone-{round}")), POSTS / 8, 1)?);
        together.extend(flushes(&world.at(&format!("raw-together-{round}")), POSTS, AT_ONCE)?);
        let bodies: Vec<String> = (0..POSTS).map(|_| world.schematic(Own::Argument)).collect();
        posts.extend(post_all(world.factory()?.address(), &bodies)?);
    }
    let show =
        |samples: &[f64]| format!("p50 {}, p99 {}", seconds(quantile(samples, 0.5)), seconds(quantile(samples, 0.99)));
    let line =
        Line::at_most("POST of a new schematic, durable, 16 connections, p50", quantile(&posts, 0.5), 0.003, seconds);
    let disk = |what: &str, samples: &[f64]| {
        Line::figure(format!("the disk itself: create, write, fdatasync, {what}"), show(samples))
    };
    Ok(vec![Line { ours: show(&posts), ..line }, disk("1 thread", &alone), disk("16 threads", &together)])
}

/// Posts each body; the time of each in seconds. What was acknowledged is there under its ID.
fn post_all(address: &str, bodies: &[String]) -> Result<Vec<f64>> {
    let times = Mutex::new(Vec::with_capacity(bodies.len()));
    let share = bodies.len() / AT_ONCE;
    parallel(AT_ONCE, AT_ONCE, |worker| {
        let mut connection = Connection::open(address)?;
        let mut mine = Vec::with_capacity(share);
        for (n, body) in bodies[worker * share..(worker + 1) * share].iter().enumerate() {
            let start = Instant::now();
            let head = connection.request("POST", "/schematics", body.as_bytes())?;
            let mut answer = Vec::new();
            connection.body(&head, |part| answer.extend_from_slice(part))?;
            mine.push(start.elapsed().as_secs_f64());
            ensure!(head.status == 201, "POST /schematics: {}", head.status);
            if n == share - 1 {
                let answer: serde_json::Value = serde_json::from_slice(&answer)?;
                let id = answer["id"].as_str().unwrap_or_default();
                let (_, kept) = connection.get(&format!("/schematics/{id}"))?;
                ensure!(crate::cache::sha256(&kept) == id, "schematic {id} is not what was posted");
            }
        }
        match times.lock() {
            Ok(mut times) => times.extend(mine),
            Err(_) => bail!("a thread broke off"),
        }
        Ok(())
    })?;
    Ok(times.into_inner().unwrap_or_default())
}

/// Makes files of the length of a schematic and flushes each; the time of each in seconds.
fn flushes(folder: &Path, count: usize, threads: usize) -> Result<Vec<f64>> {
    fs::create_dir_all(folder)?;
    let times = Mutex::new(Vec::with_capacity(count));
    parallel(count, threads, |n| {
        let start = Instant::now();
        let mut file = File::create(folder.join(n.to_string()))?;
        file.write_all(&[b'x'; 300])?;
        file.sync_data()?;
        let time = start.elapsed().as_secs_f64();
        match times.lock() {
            Ok(mut times) => times.push(time),
            Err(_) => bail!("a thread broke off"),
        }
        Ok(())
    })?;
    Ok(times.into_inner().unwrap_or_default())
}

/// What the store grows by for each further schematic whose installer is asked for.
pub fn growth(world: &mut World) -> Result<Vec<Line>> {
    world.ask()?;
    let before = bytes_below(&world.store())?;
    for _ in 0..KEPT {
        world.ask()?;
    }
    let grown = bytes_below(&world.store())? - before;
    ensure!(grown > 0, "{KEPT} schematics cost nothing");
    let what = "store growth per further schematic, its installer asked for";
    Ok(vec![Line::at_most(what, (grown / KEPT) as f64, 65_536.0, bytes)])
}
