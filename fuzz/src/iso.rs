//! A reader of ISO 9660 with Rock Ridge's names, as simple as it can be.

use std::collections::BTreeMap;

use image_factory::format::iso9660::SECTOR;
use image_factory::virtual_file::VirtualFile;

use super::bytes;

/// The files of an image by path: what its records say, cut out of it.
pub fn iso_files(image: &VirtualFile) -> BTreeMap<String, VirtualFile> {
    let descriptor = bytes(&image.slice(16 * SECTOR..17 * SECTOR));
    assert_eq!(descriptor[1..6], *b"CD001");
    let mut files = BTreeMap::new();
    let mut open = vec![(String::new(), extent(image, &descriptor[156..190]))];
    while let Some((folder, records)) = open.pop() {
        for sector in bytes(&records).chunks(SECTOR as usize) {
            let mut rest = sector;
            while let Some(len) = rest.first().filter(|len| **len > 0) {
                let (record, behind) = rest.split_at(usize::from(*len));
                rest = behind;
                let identifier = &record[33..33 + usize::from(record[32])];
                if matches!(identifier, [0] | [1]) {
                    continue;
                }
                let path = format!("{folder}{}", name(&record[33 + identifier.len() + 1 - identifier.len() % 2..]));
                let part = extent(image, record);
                if record[25] & 2 != 0 {
                    open.push((path + "/", part));
                } else {
                    // Sections of one file follow one another.
                    let before = files.remove(&path).unwrap_or_default();
                    files.insert(path, VirtualFile::concat([before, part]));
                }
            }
        }
    }
    files
}

/// What a record points to, which must be there.
fn extent(image: &VirtualFile, record: &[u8]) -> VirtualFile {
    let number = |at: usize| {
        let number = u32::from_le_bytes(record[at..at + 4].try_into().expect("four bytes"));
        assert_eq!(number, u32::from_be_bytes(record[at + 4..at + 8].try_into().expect("four bytes")));
        u64::from(number)
    };
    let start = number(2) * SECTOR;
    let part = image.slice(start..start + number(10));
    assert_eq!(part.len(), number(10), "a record points behind the end");
    part
}

/// The name in a record's system use.
fn name(mut system_use: &[u8]) -> String {
    while let [a, b, len, ..] = *system_use {
        let (entry, rest) = system_use.split_at(usize::from(len));
        if [a, b] == *b"NM" {
            return String::from_utf8(entry[5..].to_vec()).expect("names are text");
        }
        system_use = rest;
    }
    panic!("a record without a name");
}
