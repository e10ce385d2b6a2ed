//! Identifiers of ISO 9660, made of names.
//!
//! Readers of Rock Ridge never show them; they only have to be well-formed and different within a directory.

use std::collections::{HashMap, HashSet};

/// The longest identifier of a directory, in bytes.
const DIRECTORY_LEN: usize = 31;
/// The longest identifier of a file in bytes, without the version behind it.
const FILE_LEN: usize = 30;
/// The longest extension that a file keeps, in bytes.
const EXTENSION_LEN: usize = 8;
/// What ends a file's identifier.
const VERSION: &str = ";1";

/// The identifiers given in one directory.
#[derive(Default)]
pub(super) struct Identifiers {
    taken: HashSet<String>,
    /// The next number to try for a stem.
    next: HashMap<String, u32>,
}

impl Identifiers {
    /// The identifier of a directory.
    pub(super) fn directory(&mut self, name: &str) -> String {
        self.unique(&characters(name), "", DIRECTORY_LEN)
    }

    /// The identifier of a file: name, dot, extension, version.
    pub(super) fn file(&mut self, name: &str) -> String {
        // A dot at the start is part of the name.
        let (stem, extension) = match name.rfind('.') {
            Some(at) if at > 0 => (&name[..at], &name[at + 1..]),
            _ => (name, ""),
        };
        let mut extension = characters(extension);
        extension.truncate(EXTENSION_LEN);
        self.unique(&characters(stem), &format!(".{extension}"), FILE_LEN) + VERSION
    }

    /// Stem and suffix, the stem cut to what fits, and numbered if that is taken.
    fn unique(&mut self, stem: &str, suffix: &str, max: usize) -> String {
        let cut = |stem: &str, number: &str| {
            let room = max - suffix.len() - number.len();
            format!("{}{number}{suffix}", &stem[..stem.len().min(room)])
        };
        let first = cut(stem, "");
        if self.taken.insert(first.clone()) {
            return first;
        }
        let next = self.next.entry(first).or_default();
        loop {
            let candidate = cut(stem, &format!("_{next}"));
            *next += 1;
            if self.taken.insert(candidate.clone()) {
                return candidate;
            }
        }
    }
}

/// The name in the characters that identifiers have, all of one byte.
fn characters(name: &str) -> String {
    let of = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    name.chars().map(of).collect()
}

/// What records of a directory are sorted by: the version does not count, so that a shorter extension comes first.
pub(super) fn sort_key(identifier: &str) -> &str {
    identifier.strip_suffix(VERSION).unwrap_or(identifier)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_well_formed_and_different() {
        let mut ids = Identifiers::default();
        assert_eq!(ids.directory("i386-pc"), "I386_PC");
        assert_eq!(ids.directory("i386_pc"), "I386_PC_0");
        assert_eq!(ids.directory("I386.PC"), "I386_PC_1");
        assert_eq!(ids.file("grub.cfg"), "GRUB.CFG;1");
        assert_eq!(ids.file("GRUB.cfg"), "GRUB_0.CFG;1");
        assert_eq!(ids.file("Talos-v1.13.2.efi"), "TALOS_V1_13_2.EFI;1");
        assert_eq!(ids.file(".disk_label"), "_DISK_LABEL.;1");
        assert_eq!(ids.file("\u{e4}.x"), "_.X;1");
        assert_eq!(ids.file(&"n".repeat(120)), format!("{}.;1", "N".repeat(29)));
        assert_eq!(ids.file(&"n".repeat(119)), format!("{}_0.;1", "N".repeat(27)));
        assert_eq!(ids.file("a.extension_of_many"), "A.EXTENSIO;1");
        assert_eq!(ids.directory(&"d".repeat(99)), "D".repeat(31));
        let mut sorted = ["A.X0;1", "A.X;1", "A.;1", "AB", "A"];
        sorted.sort_by_key(|identifier| sort_key(identifier));
        assert_eq!(sorted, ["A", "A.;1", "A.X;1", "A.X0;1", "AB"]);
    }
}
