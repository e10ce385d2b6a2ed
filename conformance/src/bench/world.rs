//! What the rows share: the full release, its registry, and a factory that has prepared every extension in question.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use walkdir::WalkDir;

use super::http::Connection;
use super::report::{Line, seconds};
use crate::cache;
use crate::factory::{Factory, Settings};
use crate::registry::Registry;
use crate::release::{self, Release, Size};

/// The version that is asked for.
pub const VERSION: &str = "v1.13.2";

/// The extensions: plain, with a container, with kernel modules.
pub const EXTENSIONS: [&str; 3] = ["hello", "qemu-guest-agent", "dummy-driver"];

/// A never-asked image and what it consists of.
pub struct Image {
    /// Schematic ID.
    pub id: String,
    /// Digest of the index.
    pub index: String,
    /// Of the manifest of amd64.
    pub manifest: String,
    /// Layers of amd64: digest and length in bytes.
    pub layers: Vec<(String, u64)>,
    /// From the request for the index until all of it was there.
    pub time: Duration,
}

/// What makes a schematic new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// A kernel argument: the command line in the UKI is its own.
    Argument,
    /// A META value, which does not reach an installer: only the schematic's ID is its own.
    Meta,
}

/// What the rows share.
pub struct World {
    /// The full release.
    pub release: Release,
    /// The lines of the two setups: an empty store, and nothing prepared.
    pub setup: Vec<Line>,
    factory: Option<Factory>,
    /// Serves the release while the world stands.
    _upstream: Registry,
    settings: Settings,
    folder: TempDir,
    serial: u64,
}

impl World {
    /// Starts a factory from an empty store, then one with nothing prepared, and keeps that one.
    pub fn start() -> Result<Self> {
        let release = release::ensure(Size::Full)?;
        let upstream = Registry::read_only(&release)?;
        let folder = tempfile::tempdir()?;
        // The address is a part of what is made, so it must not move with the port.
        let settings = Settings::on(&upstream, &release, &folder.path().join("store"))
            .with("IF_HTTP_EXTERNALURL", "http://factory.example/");
        let mut world =
            Self { release, _upstream: upstream, setup: Vec::new(), factory: None, settings, folder, serial: 0 };
        world.restart()?;
        let empty = world.ask()?;
        world.factory = None;
        forget_prepared(&world.store(), "")?;
        world.restart()?;
        let unprepared = world.ask()?;
        let line = |what: &str, time: Duration| {
            Line::figure(format!("never-asked installer, {what}"), seconds(time.as_secs_f64()))
        };
        world.setup.push(line("images verified and cached, nothing prepared", unprepared.time));
        world.setup.push(line("from an empty store, upstream on this machine", empty.time));
        Ok(world)
    }

    /// Ends the factory, if it runs, and starts another on the same store.
    pub fn restart(&mut self) -> Result<()> {
        self.factory = None;
        self.factory = Some(Factory::start(&self.settings, &self.at("factory.log"))?);
        Ok(())
    }

    /// The running factory.
    pub fn factory(&self) -> Result<&Factory> {
        self.factory.as_ref().context("no factory runs")
    }

    /// The folder of its store.
    pub fn store(&self) -> PathBuf {
        self.at("store")
    }

    /// A path in the world's folder.
    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A connection to the factory.
    pub fn connect(&self) -> Result<Connection> {
        Connection::open(self.factory()?.address())
    }

    /// A schematic that nobody has posted: the extensions, and something of its own.
    pub fn schematic(&mut self, own: Own) -> String {
        self.serial += 1;
        let serial = self.serial;
        let own = match own {
            Own::Argument => format!("extraKernelArgs:\n        - console=ttyS0\n        - bench={serial}"),
            Own::Meta => format!("meta:\n        - key: 0x0a\n          value: bench {serial}"),
        };
        let names: String = EXTENSIONS.iter().map(|name| format!("            - siderolabs/{name}\n")).collect();
        format!("customization:\n    {own}\n    systemExtensions:\n        officialExtensions:\n{names}")
    }

    /// Posts a schematic that nobody has posted, and gives its ID.
    pub fn post(&mut self) -> Result<String> {
        self.post_with(Own::Argument)
    }

    fn post_with(&mut self, own: Own) -> Result<String> {
        let yaml = self.schematic(own);
        let mut connection = self.connect()?;
        let head = connection.request("POST", "/schematics", yaml.as_bytes())?;
        let mut answer = Vec::new();
        connection.body(&head, |part| answer.extend_from_slice(part))?;
        ensure!(head.status == 201, "POST /schematics: {} {}", head.status, String::from_utf8_lossy(&answer));
        let answer: Value = serde_json::from_slice(&answer)?;
        Ok(answer["id"].as_str().context("the answer has no id")?.to_owned())
    }

