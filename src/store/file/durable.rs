//! Writing a file so that it is there whole or not at all.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use super::{entries, failed, flush_folder};
use crate::store::StoreError;

/// The file that a living process holds locked in its folder.
const LOCK: &str = "lock";

/// The folder in which this process writes before it renames.
pub struct Scratch {
    root: PathBuf,
    folder: PathBuf,
    /// Held locked for as long as the process lives.
    _lock: File,
    next: AtomicU64,
    /// Folders whose own names are known to be on the disk, because this process has flushed what they are in.
    durable: Mutex<HashSet<PathBuf>>,
}

impl Scratch {
    /// Makes a folder of our own below `tmp` of the store in `root`.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let tmp = root.join("tmp");
        loop {
            let folder = tmp.join(format!("{:016x}", rand::random::<u64>()));
            fs::create_dir(&folder).map_err(failed(format!("making {}", folder.display())))?;
            let path = folder.join(LOCK);
            let lock = File::create(&path).and_then(|file| file.lock().map(|()| file));
            // Between its making and its locking, another process may have taken the folder for that of a dead one.
            match lock {
                Ok(lock) if is_at(&lock, &path) => {
                    flush_folder(&folder)?;
                    flush_folder(&tmp)?;
                    let (root, durable) = (root.to_owned(), Mutex::new(HashSet::from([root.to_owned()])));
                    return Ok(Self { root, folder, _lock: lock, next: AtomicU64::new(0), durable });
                }
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(failed(format!("locking {}", path.display()))(error));
                }
                _ => {}
            }
        }
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.folder
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
            written.map_err(failed(format!("writing {}", path.display()))).and_then(|()| self.rename(&temporary, path));
        if done.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        done
    }

    /// Writes a small file in place of what was there; it is visible whole when this returns, but not yet durable. What
    /// comes back can be flushed.
    pub fn place(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<File, StoreError> {
        // Most are new, and then this is quicker: threads that place files in different folders share no lock.
        if let Ok(file) = link_new(path, bytes, mode) {
            return Ok(file);
        }
        let (temporary, mut file) = self.create(mode)?;
        let placed = file.write_all(bytes).and_then(|()| match fs::rename(&temporary, path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                fs::create_dir_all(path.parent().unwrap_or(path))?;
                fs::rename(&temporary, path)
            }
            done => done,
        });
        if placed.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        placed.map(|()| file).map_err(failed(format!("writing {}", path.display())))
    }

    /// Gives a flushed file its name, and flushes the folder, which is made if needed.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        let folder = to.parent().unwrap_or(Path::new("/"));
        self.make(folder)?;
        fs::rename(from, to).map_err(failed(format!("renaming to {}", to.display())))?;
        flush_folder(folder)
    }

    /// Flushes a folder of the store, and the names of those above it where that was not done before.
    pub fn flush_names(&self, folder: &Path) -> Result<(), StoreError> {
        self.make(folder)?;
        flush_folder(folder)
    }

    /// Makes a folder of the store, durably. One that is there may have been made by a thread or process that has not
    /// come to its flushing: what is in it is durable only when the names of all folders above are.
    fn make(&self, folder: &Path) -> Result<(), StoreError> {
        let known = self.durable.lock().unwrap_or_else(PoisonError::into_inner).contains(folder);
        if known && folder.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(folder).map_err(failed(format!("making {}", folder.display())))?;
        for above in folder.ancestors().skip(1) {
            flush_folder(above)?;
            if above == self.root {
                break;
            }
        }
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_owned());
        Ok(())
    }

    /// Folders of processes that are dead, held locked so that nobody else cares for them.
    pub fn dead(&self) -> Result<Vec<Dead>, StoreError> {
        let others = entries(&self.root.join("tmp"))?.into_iter().filter(|folder| *folder != self.folder);
        Ok(others.filter_map(Dead::find).collect())
    }

    /// Removes the folder with all that is in it.
    pub fn remove(&self) {
        remove(&self.folder);
    }
}

/// Writes a file that has no name yet, and gives it one that nothing has. Not every file system can.
fn link_new(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path.parent().unwrap_or(path), flags, Mode::from_raw_mode(mode))?;
    let mut file = File::from(file);
    file.write_all(bytes)?;
    let open = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, open, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
    Ok(file)
}

/// The folder of a dead process.
pub struct Dead {
    /// The folder.
    pub folder: PathBuf,
    _lock: Option<File>,
}

impl Dead {
    fn find(folder: PathBuf) -> Option<Self> {
        match File::open(folder.join(LOCK)) {
            Ok(lock) => lock.try_lock().is_ok().then_some(Self { folder, _lock: Some(lock) }),
            // Made a moment ago by a process that has not come to its lock, or half removed: young ones are left alone.
            Err(_) => {
                let made = folder.metadata().and_then(|metadata| metadata.modified()).ok()?;
                let old = made.elapsed().is_ok_and(|age| age.as_secs() >= 60);
                old.then_some(Self { folder, _lock: None })
            }
        }
    }

    /// Removes the folder with all that is in it.
    pub fn remove(self) {
        remove(&self.folder);
    }
}

fn remove(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "leftovers could not be removed");
    }
}

/// Whether an open file still has the name.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}
