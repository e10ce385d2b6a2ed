//! `./conformance/kill`: kill -9 at any moment, again and again, on one store.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use reqwest::blocking::Client;
use sha2::{Digest as _, Sha256};

use crate::factory::{Factory, Settings};
use crate::registry::Registry;
use crate::release::{self, Size};

/// Versions that are asked for.
const VERSIONS: [&str; 3] = ["v1.9.5", "v1.13.2", "v1.14.0-beta.0"];

/// Everything that a factory has acknowledged.
#[derive(Default)]
struct Acknowledged {
    /// Canonical YAML by schematic ID.
    schematics: BTreeMap<String, String>,
    /// Digest of the index by path.
    indexes: BTreeMap<String, String>,
}

/// Runs `rounds` rounds.
pub fn run(rounds: u64) -> Result<()> {
    let release = release::ensure(Size::Mini)?;
    let registry = Registry::read_only(&release)?;
    let folder = tempfile::tempdir()?;
    // The address is a part of what is made, so it must not move with the port.
    let settings = Settings::on(&registry, &release, &folder.path().join("store"))
        .with("IF_HTTP_EXTERNALURL", "http://factory.example/");
    let known = Arc::new(Mutex::new(Acknowledged::default()));
    let serial = Arc::new(AtomicU64::new(0));
    for round in 0..rounds {
        let factory = Factory::start(&settings, &folder.path().join("factory.log"))?;
        let checked = check(&factory, &known, round).with_context(|| format!("round {round}"))?;
        // From right after the start to the middle of pulls.
        let life = Duration::from_millis(5 + (round * 7919) % 1500);
        load(&factory, &known, &serial, life)?;
        if round % 10 == 9 {
            let known = known.lock().unwrap_or_else(PoisonError::into_inner);
            let (schematics, indexes) = (known.schematics.len(), known.indexes.len());
            println!(
                "round {}: {schematics} schematics, {indexes} installers acknowledged, {checked} checked",
                round + 1
            );
        }
    }
    let factory = Factory::start(&settings, &folder.path().join("factory.log"))?;
    let all = check(&factory, &known, u64::MAX)?;
    factory.stop(Duration::from_secs(30))?;
    let mut fsck = std::process::Command::new(crate::factory::program()?);
    fsck.args(["fsck", "--dry-run"]).envs(&settings.variables);
    let report = crate::run::text(&mut fsck)?;
    println!(
        "{rounds} rounds of kill -9: nothing lost, nothing wrong; {all} checked at the end; fsck: {}",
        report.trim()
    );
    Ok(())
}

fn client() -> Result<Client> {
    Ok(Client::builder().timeout(Duration::from_secs(60)).build()?)
}

/// Holds what the factory serves against what was acknowledged before: a sample, or all in the end.
fn check(factory: &Factory, known: &Mutex<Acknowledged>, round: u64) -> Result<usize> {
    let known = known.lock().unwrap_or_else(PoisonError::into_inner);
    let client = client()?;
    let all = round == u64::MAX;
    let mut checked = 0;
    for (n, (id, yaml)) in known.schematics.iter().enumerate() {
        // What is new is checked at once, what is old now and then.
        if all || n + 50 > known.schematics.len() || turn(n, round, 20) {
            let answer = client.get(factory.url(&format!("/schematics/{id}"))).send()?;
            ensure!(answer.status() == 200, "schematic {id} is lost: {}", answer.status());
            ensure!(answer.text()? == *yaml, "schematic {id} has changed");
            checked += 1;
        }
    }
    for (n, (path, digest)) in known.indexes.iter().enumerate() {
        if !all && !turn(n, round, 10) && n + 5 < known.indexes.len() {
            continue;
        }
        let (repository, _) = path.rsplit_once("/manifests/").context("a path without a manifest")?;
        let answer = client.get(factory.url(path)).send()?;
        ensure!(answer.status() == 200, "{path}: {}", answer.status());
        let found = answer.headers().get("docker-content-digest").context("no digest")?.to_str()?.to_owned();
        ensure!(found == *digest, "{path} was {digest} and is {found}");
        let body: serde_json::Value =
            serde_json::from_slice(&hashed(&client, factory, &format!("{repository}/manifests/{digest}"), digest)?)?;
        let manifest = body["manifests"][0]["digest"].as_str().context("no manifest")?.to_owned();
        let manifest: serde_json::Value = serde_json::from_slice(&hashed(
            &client,
            factory,
            &format!("{repository}/manifests/{manifest}"),
            &manifest,
        )?)?;
        if turn(n, round, 7) {
            let layers = manifest["layers"].as_array().context("no layers")?;
            let layer = layers.last().and_then(|layer| layer["digest"].as_str()).context("no layer")?;
            hashed(&client, factory, &format!("{repository}/blobs/{layer}"), layer)?;
        }
        checked += 1;
    }
    Ok(checked)
}

