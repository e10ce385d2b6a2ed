//! The layout: sizes first, then places, then bytes.

use std::ops::Range;

use super::descriptor::{self, Volume};
use super::record::{self, Place, Records};
use super::tree::{Data, Target, Tree};
use super::{Content, Image, Iso9660Error, PartitionTable, SECTOR, UEFI_ALIGNMENT, el_torito, system_area};
use crate::format::gpt::BOOT_CODE_LEN;
use crate::format::sparse::sparse;
use crate::virtual_file::VirtualFile;

/// Zeros behind everything that is read, in bytes: drives and boot loaders read ahead.
const READ_AHEAD: u64 = 150 * SECTOR;
/// What an image's length is a multiple of, in bytes: GRUB reads a CD in pieces of 32 KiB.
const PADDING: u64 = 64 << 10;
/// The sector of the first volume descriptor.
const FIRST_DESCRIPTOR: u64 = system_area::LEN / SECTOR;

impl Image<'_> {
    /// The whole image.
    ///
    /// # Errors
    /// [`Iso9660Error`] names the path or identifier that cannot be, with its bound.
    pub fn layout(&self) -> Result<VirtualFile, Iso9660Error> {
        Ok(self.explained()?.image)
    }

    /// The whole image, and what lies where in it.
    ///
    /// # Errors
    /// As [`Self::layout`].
    pub fn explained(&self) -> Result<Layout, Iso9660Error> {
        descriptor::check(self)?;
        if self.uefi.is_some_and(VirtualFile::is_empty) {
            return Err(Iso9660Error::EmptyUefi);
        }
        let tree = Tree::new(self)?;
        let plan = Plan::new(self, &tree)?;
        let image = plan.write(self, &tree)?;
        Ok(Layout { image, parts: plan.parts(&tree), uefi: plan.uefi.map(|lba| u64::from(lba) * SECTOR) })
    }
}

/// An image, laid out.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Its bytes.
    pub image: VirtualFile,
    /// What lies where, by ranges of bytes; shared files inside the UEFI image.
    pub parts: Vec<(Range<u64>, String)>,
    /// Where the UEFI image starts, in bytes.
    pub uefi: Option<u64>,
}

/// Where everything lies.
struct Plan {
    directories: Vec<Place>,
    /// The sector with Rock Ridge's ER entry.
    extension: u32,
    volume: Volume,
    catalog: Place,
    /// Of the files, in the tree's order.
    files: Vec<Place>,
    /// Indices of those files that have bytes of their own, in the order in which they lie.
    order: Vec<usize>,
    /// End of the files, in bytes.
    files_end: u64,
    /// First sector of the UEFI image.
    uefi: Option<u32>,
    /// Length of the image in bytes.
    len: u64,
}

/// Gives out sectors one after another.
struct Cursor {
    sector: u64,
}

impl Cursor {
    /// The place of the next `len` bytes.
    fn take(&mut self, len: u64) -> Result<Place, Iso9660Error> {
        let lba = narrow("sectors", self.sector)?;
        self.sector = self.sector.saturating_add(len.div_ceil(SECTOR));
        Ok(Place { lba, len })
    }
}

fn narrow(what: &'static str, count: u64) -> Result<u32, Iso9660Error> {
    u32::try_from(count).map_err(|_| Iso9660Error::TooLarge { what, count, max: u64::from(u32::MAX) })
}

impl Plan {
    fn new(image: &Image<'_>, tree: &Tree<'_>) -> Result<Self, Iso9660Error> {
        for file in &tree.files {
            file.check_end(own_len(image, file.data).div_ceil(SECTOR))?;
        }
        // Lengths of directories and tables do not depend on places: with none known, they are those of the image.
        let mut plan = Self {
            directories: vec![Place::default(); tree.directories.len()],
            extension: 0,
            volume: Volume::default(),
            catalog: Place::default(),
            files: tree.files.iter().map(|file| Place { lba: 0, len: own_len(image, file.data) }).collect(),
            order: Vec::new(),
            files_end: 0,
            uefi: None,
            len: 0,
        };
        let boots = image.bios.is_some() || image.uefi.is_some();
        let mut cursor = Cursor { sector: FIRST_DESCRIPTOR + 2 + u64::from(boots) };
        for number in 0..tree.directories.len() {
            let len = plan.records(image, tree, number).len() as u64;
            narrow("bytes of a directory", len)?;
            plan.directories[number] = cursor.take(len)?;
        }
        plan.extension = cursor.take(SECTOR)?.lba;
        let [table, _] = plan.path_tables(tree);
        plan.volume.path_table_len = narrow("bytes of a path table", table.len() as u64)?;
        plan.volume.path_table_le = cursor.take(table.len() as u64)?.lba;
        plan.volume.path_table_be = cursor.take(table.len() as u64)?.lba;
        plan.catalog = cursor.take(if boots { SECTOR } else { 0 })?;
        plan.place_files(image, tree, &mut cursor)?;
        Ok(plan)
    }

