//! A disk that loses or changes what was stored: nothing wrong is served to its end, and what is bad is made or fetched
//! again.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use conformance::factory::{Factory, Settings, program};
use conformance::registry::Registry;
use conformance::release::{self, Size};
use conformance::{cache, run};
use reqwest::blocking::Client;

use super::world::THREE;

const PATH: &str = "v1.13.2/metal-amd64.iso";

/// How a stored blob is damaged.
#[derive(Clone, Copy, Debug)]
enum Harm {
    /// A bit of its middle is another.
    Flipped,
    /// Its second half is gone.
    Shortened,
}

fn harm(blob: &Path, how: Harm) -> Result<()> {
    let file = fs::OpenOptions::new().read(true).write(true).open(blob)?;
    let middle = file.metadata()?.len() / 2;
    match how {
        Harm::Flipped => {
            let mut byte = [0];
            file.read_exact_at(&mut byte, middle)?;
            file.write_all_at(&[byte[0] ^ 0x10], middle)?;
        }
        Harm::Shortened => file.set_len(middle)?,
    }
    Ok(())
}

/// Asks again and again until it is whole; what comes before that must not end as if it were. Gives the number of attempts.
fn heals(factory: &Factory, path: &str, want: &str) -> Result<usize> {
    // Each request on a connection of its own: those on which an answer broke off are closed.
    let client = Client::builder().timeout(Duration::from_secs(300)).pool_max_idle_per_host(0).build()?;
    let mut last = String::new();
    for attempt in 1..=40 {
        let answer = client.get(factory.url(path)).send()?;
        let status = answer.status();
        match answer.bytes() {
            Ok(bytes) if status == 200 => {
                ensure!(cache::sha256(&bytes) == want, "{path}: {} wrong bytes were served to the end", bytes.len());
                return Ok(attempt);
            }
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                ensure!(status.as_u16() == 503 || status.as_u16() == 502, "{path}: {status} {text}");
                last = format!("{status} {text}");
            }
            Err(error) => {
                ensure!(status == 200, "{path}: {status} breaks off");
                last = error.to_string();
            }
        }
    }
    bail!("{path} never heals: {last}")
}

/// The blobs that an asset is made of, of some size, as its plan names them.
fn blobs(settings: &Settings, schematic: &Path) -> Result<BTreeMap<String, u64>> {
    let (version, path) = PATH.split_once('/').context("a path")?;
    let mut plan = Command::new(program()?);
    plan.arg("asset").arg(schematic).args([version, path, "--plan"]).envs(&settings.variables);
    let mut blobs = BTreeMap::new();
    for line in run::text(&mut plan)?.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [_, len, "blob", digest, ..] = words[..] {
            *blobs.entry(digest.trim_start_matches("sha256:").to_owned()).or_default() += len.parse::<u64>()?;
        }
    }
    blobs.retain(|_, len| *len > 4096);
    Ok(blobs)
}

#[test]
fn damaged_blobs_are_never_served_to_the_end_and_heal() {
    let release = release::ensure(Size::Mini).unwrap();
    let registry = Registry::read_only(&release).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (store, log) = (folder.path().join("store"), folder.path().join("log"));
    // The address is a part of what is made, so it must not move with the port.
    let settings = Settings::on(&registry, &release, &store).with("IF_HTTP_EXTERNALURL", "http://factory.example/");
    let stored = |hex: &str| -> PathBuf { store.join("blobs/sha256").join(hex) };
    let schematic = folder.path().join("three.yaml");
    fs::write(&schematic, THREE).unwrap();

    let factory = Factory::start(&settings, &log).unwrap();
    let path = format!("/image/{}/{PATH}", factory.post_schematic(THREE).unwrap());
    let client = Client::builder().timeout(Duration::from_secs(300)).pool_max_idle_per_host(0).build().unwrap();
    let get = |factory: &Factory, path: &str| client.get(factory.url(path)).send().unwrap();
    let first = get(&factory, &path);
    let etag = first.headers()["etag"].clone();
    let want = cache::sha256(&first.bytes().unwrap());
    let parts = blobs(&settings, &schematic).unwrap();
    assert!(parts.len() >= 8, "{parts:?}");

    let mut factory = Some(factory);
    for (how, running) in
        [(Harm::Flipped, false), (Harm::Shortened, false), (Harm::Flipped, true), (Harm::Shortened, true)]
    {
        factory.take().unwrap().stop(Duration::from_secs(30)).unwrap();
        // A factory that runs has read nothing of the blobs' middles yet.
        let again = running.then(|| Factory::start(&settings, &log).unwrap());
        for hex in parts.keys() {
            harm(&stored(hex), how).unwrap();
        }
        let again = again.unwrap_or_else(|| Factory::start(&settings, &log).unwrap());
        let attempts = heals(&again, &path, &want).unwrap_or_else(|error| panic!("{how:?} {running}: {error:?}"));
        assert!(attempts > 1 || !matches!(how, Harm::Flipped), "{how:?}: something was damaged");
        let healed = get(&again, &path);
        assert_eq!(healed.headers()["etag"], etag, "{how:?} {running}");
        let sum = get(&again, &format!("{path}.sha256")).text().unwrap();
        assert!(sum.starts_with(&want), "{how:?} {running}: {sum}");
        for hex in parts.keys() {
            assert_eq!(cache::sha256_file(&stored(hex)).unwrap(), *hex, "{how:?} {running}");
        }
        factory = Some(again);
    }

    // Everything at once, sources included: manifests, layers, what was prepared.
    factory.take().unwrap().stop(Duration::from_secs(30)).unwrap();
    let mut all = Vec::new();
    for entry in fs::read_dir(store.join("blobs/sha256")).unwrap() {
        let blob = entry.unwrap().path();
        if fs::metadata(&blob).unwrap().len() > 0 {
            harm(&blob, Harm::Flipped).unwrap();
            all.push(blob.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    let factory = Factory::start(&settings, &log).unwrap();
    heals(&factory, &path, &want).unwrap();
    let imager = release.digest("siderolabs/imager", "v1.13.2").unwrap().trim_start_matches("sha256:").to_owned();
    assert!(all.contains(&imager));
    heals(&factory, &format!("/v2/siderolabs/imager/manifests/sha256:{imager}"), &imager).unwrap();
    let sum = get(&factory, &format!("{path}.sha512"));
    assert_eq!(sum.status(), 200);
    let whole = folder.path().join("metal-amd64.iso");
    fs::write(&whole, get(&factory, &path).bytes().unwrap()).unwrap();
    fs::write(folder.path().join("sum"), sum.bytes().unwrap()).unwrap();
    run::output(Command::new("sha512sum").args(["-c", "sum"]).current_dir(folder.path())).unwrap();
}
