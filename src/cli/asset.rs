//! `asset`: a boot asset without a server, into a file or a pipe.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest as _, Sha256};

use crate::config::Config;
use crate::factory::{Asset, Factory};
use crate::telemetry::Metrics;
use crate::virtual_file::ReadBlob;

/// Bytes read and written at a time.
const PIECE: u64 = 1 << 20;

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
    let sha256 = wanted.sha256;
    tokio::task::spawn_blocking(move || write(&factory, &asset, &output, sha256)).await?
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

/// Takes the bytes as they are written.
struct Sink<W> {
    out: W,
    hasher: Option<Sha256>,
    bar: ProgressBar,
}

impl<W: Write> Sink<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.note(bytes);
        Ok(())
    }

    /// Counts bytes that are there already.
    fn note(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.bar.inc(bytes.len() as u64);
    }
}

fn bar(len: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    ProgressBar::new(len).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn write(factory: &Factory, asset: &Asset, output: &Path, sha256: bool) -> anyhow::Result<()> {
    let hasher = sha256.then(Sha256::new);
    let bar = bar(asset.file.len());
    if output.as_os_str() == "-" {
        let mut sink = Sink { out: io::stdout().lock(), hasher, bar };
        pour(factory, asset, 0, &mut sink)?;
        sink.out.flush()?;
        return finish(sink, output, &mut io::stderr());
    }
    // The name says what the bytes are, so that only those of the same file are continued.
    let mut part = output.as_os_str().to_owned();
    part.push(format!(".{}.part", &asset.extents.hex()[..16]));
    let part = PathBuf::from(part);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&part)
        .with_context(|| format!("opening {}", part.display()))?;
    file.try_lock().with_context(|| format!("another process writes {}", part.display()))?;
    let mut sink = Sink { out: file.try_clone()?, hasher, bar };
    let kept = keep(factory, asset, &mut file, &mut sink)?;
    if kept > 0 {
        eprintln!("{kept} bytes of an earlier attempt are kept");
    }
    file.set_len(kept)?;
    sink.out.seek(SeekFrom::Start(kept))?;
    pour(factory, asset, kept, &mut sink).with_context(|| format!("writing {}", part.display()))?;
    file.sync_all()?;
    fs::rename(&part, output).with_context(|| format!("renaming to {}", output.display()))?;
    finish(sink, output, &mut io::stdout())
}

/// How many bytes of an earlier attempt are right.
fn keep(factory: &Factory, asset: &Asset, file: &mut File, sink: &mut Sink<File>) -> anyhow::Result<u64> {
    let (mut kept, mut buffer) = (0, vec![0; PIECE as usize]);
    let len = file.metadata()?.len().min(asset.file.len());
    for piece in asset.file.pieces(0..len, factory.blobs(), PIECE) {
        let piece = piece?;
        let read = &mut buffer[..piece.len()];
        file.read_exact(read)?;
        if *read != piece[..] {
            break;
        }
        sink.note(&piece);
        kept += piece.len() as u64;
    }
    Ok(kept)
}

fn pour<W: Write>(factory: &Factory, asset: &Asset, from: u64, sink: &mut Sink<W>) -> anyhow::Result<()> {
    let blobs: Arc<dyn ReadBlob> = factory.blobs();
    for piece in asset.file.pieces(from..asset.file.len(), blobs, PIECE) {
        sink.write(&piece?)?;
    }
    Ok(())
}

fn finish<W>(sink: Sink<W>, output: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
    sink.bar.finish_and_clear();
    if let Some(hasher) = sink.hasher {
        writeln!(out, "{}  {}", hex::encode(hasher.finalize()), output.display())?;
    }
    Ok(())
}