    /// Places files, UEFI image and end.
    fn place_files(&mut self, image: &Image<'_>, tree: &Tree<'_>, cursor: &mut Cursor) -> Result<(), Iso9660Error> {
        let own = |data: &Data<'_>| matches!(data, Data::Bios | Data::Content(Content::File(_)));
        self.order = (0..tree.files.len()).filter(|at| own(&tree.files[*at].data)).collect();
        self.order.sort_by_key(|at| (!matches!(tree.files[*at].data, Data::Bios), self.files[*at].len));
        for at in &self.order {
            self.files[*at] = cursor.take(self.files[*at].len)?;
            tree.files[*at].check_end(cursor.sector)?;
        }
        self.files_end = cursor.sector.saturating_mul(SECTOR);
        if let Some(uefi) = image.uefi {
            cursor.sector = cursor.sector.next_multiple_of(UEFI_ALIGNMENT / SECTOR);
            self.uefi = Some(cursor.take(uefi.len())?.lba);
            narrow("sectors up to the UEFI image's end", cursor.sector)?;
        }
        for (place, file) in self.files.iter_mut().zip(&tree.files) {
            match file.data {
                Data::Catalog => *place = self.catalog,
                // Its end was checked to be inside the UEFI image, whose end is checked below.
                Data::Content(Content::Shared { offset, .. }) => {
                    place.lba = self.uefi.unwrap_or_default().saturating_add((offset / SECTOR) as u32);
                }
                Data::Content(_) | Data::Bios => {}
            }
        }
        let backup = if image.partitions == PartitionTable::Mbr { 0 } else { system_area::BACKUP_LEN };
        self.len = (cursor.sector * SECTOR + READ_AHEAD + backup).next_multiple_of(PADDING);
        self.volume.sectors = narrow("sectors", self.len / SECTOR)?;
        Ok(())
    }

    /// The records of a directory.
    fn records(&self, image: &Image<'_>, tree: &Tree<'_>, number: usize) -> Vec<u8> {
        let directory = &tree.directories[number];
        let parent = &tree.directories[directory.parent];
        let mut records = Records::new(descriptor::short_date(image.mtime));
        records.own(self.directories[number], directory.links(), (number == 0).then_some(self.extension));
        records.parent(self.directories[directory.parent], parent.links());
        for entry in &directory.entries {
            let (identifier, name) = (&entry.identifier, entry.name);
            match entry.target {
                Target::Directory(at) => {
                    records.directory(identifier, name, self.directories[at], tree.directories[at].links());
                }
                Target::File(at) => records.file(identifier, name, self.files[at]),
            }
        }
        records.finish()
    }

    fn path_tables(&self, tree: &Tree<'_>) -> [Vec<u8>; 2] {
        record::path_tables(tree.directories.iter().zip(&self.directories).map(|(directory, place)| {
            let identifier = if directory.identifier.is_empty() { &[0] } else { directory.identifier.as_bytes() };
            (identifier, place.lba, directory.parent as u16 + 1)
        }))
    }

