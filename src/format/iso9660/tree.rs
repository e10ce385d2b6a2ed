//! The directories of an image, in the order of its path table.

use std::collections::{BTreeMap, VecDeque};

use super::name::{Identifiers, sort_key};
use super::{CATALOG_PATH, Content, Image, Iso9660Error, MAX_DEPTH, MAX_NAME, SECTOR};

/// The most directories: a path table counts parents in 16 bits.
const MAX_DIRECTORIES: usize = u16::MAX as usize;

/// What a file's record points to.
#[derive(Clone, Copy)]
pub(super) enum Data<'a> {
    /// What the caller gave for the path.
    Content(&'a Content),
    /// The BIOS' boot image.
    Bios,
    /// The boot catalog.
    Catalog,
}

/// A file with its path.
pub(super) struct File<'a> {
    pub(super) path: &'a str,
    pub(super) data: Data<'a>,
}

impl File<'_> {
    /// Checks that the sector behind the file can be told.
    pub(super) fn check_end(&self, sector: u64) -> Result<(), Iso9660Error> {
        match u32::try_from(sector) {
            Ok(_) => Ok(()),
            Err(_) => refuse(self.path, format!("ends at sector {sector}, {} at most", u32::MAX)),
        }
    }
}

/// An entry of a directory: its index among all directories or files.
#[derive(Clone, Copy)]
pub(super) enum Target {
    Directory(usize),
    File(usize),
}

/// A named entry of a directory.
pub(super) struct Entry<'a> {
    pub(super) name: &'a str,
    pub(super) identifier: String,
    pub(super) target: Target,
}

/// A directory with its entries in the order of identifiers.
#[derive(Default)]
pub(super) struct Directory<'a> {
    /// Index of the directory above; the root's is its own.
    pub(super) parent: usize,
    /// Empty for the root.
    pub(super) identifier: String,
    pub(super) entries: Vec<Entry<'a>>,
}

impl Directory<'_> {
    /// Links of its inode: its name, its own record and those of the directories below that name it their parent.
    pub(super) fn links(&self) -> u32 {
        2 + self.entries.iter().filter(|entry| matches!(entry.target, Target::Directory(_))).count() as u32
    }
}

/// Directories and files of an image.
pub(super) struct Tree<'a> {
    /// By level, then by parent, then by identifier: the root first.
    pub(super) directories: Vec<Directory<'a>>,
    /// In the order of paths.
    pub(super) files: Vec<File<'a>>,
}

/// Entries by name, as they are gathered.
type Names<'a> = BTreeMap<&'a str, Target>;

fn refuse<T>(path: &str, what: impl Into<String>) -> Result<T, Iso9660Error> {
    Err(Iso9660Error::Path { path: path.chars().take(200).collect(), what: what.into() })
}

impl<'a> Tree<'a> {
    /// Gathers what the image holds, boot image and catalog included.
    pub(super) fn new(image: &Image<'a>) -> Result<Self, Iso9660Error> {
        let mut all: BTreeMap<&'a str, Data<'a>> =
            image.files.iter().map(|(path, content)| (path.as_str(), Data::Content(content))).collect();
        let bios = image.bios.map(|bios| (bios.path, Data::Bios));
        let catalog = (image.bios.is_some() || image.uefi.is_some()).then_some((CATALOG_PATH, Data::Catalog));
        for (path, data) in bios.into_iter().chain(catalog) {
            if all.insert(path, data).is_some() {
                return refuse(path, "is made by the layout and cannot be given");
            }
        }
        let uefi_len = image.uefi.map(|uefi| uefi.len());
        let mut gathered = Gathered { names: vec![Names::new()], files: Vec::new() };
        for (path, data) in all {
            if let Data::Content(Content::Shared { offset, len }) = data {
                check_shared(path, *offset, *len, uefi_len)?;
            }
            gathered.add(path, data)?;
        }
        Ok(Self { directories: gathered.sort(), files: gathered.files })
    }
}

/// Checks that a file's bytes are in the UEFI image, where a record can point to.
fn check_shared(path: &str, offset: u64, len: u64, uefi: Option<u64>) -> Result<(), Iso9660Error> {
    let Some(uefi) = uefi else { return refuse(path, "is shared with a UEFI image, and there is none") };
    if !offset.is_multiple_of(SECTOR) {
        return refuse(path, format!("starts at byte {offset} of the UEFI image, no multiple of {SECTOR}"));
    }
    if offset.checked_add(len).is_none_or(|end| end > uefi) {
        return refuse(path, format!("{len} bytes at {offset} of a UEFI image of {uefi}"));
    }
    Ok(())
}

/// Directories and files in the order in which they were met.
struct Gathered<'a> {
    names: Vec<Names<'a>>,
    files: Vec<File<'a>>,
}

impl<'a> Gathered<'a> {
    fn add(&mut self, path: &'a str, data: Data<'a>) -> Result<(), Iso9660Error> {
        let names: Vec<&str> = path.split('/').collect();
        let is_directory = matches!(data, Data::Content(Content::Directory));
        let levels = names.len() + usize::from(is_directory);
        if levels > MAX_DEPTH {
            return refuse(path, format!("{levels} levels of directories, {MAX_DEPTH} at most"));
        }
        let mut directory = 0;
        for (at, name) in names.iter().enumerate() {
            if name.is_empty() || [".", ".."].contains(name) || name.contains('\0') {
                return refuse(path, format!("a component cannot be {name:?}"));
            }
            if name.len() > MAX_NAME {
                return refuse(path, format!("a name of {} bytes, {MAX_NAME} at most", name.len()));
            }
            let found = self.names[directory].get(name).copied();
            let target = if at + 1 < names.len() || is_directory {
                match found {
                    Some(Target::File(_)) => return refuse(path, format!("{name:?} is a file")),
                    Some(Target::Directory(number)) => Target::Directory(number),
                    None => {
                        self.names.push(Names::new());
                        Target::Directory(self.names.len() - 1)
                    }
                }
            } else if found.is_some() {
                return refuse(path, "is a directory");
            } else {
                self.files.push(File { path, data });
                Target::File(self.files.len() - 1)
            };
            self.names[directory].insert(name, target);
            if let Target::Directory(number) = target {
                directory = number;
            }
        }
        if self.names.len() > MAX_DIRECTORIES {
            return refuse(path, format!("{} directories, {MAX_DIRECTORIES} at most", self.names.len()));
        }
        Ok(())
    }

    /// The directories in the path table's order: a walk by levels that takes each directory's entries sorted.
    fn sort(&self) -> Vec<Directory<'a>> {
        let mut sorted: Vec<Directory<'a>> = Vec::with_capacity(self.names.len());
        let mut todo = VecDeque::from([(0, 0, String::new())]);
        while let Some((met, parent, identifier)) = todo.pop_front() {
            let own = sorted.len();
            let mut identifiers = Identifiers::default();
            let mut entries: Vec<Entry<'a>> = self.names[met]
                .iter()
                .map(|(name, target)| {
                    let identifier = match target {
                        Target::Directory(_) => identifiers.directory(name),
                        Target::File(_) => identifiers.file(name),
                    };
                    Entry { name, identifier, target: *target }
                })
                .collect();
            entries.sort_by(|a, b| sort_key(&a.identifier).cmp(sort_key(&b.identifier)));
            for entry in &mut entries {
                if let Target::Directory(number) = &mut entry.target {
                    todo.push_back((*number, own, entry.identifier.clone()));
                    // It is taken from the queue behind all that are in front of it.
                    *number = own + todo.len();
                }
            }
            sorted.push(Directory { parent, identifier, entries });
        }
        sorted
    }
}
