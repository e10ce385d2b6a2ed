//! Letting an overlay's program install, and keeping what it wrote.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::bundle::{self, Bundle};
use super::{INSTALL_TIME, OverlayInstall, ResolvedOverlay, bad, folder, no_folder, run};
use crate::factory::FactoryError;
use crate::factory::prepare::blobs;
use crate::format::yaml::{Node, Width, emit};
use crate::sandbox::{Folder, Job};
use crate::store::BlobStore;

/// Bytes of the empty disk that a program is given; boot code stands long before.
const DISK: u64 = 128 << 20;
/// Bytes in a sector.
const SECTOR: usize = 512;
/// Runs of sectors at most that boot code is split into by zeros.
const MAX_RUNS: usize = 50_000;

/// Paths as a program is told them: relative to its folder, so the same wherever that is.
const DISK_PATH: &str = "work/disk.raw";
const PREFIX_PATH: &str = "work/mnt";
const ARTIFACTS_PATH: &str = "files/artifacts";
/// Where below the prefix the EFI file system is mounted.
const EFI: &str = "boot/EFI";

/// Installs with the program of `program` and the artifacts of `files`.
pub fn install(
    store: &dyn BlobStore,
    overlay: &ResolvedOverlay,
    program: &Bundle,
    files: &Bundle,
) -> Result<OverlayInstall, FactoryError> {
    let folder = folder(store, overlay, program)?;
    let artifacts = folder.path().join(ARTIFACTS_PATH);
    fs::create_dir(&artifacts).map_err(no_folder)?;
    bundle::write_tree(store, &files.artifacts()?, &artifacts)?;
    fs::create_dir_all(folder.path().join(PREFIX_PATH).join(EFI)).map_err(no_folder)?;
    let disk = File::create_new(folder.path().join(DISK_PATH)).map_err(no_folder)?;
    disk.set_len(DISK).map_err(no_folder)?;
    drop(disk);
    let input = input(overlay);
    run(overlay, &Job { folder: &folder, argument: "install", input: input.as_bytes(), time: INSTALL_TIME })?;
    let wrote = |reason: String| bad(overlay, format!("its program installers/{} {reason}", overlay.name));
    let found = Found::below(&folder).map_err(wrote)?;
    let mut parts = (BTreeMap::new(), Vec::new());
    let contents = blobs::write(store, |out| {
        parts = found.copy(out)?;
        Ok::<_, io::Error>(())
    })?;
    let (files, writes) = parts;
    Ok(OverlayInstall { contents, files, writes })
}

/// What the program reads when it installs.
fn input(overlay: &ResolvedOverlay) -> String {
    let text = |name, value| (Node::string(name), Node::string(value));
    let mut fields =
        vec![text("installDisk", DISK_PATH), text("mountPrefix", PREFIX_PATH), text("artifactsPath", ARTIFACTS_PATH)];
    if !overlay.options.is_empty() {
        fields.push((Node::string("extraOptions"), Node::Map(overlay.options.clone())));
    }
    emit(&Node::Map(fields), Width::Unlimited)
}

/// What a program left in its folder.
struct Found {
    /// Path in the EFI file system, and where the file is.
    files: BTreeMap<String, PathBuf>,
    disk: File,
    /// First byte and length of each run of sectors that are not zero.
    runs: Vec<(u64, u64)>,
}

type Parts = (BTreeMap<String, (u64, u64)>, Vec<(u64, (u64, u64))>);

impl Found {
    fn below(folder: &Folder) -> Result<Self, String> {
        let (disk_path, prefix) = (folder.path().join(DISK_PATH), folder.path().join(PREFIX_PATH).join(EFI));
        let (mut files, mut strange) = (BTreeMap::new(), None);
        let walked = folder.walk(|path, found| {
            if found.is_dir() || path == disk_path {
                return true;
            }
            let name = path.strip_prefix(&prefix).ok().and_then(Path::to_str);
            match name {
                Some(name) if found.is_file() => drop(files.insert(name.to_owned(), path.to_owned())),
                // What is neither firmware nor boot code would be lost without a word.
                _ => strange = Some(path.strip_prefix(folder.path()).unwrap_or(path).to_owned()),
            }
            strange.is_none()
        });
        walked.map_err(|error| format!("left files that cannot be read: {error}"))?;
        if let Some(path) = strange {
            return Err(format!("wrote {path:?}, which is neither on the EFI file system nor the disk"));
        }
        let disk = open(&disk_path).map_err(|error| format!("took the disk away: {error}"))?;
        let runs = runs(&disk).map_err(|error| format!("left a disk that cannot be read: {error}"))?;
        Ok(Self { files, disk, runs })
    }