    /// Posts a new schematic and asks for its installer.
    pub fn ask(&mut self) -> Result<Image> {
        let id = self.post()?;
        image(&mut self.connect()?, &id)
    }

    /// As [`World::ask`], where the index over this combination's modules is not there either.
    pub fn ask_anew(&mut self, own: Own) -> Result<Image> {
        let id = self.post_with(own)?;
        forget_index(&self.store())?;
        image(&mut self.connect()?, &id)
    }
}

/// Path of the index of an installer.
pub fn index_path(id: &str) -> String {
    format!("/v2/installer/{id}/manifests/{VERSION}")
}

/// Asks for the index of an installer and reads what it is made of; each document must have the digest it is named by.
pub fn image(connection: &mut Connection, id: &str) -> Result<Image> {
    let start = Instant::now();
    let (head, index) = connection.get(&index_path(id))?;
    let time = start.elapsed();
    let digest = format!("sha256:{}", cache::sha256(&index));
    ensure!(head.digest.as_deref() == Some(&digest), "the index is {digest}, not {:?}", head.digest);
    let index: Value = serde_json::from_slice(&index)?;
    let arches: Vec<&str> = index["manifests"].as_array().context("no manifests")?.iter().filter_map(arch_of).collect();
    ensure!(arches == ["amd64", "arm64"], "the index names {arches:?}");
    let manifest = index["manifests"][0]["digest"].as_str().context("no digest")?.to_owned();
    let (_, bytes) = connection.get(&format!("/v2/installer/{id}/manifests/{manifest}"))?;
    ensure!(format!("sha256:{}", cache::sha256(&bytes)) == manifest, "the manifest of {id} is not {manifest}");
    let document: Value = serde_json::from_slice(&bytes)?;
    let layers = document["layers"].as_array().context("no layers")?.iter();
    let layers = layers.map(|layer| Some((layer["digest"].as_str()?.to_owned(), layer["size"].as_u64()?)));
    let layers = layers.collect::<Option<Vec<_>>>().context("a layer without digest or size")?;
    Ok(Image { id: id.to_owned(), index: digest, manifest, layers, time })
}

fn arch_of(entry: &Value) -> Option<&str> {
    entry["platform"]["architecture"].as_str()
}

/// The lengths of all files below a folder, in bytes.
pub fn bytes_below(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in WalkDir::new(folder) {
        let entry = entry?;
        if entry.file_type().is_file() {
            sum += entry.metadata()?.len();
        }
    }
    Ok(sum)
}

/// Removes the indexes over modules, so that the next model needs a new one.
pub fn forget_index(store: &Path) -> Result<()> {
    ensure!(forget_prepared(store, "modules-dep/")? > 0, "there was no index over modules");
    Ok(())
}

/// Removes what a store has prepared under keys that start with `prefix`, records and blobs; says how many records.
///
/// Each record is a file: eight bytes that check the rest, the length of its key (four bytes, little-endian), the key, JSON
/// that names blobs by digest.
fn forget_prepared(store: &Path, prefix: &str) -> Result<usize> {
    let mut forgotten = 0;
    for entry in WalkDir::new(store.join("records/prepared")) {
        let entry = entry?;
        if !entry.file_type().is_file() {
            continue;
        }
        let bytes = fs::read(entry.path())?;
        let record = bytes.get(8..).context("a record without a check")?;
        let (len, rest) = record.split_at_checked(4).context("a record without a key")?;
        let len = u32::from_le_bytes(len.try_into()?) as usize;
        let (key, json) = rest.split_at_checked(len).context("a record with half a key")?;
        if !key.starts_with(prefix.as_bytes()) {
            continue;
        }
        let mut digests = Vec::new();
        digests_in(&serde_json::from_slice(json)?, &mut digests);
        ensure!(!digests.is_empty(), "a record that names no blob: {}", String::from_utf8_lossy(json));
        for hex in digests {
            for path in [store.join("blobs/sha256").join(&hex), store.join("checks").join(&hex[..2]).join(&hex)] {
                // Two records may name one blob.
                if path.exists() {
                    fs::remove_file(path)?;
                }
            }
        }
        fs::remove_file(entry.path())?;
        forgotten += 1;
    }
    Ok(forgotten)
}

fn digests_in(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.extend(text.strip_prefix("sha256:").map(str::to_owned)),
        Value::Array(values) => values.iter().for_each(|value| digests_in(value, found)),
        Value::Object(values) => values.values().for_each(|value| digests_in(value, found)),
        _ => {}
    }
}
