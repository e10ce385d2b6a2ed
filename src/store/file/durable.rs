//! Writing a file so that it is there whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{entries, failed, flush_folder};
use crate::store::StoreError;

/// The file that a living process holds locked in its folder.
const LOCK: &str = "lock";

/// The folder in which this process writes before it renames.
pub struct Scratch {
    folder: PathBuf,
    /// Held locked for as long as the process lives.
    _lock: File,
    next: AtomicU64,
}

impl Scratch {
    /// Makes a folder of our own below `tmp`, and removes those of dead processes.
    pub fn open(tmp: &Path) -> Result<Self, StoreError> {
        for left in entries(tmp)? {
            sweep(&left);
        }
        let folder = tmp.join(format!("{:016x}", rand::random::<u64>()));
        fs::create_dir(&folder).map_err(failed(format!("making {}", folder.display())))?;
        let path = folder.join(LOCK);
        let lock = File::create(&path).map_err(failed(format!("making {}", path.display())))?;
        lock.lock().map_err(failed(format!("locking {}", path.display())))?;
        Ok(Self { folder, _lock: lock, next: AtomicU64::new(0) })
    }

    /// An empty file with a name of its own.
    pub fn create(&self, mode: u32) -> Result<(PathBuf, File), StoreError> {
        let path = self.folder.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(mode).open(&path);
        Ok((path.clone(), file.map_err(failed(format!("making {}", path.display())))?))
    }

    /// Writes a small file in place of what was there; it is durable when this returns.
    pub fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), StoreError> {
        let (temporary, mut file) = self.create(mode)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_data());
        let done =
            written.map_err(failed(format!("writing {}", path.display()))).and_then(|()| rename(&temporary, path));
        if done.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        done
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Gives a flushed file its name, and flushes the folder; the folder and the one above it are made if needed.
pub fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    let folder = to.parent().unwrap_or(Path::new("/"));
    let renaming = || failed(format!("renaming to {}", to.display()));
    if let Err(error) = fs::rename(from, to) {
        if error.kind() != std::io::ErrorKind::NotFound {
            return Err(renaming()(error));
        }
        fs::create_dir_all(folder).map_err(failed(format!("making {}", folder.display())))?;
        for above in folder.ancestors().skip(1).take(2) {
            flush_folder(above)?;
        }
        fs::rename(from, to).map_err(renaming())?;
    }
    flush_folder(folder)
}

/// Removes a process' folder unless the process lives.
fn sweep(folder: &Path) {
    let alive = match File::open(folder.join(LOCK)) {
        Ok(lock) => lock.try_lock().is_err(),
        // Made a moment ago by a process that has not come to its lock, or half removed: young ones are left alone.
        Err(_) => folder
            .metadata()
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|made| made.elapsed().is_ok_and(|age| age.as_secs() < 60)),
    };
    if !alive && let Err(error) = fs::remove_dir_all(folder) {
        tracing::warn!(folder = %folder.display(), %error, "leftovers could not be removed");
    }
}