    /// Writes all contents, one behind the other, and says where they are.
    fn copy(&self, out: &mut dyn Write) -> io::Result<Parts> {
        let (mut files, mut writes, mut end) = (BTreeMap::new(), Vec::new(), 0);
        for (name, path) in &self.files {
            let len = io::copy(&mut open(path)?, out)?;
            files.insert(name.clone(), (end, len));
            end += len;
        }
        let mut disk = &self.disk;
        for (start, len) in &self.runs {
            disk.seek(SeekFrom::Start(*start))?;
            io::copy(&mut disk.take(*len), out)?;
            writes.push((*start, (end, *len)));
            end += len;
        }
        Ok((files, writes))
    }
}

/// Opens a regular file, whatever its mode is, and nothing else.
fn open(path: &Path) -> io::Result<File> {
    let found = fs::symlink_metadata(path)?;
    if !found.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no regular file"));
    }
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path)
}

/// First byte and length of each run of sectors of which none is zero.
fn runs(disk: &File) -> io::Result<Vec<(u64, u64)>> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    let mut buffer = vec![0; 2048 * SECTOR];
    let mut at = 0;
    while let Some(data) = next_data(disk, at)? {
        // From the start of a sector on.
        at = data - data % SECTOR as u64;
        let filled = read_at(disk, &mut buffer, at)?;
        // A last sector that is cut off ends in zeros.
        let whole = filled.next_multiple_of(SECTOR);
        buffer.get_mut(filled..whole).unwrap_or_default().fill(0);
        for sector in buffer.get(..whole).unwrap_or_default().chunks(SECTOR) {
            if sector.iter().any(|byte| *byte != 0) {
                match runs.last_mut() {
                    Some((start, len)) if *start + *len == at => *len += SECTOR as u64,
                    _ => runs.push((at, SECTOR as u64)),
                }
            }
            at += SECTOR as u64;
        }
        if runs.len() > MAX_RUNS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is written in too many pieces"));
        }
    }
    Ok(runs)
}

/// Where the next data is, at `at` or behind; `None` if there is none.
fn next_data(disk: &File, at: u64) -> io::Result<Option<u64>> {
    match rustix::fs::seek(disk, rustix::fs::SeekFrom::Data(at)) {
        Ok(data) => Ok(Some(data)),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn read_at(disk: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match disk.read_at(rest, at + filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Digest;

    #[test]
    fn a_disk_becomes_its_sectors_that_are_not_zero() {
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(64 << 20).unwrap();
        assert_eq!(runs(&disk).unwrap(), []);
        disk.write_all_at(&[1], 0).unwrap();
        disk.write_all_at(&[2; 1000], 32 << 10).unwrap();
        // Written, but nothing: as if it was not.
        disk.write_all_at(&[0; 9000], 100 << 10).unwrap();
        disk.write_all_at(&[3; 3 << 20], 1 << 20).unwrap();
        disk.write_all_at(&[4], (64 << 20) + 511).unwrap();
        disk.set_len((64 << 20) + 600).unwrap();
        let expected = [(0, 512), (32 << 10, 1024), (1 << 20, 3 << 20), (64 << 20, 512)];
        assert_eq!(runs(&disk).unwrap(), expected);
    }

    #[test]
    fn a_program_is_told_the_same_everywhere() {
        let mut overlay = ResolvedOverlay {
            repository: "siderolabs/sbc".to_owned(),
            digest: Digest::of(b""),
            name: "board".to_owned(),
            options: Vec::new(),
        };
        let fixed = "installDisk: work/disk.raw\nmountPrefix: work/mnt\nartifactsPath: files/artifacts\n";
        assert_eq!(input(&overlay), fixed);
        overlay.options.push((Node::string("console"), Node::string("ttyS2")));
        assert_eq!(input(&overlay), format!("{fixed}extraOptions:\n    console: ttyS2\n"));
    }
}
