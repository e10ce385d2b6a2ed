//! Rows about bytes that are there: big blobs against nginx, manifests against distribution's registry.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::http::Connection;
use super::installer::copy_finished;
use super::load::{Nginx, pull, wrk};
use super::report::{Line, bandwidth, median, requests};
use super::world::{VERSION, World, index_path};
use crate::registry::Registry;

/// Rounds of ours and theirs, one after the other.
const ROUNDS: usize = 3;

/// How long each is asked.
const TIME: Duration = Duration::from_secs(4);

/// The same where bytes are counted: many short turns, since machines have faster and slower moments.
const TURNS: usize = 9;
const TURN: Duration = Duration::from_secs(1);

/// Warm GET of the biggest layer, 1 and 64 connections, against the better of nginx's two manners.
pub fn blob(world: &mut World) -> Result<Vec<Line>> {
    let image = world.ask()?;
    let layer = image.layers.iter().max_by_key(|(_, size)| *size);
    let (digest, size) = layer.context("an image without layers")?;
    ensure!(*size > 90_000_000, "the biggest layer has no more than {size} bytes");
    let path = format!("/v2/installer/{}/blobs/{digest}", image.id);
    against_nginx(world, &path, Some(digest), 1.2, "warm blob GET")
}

/// Measures `path` of ours against the same bytes as a file of nginx.
pub fn against_nginx(world: &World, path: &str, digest: Option<&str>, factor: f64, what: &str) -> Result<Vec<Line>> {
    let ours = world.factory()?.address();
    let folder = tempfile::tempdir()?;
    let (size, hex) = save(ours, path, &folder.path().join("file"))?;
    if let Some(digest) = digest {
        ensure!(digest == format!("sha256:{hex}"), "{path} serves {hex}");
    }
    let nginx = Nginx::start(folder.path())?;
    for (name, address) in nginx.manners() {
        let served = Connection::open(address)?.pull("/file", true)?;
        ensure!(served == (size, Some(hex.clone())), "{name} serves other bytes");
    }
    let mut lines = Vec::new();
    for connections in [1, 64] {
        let (mut mine, mut theirs) = (Vec::new(), [Vec::new(), Vec::new()]);
        for _ in 0..TURNS {
            mine.push(pull(ours, path, connections, TURN)?);
            for (n, (_, address)) in nginx.manners().into_iter().enumerate() {
                theirs[n].push(pull(address, "/file", connections, TURN)?);
            }
        }
        let rates = theirs.map(|samples| median(&samples));
        let best = usize::from(rates[1] > rates[0]);
        let what = format!("{what}, {} MB, {connections} connection{}", size / 1_000_000, plural(connections));
        let [first, second] = nginx.manners().map(|(name, _)| name);
        println!("    {first}: {}; {second}: {}", bandwidth(rates[0]), bandwidth(rates[1]));
        lines.push(Line::rate(what, median(&mine), rates[best], factor, bandwidth).against([first, second][best]));
    }
    Ok(lines)
}

fn plural(count: u32) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Saves what a path serves; its length and SHA-256 in hex.
pub fn save(address: &str, path: &str, to: &Path) -> Result<(u64, String)> {
    let mut connection = Connection::open(address)?;
    let head = connection.request("GET", path, &[])?;
    ensure!(head.status == 200, "GET {path}: {}", head.status);
    let mut file = fs::File::create(to)?;
    let mut written = Ok(());
    connection.body(&head, |part| {
        if written.is_ok() {
            written = file.write_all(part);
        }
    })?;
    written.context("cannot save")?;
    Ok((head.length, crate::cache::sha256_file(to)?))
}

/// GET of an installer's index by tag, 64 connections, against distribution's registry.
pub fn manifest(world: &mut World) -> Result<Vec<Line>> {
    let image = world.ask()?;
    let storage = tempfile::tempdir()?;
    let registry = Registry::writable(storage.path())?;
    copy_finished(world, &image, &registry, &format!("finished:{VERSION}"))?;
    let ours = world.factory()?.address();
    let by_tag = (index_path(&image.id), format!("/v2/finished/manifests/{VERSION}"));
    let by_digest = (
        format!("/v2/installer/{}/manifests/{}", image.id, image.index),
        format!("/v2/finished/manifests/{}", image.index),
    );
    let mut lines = Vec::new();
    for (what, (mine, theirs)) in [("by tag", by_tag), ("by digest", by_digest)] {
        let documents = [(ours, &mine), (registry.address(), &theirs)]
            .map(|(address, path)| Ok::<_, anyhow::Error>(Connection::open(address)?.get(path)?.1));
        let [first, second] = documents;
        ensure!(first? == second?, "the two registries serve different manifests");
        let (mut rates, mut peers) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            rates.push(wrk(&format!("http://{ours}{mine}"), 64, TIME)?);
            peers.push(wrk(&format!("http://{}{theirs}", registry.address()), 64, TIME)?);
        }
        let what = format!("manifest GET {what}, 64 connections");
        lines.push(Line::rate(what, median(&rates), median(&peers), 3.0, requests).against("distribution"));
    }
    Ok(lines)
}
