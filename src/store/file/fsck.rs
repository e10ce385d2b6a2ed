//! Checking the store.

use std::fmt;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::maps::{CHUNK, encode_checks};
use super::{Shared, entries, failed, files_below, layout, read_if_there, remove_if_there, split_record};
use crate::store::{RecordKind, StoreError};
use crate::types::Digest;
use crate::virtual_file::VirtualFile;

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
    /// Whether what is bad was dropped.
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
            writeln!(f, "{problem}{}", if self.repaired { ": dropped" } else { "" })?;
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
    report.problems.push(format!("{}: {problem}", path.display()));
    if report.repaired { remove_if_there(path) } else { Ok(()) }
}

/// The digest named by a path.
fn named(path: &Path) -> Option<Digest> {
    Digest::from_hex(path.file_name()?.to_str()?).ok()
}

fn blobs(shared: &Shared, report: &mut FsckReport) -> Result<(), StoreError> {
    for path in entries(&shared.root.join("blobs/sha256"))? {
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
        let stored = read_if_there(&shared.checks(&name))?;
        let problem = if found != name {
            "its bytes are not those of its name"
        } else if stored.as_deref() != Some(&encode_checks(&checks)) {
            "its checks are missing or wrong"
        } else {
            continue;
        };
        report.problems.push(format!("{}: {problem}", path.display()));
        if report.repaired {
            shared.drop_blob(&name)?;
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
fn hash(path: &Path) -> Result<(Digest, Vec<u32>, u64), StoreError> {
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
        } else if let Err(error) = VirtualFile::decode(stored) {
            bad(report, &path, &error.to_string())?;
        }
    }
    Ok(())
}

fn records(shared: &Shared, kind: RecordKind, report: &mut FsckReport) -> Result<(), StoreError> {
    for path in files_below(&shared.root.join("records").join(kind.as_str()))? {
        report.records += 1;
        let key = read_if_there(&path)?.and_then(|bytes| split_record(bytes.into())).map(|(key, _)| key);
        if key.is_none_or(|key| shared.record(kind, &key) != path) {
            bad(report, &path, "not the record of its name")?;
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
