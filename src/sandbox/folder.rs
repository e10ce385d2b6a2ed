//! The folder of a confined program.

use std::fs::{self, DirEntry, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A temporary folder for one program; gone when it is dropped.
///
/// The program sees it as its current folder: itself as `program`, what it may read in `files`, what it may change in
/// `work`.
pub struct Folder(PathBuf);

/// What a program has made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Made {
    /// Bytes that it takes on the disk.
    pub bytes: u64,
    /// Files, folders and everything else.
    pub entries: u64,
}

/// What folders of programs are called, before what makes their names different.
const PREFIX: &str = "image-factory-sandbox-";

impl Folder {
    /// An empty folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> io::Result<Self> {
        let folder = Self(tempfile::Builder::new().prefix(PREFIX).tempdir()?.keep());
        fs::create_dir(folder.files())?;
        fs::create_dir(folder.work())?;
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The program.
    pub fn program(&self) -> PathBuf {
        self.0.join(PROGRAM)
    }

    /// What it may read.
    pub fn files(&self) -> PathBuf {
        self.0.join(FILES)
    }

    /// What it may change.
    pub fn work(&self) -> PathBuf {
        self.0.join(WORK)
    }

    /// Its standard input.
    pub(super) fn input(&self) -> PathBuf {
        self.0.join("input")
    }

    /// Its standard output.
    pub(super) fn output(&self) -> PathBuf {
        self.0.join("output")
    }

    /// Its standard error.
    pub(super) fn errors(&self) -> PathBuf {
        self.0.join("errors")
    }

    /// A file that says whether the walls were up.
    pub(super) fn ready(&self) -> PathBuf {
        self.0.join(READY)
    }

    /// What is below `work`; counting ends where there are more than `most` entries.
    ///
    /// # Errors
    /// When a folder cannot be read, as one whose path is too long.
    pub(super) fn made(&self, most: u64) -> io::Result<Made> {
        let mut made = Made::default();
        self.walk(|_, found| {
            made.bytes += found.blocks() * 512;
            made.entries += 1;
            made.entries <= most
        })?;
        Ok(made)
    }

    /// Shows every entry below `work`, as a path and what it is, until it is not wanted any more. Folders that deny access
    /// are opened: a program that was not root may have made them.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn walk(&self, mut wanted: impl FnMut(&Path, &fs::Metadata) -> bool) -> io::Result<()> {
        let mut folders = vec![self.work()];
        while let Some(folder) = folders.pop() {
            for entry in entries(&folder)? {
                let found = match entry.metadata() {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    found => found?,
                };
                if found.is_dir() {
                    folders.push(entry.path());
                }
                if !wanted(&entry.path(), &found) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Name of the program in its folder.
pub(super) const PROGRAM: &str = "program";
/// Name of the folder that it may read.
pub(super) const FILES: &str = "files";
/// Name of the folder that it may change.
pub(super) const WORK: &str = "work";
/// Name of the file that says whether the walls were up.
pub(super) const READY: &str = "ready";

/// The entries of a folder; none if it is gone.
fn entries(folder: &Path) -> io::Result<Vec<DirEntry>> {
    let read = |folder: &Path| fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>();
    let found = match fs::symlink_metadata(folder) {
        // All of it may be needed: reading, searching, and removing what is in it.
        Ok(found) if found.mode() & 0o700 != 0o700 => {
            fs::set_permissions(folder, Permissions::from_mode(0o700)).and_then(|()| read(folder))
        }
        Ok(_) => read(folder),
        Err(error) => Err(error),
    };
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}

/// Removes a folder however deep it is: what is in folders of a folder is moved up before they go.
fn remove(folder: &Path) -> io::Result<()> {
    let mut folders = vec![folder.to_owned()];
    let mut moved = 0_u64;
    while let Some(inner) = folders.pop() {
        for entry in entries(&inner)? {
            if entry.file_type()?.is_dir() {
                // To be moved, a folder must be writable itself.
                fs::set_permissions(entry.path(), Permissions::from_mode(0o700))?;
                let up = folder.with_extension(format!("{moved}"));
                moved += 1;
                fs::rename(entry.path(), &up)?;
                folders.push(up);
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        fs::remove_dir(&inner)?;
    }
    Ok(())
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "a program's folder could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_and_closed_folders_go() {
        let folder = Folder::new().unwrap();
        let path = folder.path().to_owned();
        let mut at = folder.work();
        for _ in 0..40 {
            at = at.join("d".repeat(90));
            fs::create_dir(&at).unwrap();
        }
        // Deeper than any path can say.
        for n in 0..4 {
            let top = folder.work().join(format!("top{n}"));
            fs::create_dir(&top).unwrap();
            fs::rename(folder.work().join("d".repeat(90)), top.join("down")).unwrap();
            fs::rename(&top, folder.work().join("d".repeat(90))).unwrap();
        }
        fs::write(folder.work().join("file"), [1; 5000]).unwrap();
        let closed = folder.work().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::write(closed.join("file"), "").unwrap();
        fs::set_permissions(&closed, Permissions::from_mode(0o000)).unwrap();
        drop(folder);
        let parent = path.parent().unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let left = fs::read_dir(parent)
            .unwrap()
            .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with(name)));
        assert_eq!(left.count(), 0);
    }

    #[test]
    fn what_was_made_is_counted() {
        let folder = Folder::new().unwrap();
        fs::create_dir(folder.work().join("a")).unwrap();
        fs::write(folder.work().join("a/b"), vec![1; 100_000]).unwrap();
        let made = folder.made(10).unwrap();
        assert_eq!(made.entries, 2);
        assert!((100_000..200_000).contains(&made.bytes), "{made:?}");
        assert_eq!(folder.made(1).unwrap().entries, 2);
    }
}
