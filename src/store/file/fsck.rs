//! Checking the store.

use std::fmt;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::maps::{CHUNK, encode_checks};
use super::{BLOBS, Shared, entries, failed, files_below, layout, read_if_there, remove_if_there, sealed};
use crate::store::{RecordKind, StoreError};
use crate::types::Digest;
use crate::virtual_file::{DecodeError, VirtualFile};

/// What a check of the store found.
#[derive(Clone, Debug, Default)]
pub struct FsckReport {
    /// Real blobs read.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Extent lists read.
    pub extent_lists: usize,
    /// Records read.
    pub records: usize,
    /// What is bad, one line each.
    pub problems: Vec<String>,
    /// Of these, the ones that no repair mends: what cannot be made again is kept as it is.
    pub lost: usize,
    /// Whether the rest was dropped or mended.
    pub repaired: bool,
}

impl FsckReport {
    /// Whether nothing was bad.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for FsckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        writeln!(
            f,
            "{} blobs ({} bytes), {} extent lists, {} records; {} bad",
            self.blobs,
            self.bytes,
            self.extent_lists,
            self.records,
            self.problems.len()
        )
    }
}

/// Reads everything; drops what is bad if `repair`.
pub fn run(shared: &Shared, repair: bool) -> Result<FsckReport, StoreError> {
    let mut report = FsckReport { repaired: repair, ..FsckReport::default() };
    blobs(shared, &mut report)?;
    extent_lists(shared, &mut report)?;
    for kind in RecordKind::ALL {
        records(shared, kind, &mut report)?;
    }
    images(shared, &mut report)?;
    Ok(report)
}

fn bad(report: &mut FsckReport, path: &Path, problem: &str) -> Result<(), StoreError> {
    note(report, path, problem, "dropped");
    if report.repaired { remove_if_there(path) } else { Ok(()) }
}

/// Notes what is bad, and what the repair does about it.
fn note(report: &mut FsckReport, path: &Path, problem: &str, done: &str) {
    let done = if report.repaired { format!(": {done}") } else { String::new() };
    report.problems.push(format!("{}: {problem}{done}", path.display()));
}

/// The digest named by a path.
fn named(path: &Path) -> Option<Digest> {
    Digest::from_hex(path.file_name()?.to_str()?).ok()
}

fn blobs(shared: &Shared, report: &mut FsckReport) -> Result<(), StoreError> {
    for path in entries(&shared.root.join(BLOBS))? {
        let Some(name) = named(&path) else {
            bad(report, &path, "not the name of a blob")?;
            continue;
        };
        let (found, checks, len) = match hash(&path) {
            Ok(hashed) => hashed,
            // Dropped by another process a moment ago.
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                bad(report, &path, &error.to_string())?;
                continue;
            }
        };
        report.blobs += 1;
        report.bytes += len;
        if found != name {
            note(report, &path, "its bytes are not those of its name", "dropped");
            if report.repaired {
                shared.drop_blob(&name)?;
            }
        } else if read_if_there(&shared.checks(&name))?.as_deref() != Some(&encode_checks(&checks)) {
            note(report, &path, "its checks are missing or wrong", "made again");
            if report.repaired {
                shared.scratch.write(&shared.checks(&name), &encode_checks(&checks), 0o644)?;
            }
        }
    }
    for path in files_below(&shared.root.join("checks"))? {
        if !named(&path).is_some_and(|name| shared.blob(&name).exists()) {
            // Harmless: written before a blob that never came, or left by one that was dropped.
            remove_if_there(&path)?;
        }
    }
    Ok(())
}

/// Digest, checks and length of a file.
pub fn hash(path: &Path) -> Result<(Digest, Vec<u32>, u64), StoreError> {
    let reading = || failed(format!("reading {}", path.display()));
    let mut file = File::open(path).map_err(reading())?;
    let (mut hasher, mut checks, mut len) = (Sha256::new(), Vec::new(), 0);
    let mut buffer = Vec::with_capacity(CHUNK as usize);
    loop {
        buffer.clear();
        let read = (&mut file).take(CHUNK).read_to_end(&mut buffer).map_err(reading())?;
        if read == 0 {
            return Ok((Digest::from_raw(hasher.finalize().into()), checks, len));
        }
        hasher.update(&buffer);
        checks.push(crc32c::crc32c(&buffer));
        len += read as u64;
    }
}

fn extent_lists(shared: &Shared, report: &mut FsckReport) -> Result<(), StoreError> {
    for path in files_below(&shared.root.join("virtual"))? {
        report.extent_lists += 1;
        let stored = read_if_there(&path)?.unwrap_or_default();
        if named(&path).is_none() {
            bad(report, &path, "not the name of a blob")?;
        } else if let Err(error) = sealed::unseal(stored).ok_or(DecodeError::Damaged).and_then(VirtualFile::decode) {
            bad(report, &path, &error.to_string())?;
        }
    }
    Ok(())
}

fn records(shared: &Shared, kind: RecordKind, report: &mut FsckReport) -> Result<(), StoreError> {
    for path in files_below(&shared.root.join("records").join(kind.as_str()))? {
        report.records += 1;
        let key = read_if_there(&path)?.and_then(sealed::unseal_record).map(|(key, _)| key);
        if key.is_some_and(|key| shared.record(kind, &key) == path) {
            continue;
        }
        let problem = "not the record that was stored under its name";
        if kind.is_original() {
            // Without it, another value could quietly take its place.
            note(report, &path, problem, "kept, because it cannot be made again; put it back from a copy or remove it");
            report.lost += 1;
        } else {
            bad(report, &path, problem)?;
        }
    }
    Ok(())
}

/// Images in the index whose manifest is not there.
fn images(shared: &Shared, report: &mut FsckReport) -> Result<(), StoreError> {
    let (mut gone, repair) = (Vec::new(), report.repaired);
    layout::change(&shared.root, &shared.scratch, |manifests| {
        let there = |entry: &serde_json::Value| {
            let digest = entry["digest"].as_str().and_then(|text| text.parse::<Digest>().ok());
            digest.is_some_and(|digest| fs::exists(shared.blob(&digest)).unwrap_or(false))
        };
        gone = manifests.iter().filter(|entry| !there(entry)).map(|entry| entry["digest"].to_string()).collect();
        if repair {
            manifests.retain(there);
        }
        repair && !gone.is_empty()
    })?;
    report.problems.extend(gone.iter().map(|digest| format!("index.json: {digest} is not there")));
    Ok(())
}