/// Whether it is an entry's turn: one in `every` a round, another each time.
const fn turn(n: usize, round: u64, every: u64) -> bool {
    (n as u64).wrapping_add(round).is_multiple_of(every)
}

/// What a path serves, which must have the digest.
fn hashed(client: &Client, factory: &Factory, path: &str, digest: &str) -> Result<Vec<u8>> {
    let answer = client.get(factory.url(path)).send()?;
    ensure!(answer.status() == 200, "{path}: {}", answer.status());
    let bytes = answer.bytes()?;
    let found = format!("sha256:{}", hex::encode(Sha256::digest(&bytes)));
    ensure!(found == digest, "{path} serves {found}");
    Ok(bytes.to_vec())
}

/// Posts and pulls from several threads, notes what was acknowledged, and kills the factory after `life`.
fn load(factory: &Factory, known: &Arc<Mutex<Acknowledged>>, serial: &Arc<AtomicU64>, life: Duration) -> Result<()> {
    let dead = Arc::new(AtomicBool::new(false));
    let address = factory.url("");
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (known, serial, dead, address) = (known.clone(), serial.clone(), dead.clone(), address.clone());
            std::thread::spawn(move || {
                let Ok(client) = client() else { return };
                while !dead.load(Ordering::Relaxed) {
                    // An error is the kill, or its nearness: what was not acknowledged may be lost.
                    let _ = one(&client, &address, &known, serial.fetch_add(1, Ordering::Relaxed));
                }
            })
        })
        .collect();
    std::thread::sleep(life);
    factory.signal(Signal::SIGKILL)?;
    dead.store(true, Ordering::Relaxed);
    for worker in workers {
        let _ = worker.join();
    }
    Ok(())
}

fn one(client: &Client, address: &str, known: &Mutex<Acknowledged>, serial: u64) -> Result<()> {
    let extension = ["hello", "qemu-guest-agent", "dummy-driver"][(serial % 3) as usize];
    let yaml = format!(
        "customization:\n    extraKernelArgs:\n        - serial={serial}\n    systemExtensions:\n        officialExtensions:\n            - siderolabs/{extension}\n"
    );
    let answer = client.post(format!("{address}/schematics")).body(yaml).send()?;
    ensure!(answer.status() == 201);
    let made: serde_json::Value = serde_json::from_slice(&answer.bytes()?)?;
    let id = made["id"].as_str().context("no id")?.to_owned();
    let canonical = made["schematic"].as_str().context("no schematic")?.to_owned();
    known.lock().unwrap_or_else(PoisonError::into_inner).schematics.insert(id.clone(), canonical);
    if serial.is_multiple_of(5) {
        let version = VERSIONS[(serial / 5 % 3) as usize];
        let path = format!("/v2/installer/{id}/manifests/{version}");
        let answer = client.get(format!("{address}{path}")).send()?;
        ensure!(answer.status() == 200);
        let digest = answer.headers().get("docker-content-digest").context("no digest")?.to_str()?.to_owned();
        known.lock().unwrap_or_else(PoisonError::into_inner).indexes.insert(path, digest);
    }
    Ok(())
}