    /// What lies where, by ranges of bytes.
    fn parts(&self, tree: &Tree<'_>) -> Vec<(Range<u64>, String)> {
        let bytes = |lba: u32, len: u64| u64::from(lba) * SECTOR..u64::from(lba) * SECTOR + len;
        let of = |place: Place| bytes(place.lba, place.len);
        let descriptors = system_area::LEN..u64::from(self.directories[0].lba) * SECTOR;
        let mut parts = vec![
            (0..system_area::LEN, "boot code and partition table".to_owned()),
            (descriptors, "volume descriptors".to_owned()),
        ];
        parts.extend(self.directories.iter().map(|place| (of(*place), "directory".to_owned())));
        parts.push((bytes(self.extension, SECTOR), "Rock Ridge identification".to_owned()));
        for lba in [self.volume.path_table_le, self.volume.path_table_be] {
            parts.push((bytes(lba, u64::from(self.volume.path_table_len)), "path table".to_owned()));
        }
        parts.extend(tree.files.iter().zip(&self.files).map(|(file, place)| (of(*place), file.path.to_owned())));
        parts
    }

    /// The image's bytes, every part in the order in which it was placed.
    fn write(&self, image: &Image<'_>, tree: &Tree<'_>) -> Result<VirtualFile, Iso9660Error> {
        let bios = tree.files.iter().position(|file| matches!(file.data, Data::Bios)).map(|at| self.files[at].lba);
        let boot_code = match (image.bios, bios) {
            (Some(boot), Some(lba)) => (boot.boot_code)(lba),
            _ => [0; BOOT_CODE_LEN],
        };
        let uefi = self.uefi.zip(image.uefi).map(|(lba, uefi)| {
            let start = u64::from(lba) * SECTOR;
            start..start + uefi.len().next_multiple_of(SECTOR)
        });
        let parts = system_area::Parts { len: self.len, files_end: self.files_end, uefi };
        let [head, tail] = match &image.partitions {
            PartitionTable::Mbr => [system_area::mbr(&parts, boot_code)?, VirtualFile::empty()],
            PartitionTable::Gpt(guids) => system_area::gpt(&parts, guids, boot_code)?,
        };

        let mut out = Output::default();
        out.put(head);
        out.fill(system_area::LEN);
        let root = Records::new(descriptor::short_date(image.mtime)).root(self.directories[0]);
        out.put(sparse(&descriptor::primary(image, &self.volume, &root)));
        if self.catalog.len > 0 {
            out.put(sparse(&descriptor::boot_record(self.catalog.lba)));
        }
        out.put(sparse(&descriptor::terminator()));
        for number in 0..tree.directories.len() {
            out.put(sparse(&self.records(image, tree, number)));
        }
        out.put(sparse(&record::extension()));
        self.path_tables(tree).iter().for_each(|table| out.put(sparse(table)));
        if self.catalog.len > 0 {
            let uefi_len = image.uefi.map_or(0, VirtualFile::len);
            out.put(sparse(&el_torito::catalog(bios, self.uefi, uefi_len)));
            out.fill((u64::from(self.catalog.lba) + 1) * SECTOR);
        }
        for at in &self.order {
            match (tree.files[*at].data, &image.bios) {
                (Data::Bios, Some(bios)) => out.put(el_torito::patched(bios, self.files[*at].lba)?),
                (Data::Content(Content::File(contents)), _) => out.put(contents.clone()),
                _ => {}
            }
        }
        if let (Some(lba), Some(uefi)) = (self.uefi, image.uefi) {
            out.fill(u64::from(lba) * SECTOR);
            out.put(uefi.clone());
        }
        out.fill(self.len - tail.len());
        out.parts.push(tail);
        Ok(VirtualFile::concat(out.parts))
    }
}

/// Length of what a record points to.
fn own_len(image: &Image<'_>, data: Data<'_>) -> u64 {
    match data {
        Data::Content(Content::File(contents)) => contents.len(),
        Data::Content(Content::Shared { len, .. }) => *len,
        Data::Content(Content::Directory) => 0,
        Data::Bios => image.bios.map_or(0, |bios| bios.image.len()),
        Data::Catalog => SECTOR,
    }
}

/// The parts of the image so far.
#[derive(Default)]
struct Output {
    parts: Vec<VirtualFile>,
    len: u64,
}

impl Output {
    /// Appends bytes and zeros to the end of a sector.
    fn put(&mut self, file: VirtualFile) {
        self.len += file.len();
        self.parts.push(file);
        self.fill(self.len.next_multiple_of(SECTOR));
    }

    /// Appends zeros up to byte `to`.
    fn fill(&mut self, to: u64) {
        self.parts.push(VirtualFile::zeros(to - self.len));
        self.len = to;
    }
}
