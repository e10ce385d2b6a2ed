//! Where the bytes of an asset go: a pipe, a file with holes where there are zeros, or a block device.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use crate::factory::Asset;
use crate::virtual_file::ReadBlob;

/// Bytes read and written at a time.
const PIECE: u64 = 1 << 20;
/// The shortest hole that is left in a file, in bytes: a block of most file systems.
const HOLE: u64 = 4096;

/// What is to be written.
pub struct Job {
    /// Where the bytes of blobs come from.
    pub blobs: Arc<dyn ReadBlob>,
    /// The asset.
    pub asset: Asset,
    /// Whether its checksum is printed.
    pub sha256: bool,
    /// Whether a block device is overwritten without a question.
    pub yes: bool,
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

    /// Ends the bar, and says the checksum if it is wanted.
    fn finish(self, output: &Path, to: &mut dyn Write) -> anyhow::Result<()> {
        self.bar.finish_and_clear();
        if let Some(hasher) = self.hasher {
            writeln!(to, "{}  {}", hex::encode(hasher.finalize()), output.display())?;
        }
        Ok(())
    }
}

impl Job {
    /// Writes the asset. Blocks.
    ///
    /// # Errors
    /// When it cannot be read or written, or must not be written there.
    pub fn write(&self, output: &Path) -> anyhow::Result<()> {
        if output.as_os_str() == "-" {
            let mut sink = self.sink(io::stdout().lock());
            self.pour(0, &mut sink)?;
            sink.out.flush()?;
            return sink.finish(output, &mut io::stderr());
        }
        match fs::metadata(output) {
            Ok(found) if found.file_type().is_block_device() => self.device(output),
            Ok(found) if !found.is_file() => bail!("{} is neither a file nor a block device", output.display()),
            _ => self.file(output),
        }
    }

    fn sink<W>(&self, out: W) -> Sink<W> {
        Sink { out, hasher: self.sha256.then(Sha256::new), bar: bar(self.asset.file.len()) }
    }

    /// Writes a file, going on where an earlier attempt broke off.
    fn file(&self, output: &Path) -> anyhow::Result<()> {
        // The name says what the bytes are, so that only those of the same file are continued.
        let mut part = output.as_os_str().to_owned();
        part.push(format!(".{}.part", &self.asset.extents.hex()[..16]));
        let part = PathBuf::from(part);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&part)
            .with_context(|| format!("opening {}", part.display()))?;
        file.try_lock().with_context(|| format!("another process writes {}", part.display()))?;
        let mut sink = self.sink(file.try_clone()?);
        let kept = self.keep(&mut file, &mut sink)?;
        if kept > 0 {
            eprintln!("{kept} bytes of an earlier attempt are kept");
        }
        file.set_len(kept)?;
        sink.out.seek(SeekFrom::Start(kept))?;
        self.pour_sparse(kept, &mut sink).with_context(|| format!("writing {}", part.display()))?;
        file.set_len(self.asset.file.len())?;
        file.sync_all()?;
        fs::rename(&part, output).with_context(|| format!("renaming to {}", output.display()))?;
        sink.finish(output, &mut io::stdout())
    }

    /// How many bytes of an earlier attempt are right.
    fn keep(&self, file: &mut File, sink: &mut Sink<File>) -> anyhow::Result<u64> {
        let (mut kept, mut buffer) = (0, vec![0; PIECE as usize]);
        let len = file.metadata()?.len().min(self.asset.file.len());
        for piece in self.asset.file.pieces(0..len, self.blobs.clone(), PIECE) {
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

    /// Writes a block device, all of it that the asset has: what was there before shows through nowhere.
    fn device(&self, output: &Path) -> anyhow::Result<()> {
        ensure!(
            self.asset.is_bootable_as_it_is(),
            "{} is a block device: only a .raw or .iso asset boots from one, {} does not",
            output.display(),
            self.asset.name()
        );
        // Exclusive: the system refuses it while the device or a part of it is mounted or otherwise in use.
        let flags = i32::try_from(OFlags::EXCL.bits())?;
        let mut device =
            OpenOptions::new().read(true).write(true).custom_flags(flags).open(output).map_err(|error| match error
                .kind()
            {
                io::ErrorKind::ResourceBusy => {
                    anyhow::anyhow!("{} is in use: it or a partition of it is mounted, or swap", output.display())
                }
                _ => anyhow::anyhow!("opening {}: {error}", output.display()),
            })?;
        let (len, room) = (self.asset.file.len(), device.seek(SeekFrom::End(0))?);
        ensure!(len <= room, "{} has {room} bytes, the asset {len}", output.display());
        if !self.yes {
            confirm(output, room)?;
        }
        device.seek(SeekFrom::Start(0))?;
        let mut sink = self.sink(device);
        self.pour(0, &mut sink).with_context(|| format!("writing {}", output.display()))?;
        sink.out.sync_all().with_context(|| format!("writing {}", output.display()))?;
        sink.finish(output, &mut io::stdout())
    }

    fn pour<W: Write>(&self, from: u64, sink: &mut Sink<W>) -> anyhow::Result<()> {
        for piece in self.asset.file.pieces(from..self.asset.file.len(), self.blobs.clone(), PIECE) {
            sink.write(&piece?)?;
        }
        Ok(())
    }

    /// As [`Job::pour`], with holes for zeros.
    fn pour_sparse(&self, from: u64, sink: &mut Sink<File>) -> anyhow::Result<()> {
        let rest = self.asset.file.slice(from..self.asset.file.len());
        let mut at = 0;
        for extent in rest.extents() {
            let end = at + extent.len();
            let is_hole = extent.len() >= HOLE && extent.uniform() == Some(0);
            if is_hole {
                sink.out.seek_relative(i64::try_from(extent.len())?)?;
            }
            // Without a checksum, nobody needs to see the zeros.
            if is_hole && sink.hasher.is_none() {
                sink.bar.inc(extent.len());
            } else {
                for piece in rest.pieces(at..end, self.blobs.clone(), PIECE) {
                    let piece = piece?;
                    if is_hole { sink.note(&piece) } else { sink.write(&piece)? }
                }
            }
            at = end;
        }
        Ok(())
    }
}

fn bar(len: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    ProgressBar::new(len).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Asks whether a device may be overwritten.
fn confirm(output: &Path, room: u64) -> anyhow::Result<()> {
    ensure!(
        io::stdin().is_terminal(),
        "all that is on {} would be lost: say --yes, or answer on a terminal",
        output.display()
    );
    eprint!("All that is on {} ({room} bytes) will be lost. Go on? [y/N] ", output.display());
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("reading the answer")?;
    ensure!(matches!(answer.trim(), "y" | "Y" | "yes"), "nothing was written");
    Ok(())
}
