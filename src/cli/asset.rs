//! `asset`: a boot asset without a server.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

use super::output;
use crate::config::Config;
use crate::factory::Factory;
use crate::telemetry::Metrics;

/// What is wanted.
pub struct Wanted {
    /// File of the schematic; `-` for standard input.
    pub schematic: PathBuf,
    /// The Talos version.
    pub version: String,
    /// Which asset, as the last element of its path.
    pub path: String,
    /// Where it goes; `-` for standard output.
    pub output: Option<PathBuf>,
    /// Whether a block device is overwritten without a question.
    pub yes: bool,
    /// Whether its checksum is printed.
    pub sha256: bool,
    /// Whether it is explained instead of written.
    pub plan: bool,
}

/// Makes a boot asset.
pub async fn asset(config: &Config, wanted: &Wanted) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::default());
    let (factory, _) = super::serve::factory(config, super::serve::open_store(config)?, &metrics)?;
    factory.list_versions().await?;
    let created = factory.create_schematic(read_schematic(&wanted.schematic)?.into()).await?;
    let id = created.id.to_string();
    eprintln!("schematic {id}");
    for warning in created.warnings {
        eprintln!("warning: {warning}");
    }
    if wanted.plan {
        return plan(&factory, &id, wanted).await;
    }
    let asset = factory.asset(&id, &wanted.version, &wanted.path).await?;
    let output = wanted.output.clone().unwrap_or_else(|| PathBuf::from(&wanted.path));
    let job = output::Job { blobs: factory.blobs(), asset, sha256: wanted.sha256, yes: wanted.yes };
    tokio::task::spawn_blocking(move || job.write(&output)).await?
}

/// The schematic in a file, or on standard input.
pub(super) fn read_schematic(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path.as_os_str() == "-" {
        let mut text = Vec::new();
        io::stdin().read_to_end(&mut text).context("reading the schematic from standard input")?;
        return Ok(text);
    }
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

/// A line an extent: first byte, length, source, what it is.
async fn plan(factory: &Factory, id: &str, wanted: &Wanted) -> anyhow::Result<()> {
    let lines = factory.plan(id, &wanted.version, &wanted.path).await?;
    let mut out = io::stdout().lock();
    for line in lines {
        let written = writeln!(out, "{:>12} {:>12}  {}  {}", line.offset, line.len, line.source, line.what);
        match written {
            // Whoever read it has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            other => other?,
        }
    }
    Ok(())
}
