//! Directory records with Rock Ridge, and path tables.

use super::{MAX_NAME, SECTOR, both16, both32};

/// Flag of a directory.
const DIRECTORY: u8 = 2;
/// Flag of all sections of a file but the last.
const MORE: u8 = 0x80;
/// The longest section of a file in bytes.
const SECTION: u64 = (1 << 32) - SECTOR;
/// Length of a record without identifier, in bytes.
const FIXED_LEN: usize = 33;
/// `st_mode` of directories.
const DIRECTORY_MODE: u32 = 0o040_755;
/// `st_mode` of files.
const FILE_MODE: u32 = 0o100_644;

/// Rock Ridge's name, description and source as its specification gives them.
const EXTENSION: [&str; 3] = [
    "RRIP_1991A",
    "THE ROCK RIDGE INTERCHANGE PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS",
    "PLEASE CONTACT DISC PUBLISHER FOR SPECIFICATION SOURCE.  SEE PUBLISHER IDENTIFIER IN PRIMARY VOLUME DESCRIPTOR FOR \
     CONTACT INFORMATION.",
];

// A record's length is one byte, and even.
const _: () = assert!(FIXED_LEN + 33 + 36 + 5 + MAX_NAME < 255);

/// Where bytes lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The first sector.
    pub(super) lba: u32,
    /// Length in bytes.
    pub(super) len: u64,
}

/// Records of one directory, or of no directory at all.
pub(super) struct Records {
    date: [u8; 7],
    bytes: Vec<u8>,
}

impl Records {
    /// None yet; every record gets this date.
    pub(super) fn new(date: [u8; 7]) -> Self {
        Self { date, bytes: Vec::new() }
    }

    /// The bytes in whole sectors.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len().next_multiple_of(SECTOR as usize), 0);
        self.bytes
    }

    /// The record of the root that the volume descriptor holds.
    pub(super) fn root(mut self, place: Place) -> Vec<u8> {
        self.push(place, DIRECTORY, &[0], &[]);
        self.bytes
    }

    /// The directory's own record. `extension` is the sector of [`extension`]: the root's record tells it.
    pub(super) fn own(&mut self, place: Place, links: u32, extension: Option<u32>) {
        let mut system_use = Vec::new();
        if extension.is_some() {
            entry(&mut system_use, b"SP", &[0xbe, 0xef, 0]);
        }
        posix(&mut system_use, DIRECTORY_MODE, links);
        if let Some(lba) = extension {
            let area = [both32(lba), both32(0), both32(self::extension().len() as u32)];
            entry(&mut system_use, b"CE", area.as_flattened());
        }
        self.push(place, DIRECTORY, &[0], &system_use);
    }

    /// The record of the directory above.
    pub(super) fn parent(&mut self, place: Place, links: u32) {
        let mut system_use = Vec::new();
        posix(&mut system_use, DIRECTORY_MODE, links);
        self.push(place, DIRECTORY, &[1], &system_use);
    }

    /// The record of a directory below.
    pub(super) fn directory(&mut self, identifier: &str, name: &str, place: Place, links: u32) {
        let mut system_use = Vec::new();
        posix(&mut system_use, DIRECTORY_MODE, links);
        named(&mut system_use, name);
        self.push(place, DIRECTORY, identifier.as_bytes(), &system_use);
    }

    /// The records of a file: one for each of its sections.
    pub(super) fn file(&mut self, identifier: &str, name: &str, place: Place) {
        let mut system_use = Vec::new();
        posix(&mut system_use, FILE_MODE, 1);
        named(&mut system_use, name);
        let mut rest = place;
        while rest.len > SECTION {
            self.push(Place { len: SECTION, ..rest }, MORE, identifier.as_bytes(), &system_use);
            rest = Place { lba: rest.lba + (SECTION / SECTOR) as u32, len: rest.len - SECTION };
        }
        self.push(rest, 0, identifier.as_bytes(), &system_use);
    }

    /// Appends a record; no record crosses the end of a sector.
    fn push(&mut self, place: Place, flags: u8, identifier: &[u8], system_use: &[u8]) {
        let mut record = vec![0, 0];
        record.extend(both32(place.lba));
        record.extend(both32(place.len as u32));
        record.extend(self.date);
        record.extend([flags, 0, 0]);
        record.extend(both16(1));
        record.push(identifier.len() as u8);
        record.extend(identifier);
        record.resize(record.len().next_multiple_of(2), 0);
        record.extend(system_use);
        record.resize(record.len().next_multiple_of(2), 0);
        record[0] = record.len() as u8;
        let sector = SECTOR as usize;
        if self.bytes.len() % sector + record.len() > sector {
            self.bytes.resize(self.bytes.len().next_multiple_of(sector), 0);
        }
        self.bytes.extend(record);
    }
}

/// The entry that says that Rock Ridge is spoken here.
pub(super) fn extension() -> Vec<u8> {
    let mut data: Vec<u8> = EXTENSION.iter().map(|text| text.len() as u8).collect();
    data.push(1);
    data.extend(EXTENSION.iter().flat_map(|text| text.bytes()));
    let mut out = Vec::new();
    entry(&mut out, b"ER", &data);
    out
}

/// Appends an entry of system use.
fn entry(out: &mut Vec<u8>, signature: &[u8; 2], data: &[u8]) {
    out.extend(signature);
    out.extend([data.len() as u8 + 4, 1]);
    out.extend(data);
}

/// Mode and links; owner and group are root.
fn posix(out: &mut Vec<u8>, mode: u32, links: u32) {
    entry(out, b"PX", [both32(mode), both32(links), both32(0), both32(0)].as_flattened());
}

/// The true name.
fn named(out: &mut Vec<u8>, name: &str) {
    let mut data = vec![0];
    data.extend(name.bytes());
    entry(out, b"NM", &data);
}

/// A path table of directories with identifier, first sector and the parent's number; little-endian and big-endian.
pub(super) fn path_tables<'a>(directories: impl Iterator<Item = (&'a [u8], u32, u16)>) -> [Vec<u8>; 2] {
    let mut tables = [Vec::new(), Vec::new()];
    for (identifier, lba, parent) in directories {
        let fields = [(lba.to_le_bytes(), parent.to_le_bytes()), (lba.to_be_bytes(), parent.to_be_bytes())];
        for (table, (lba, parent)) in tables.iter_mut().zip(fields) {
            table.extend([identifier.len() as u8, 0]);
            table.extend(lba);
            table.extend(parent);
            table.extend(identifier);
            table.resize(table.len().next_multiple_of(2), 0);
        }
    }
    tables
}
