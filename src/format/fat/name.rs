//! Names: long ones as they are, and the short ones of eight and three letters that every entry has beside.

use std::collections::{HashMap, HashSet};

/// Longest name, in UTF-16 units.
const LONG_MAX: usize = 255;
/// Lengths of the two parts of a short name.
const BASE: usize = 8;
const EXTENSION: usize = 3;
/// UTF-16 units of an entry of a long name.
pub(super) const LONG_UNITS: usize = 13;

/// Both names of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// Padded with spaces.
    pub short: [u8; BASE + EXTENSION],
    /// UTF-16 units; none where the short name is all of it.
    pub long: Vec<u16>,
}

impl Name {
    /// Entries of a directory that the file takes.
    pub fn entries(&self) -> usize {
        1 + self.long.len().div_ceil(LONG_UNITS)
    }
}

/// Why a name cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadName {
    /// What is wrong with the name of this index.
    Invalid(usize, &'static str),
    /// The names of these indices are one.
    Clash(usize, usize),
}

/// Gives each file of a directory both names, in the order of `names`.
pub(super) fn names(names: &[&str]) -> Result<Vec<Name>, BadName> {
    let mut taken = HashMap::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        if let Some(what) = fault(name) {
            return Err(BadName::Invalid(index, what));
        }
        if let Some(other) = taken.insert(fold(name), index) {
            return Err(BadName::Clash(index, other));
        }
    }
    // A name that is short by itself keeps it, so only the others choose, among what nothing is called.
    let mut aliases = Aliases { taken: taken.into_keys().collect(), next: HashMap::new() };
    let both = |name: &&str| match short(&fold(name)) {
        Some(short) if fold(name) == **name => Name { short, long: Vec::new() },
        Some(short) => Name { short, long: name.encode_utf16().collect() },
        None => Name { short: aliases.choose(name), long: name.encode_utf16().collect() },
    };
    Ok(names.iter().map(both).collect())
}

/// What is wrong with a name.
fn fault(name: &str) -> Option<&'static str> {
    let forbidden = |c: char| c < ' ' || c == '\x7f' || "\"*/:<>?\\|".contains(c);
    if name.contains(forbidden) {
        return Some("holds a control character or one of \" * / : < > ? \\ |");
    }
    if name.starts_with(' ') || name.ends_with([' ', '.']) {
        return Some("starts with a space, or ends with a space or dot");
    }
    (name.encode_utf16().count() > LONG_MAX).then_some("is longer than 255 UTF-16 units")
}

/// The name as it is compared: letter by letter in upper case, where that is one letter.
fn fold(name: &str) -> String {
    let upper = |c: char| {
        let mut upper = c.to_uppercase();
        upper.next().filter(|_| upper.next().is_none()).unwrap_or(c)
    };
    name.chars().map(upper).collect()
}

/// Whether a short name may hold it.
fn is_short(c: char) -> bool {
    c.is_ascii_uppercase() || c.is_ascii_digit() || "!#$%&'()-@^_`{}~".contains(c)
}

/// A name that is short as it is, padded; `None` for any other.
fn short(name: &str) -> Option<[u8; BASE + EXTENSION]> {
    let (base, extension) = name.split_once('.').unwrap_or((name, ""));
    let fits = (1..=BASE).contains(&base.len())
        && extension.len() <= EXTENSION
        && base.chars().chain(extension.chars()).all(is_short);
    fits.then(|| padded(base, extension))
}

fn padded(base: &str, extension: &str) -> [u8; BASE + EXTENSION] {
    let mut short = [b' '; BASE + EXTENSION];
    short[..base.len()].copy_from_slice(base.as_bytes());
    short[BASE..BASE + extension.len()].copy_from_slice(extension.as_bytes());
    short
}

/// Chooses short names for those that have none: `FIRSTL~1.EXT`.
struct Aliases {
    /// All names of the directory as they are compared.
    taken: HashSet<String>,
    /// The next number to try, by the letters before it, the number's digits and the extension.
    next: HashMap<(String, usize, String), u32>,
}

impl Aliases {
    fn choose(&mut self, name: &str) -> [u8; BASE + EXTENSION] {
        let name = name.trim_start_matches('.');
        let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
        let letters = |part: &str, most| fold(part).chars().filter(|c| is_short(*c)).take(most).collect::<String>();
        let (mut base, extension) = (letters(base, BASE - 2), letters(extension, EXTENSION));
        if base.is_empty() {
            base.push('_');
        }
        let mut digits = 1;
        loop {
            base.truncate(BASE - 1 - digits);
            let next =
                self.next.entry((base.clone(), digits, extension.clone())).or_insert(10u32.pow(digits as u32 - 1));
            while *next < 10u32.pow(digits as u32) {
                let alias = format!("{base}~{next}");
                *next += 1;
                let dot = if extension.is_empty() { "" } else { "." };
                if !self.taken.contains(&format!("{alias}{dot}{extension}")) {
                    return padded(&alias, &extension);
                }
            }
            digits += 1;
        }
    }
}
