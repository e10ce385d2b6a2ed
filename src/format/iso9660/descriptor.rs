//! Volume descriptors, and dates.

use super::{Image, Iso9660Error, SECTOR, both16, both32};

/// Longest volume identifier in bytes.
const VOLUME_ID_LEN: usize = 32;
/// Longest volume set identifier in bytes.
const SET_ID_LEN: usize = 128;
/// Seconds of a day.
const DAY: u32 = 86_400;

/// What the primary volume descriptor says of the layout; places and lengths in sectors unless said otherwise.
#[derive(Clone, Copy, Default)]
pub(super) struct Volume {
    /// Length of the image.
    pub(super) sectors: u32,
    /// Length of a path table in bytes.
    pub(super) path_table_len: u32,
    /// The little-endian path table.
    pub(super) path_table_le: u32,
    /// The big-endian path table.
    pub(super) path_table_be: u32,
}

/// Checks the identifiers.
pub(super) fn check(image: &Image<'_>) -> Result<(), Iso9660Error> {
    let refuse = |field, value: &str, rule| Err(Iso9660Error::Identifier { field, value: value.to_owned(), rule });
    let d_character = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    let id = image.volume_id;
    if !(1..=VOLUME_ID_LEN).contains(&id.len()) || !id.bytes().all(d_character) {
        return refuse("volume identifier", id, "1 to 32 of A-Z, 0-9 and _");
    }
    let set = image.volume_set_id;
    if set.len() > SET_ID_LEN || !set.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return refuse("volume set identifier", set, "at most 128 printable ASCII characters");
    }
    Ok(())
}

/// The primary volume descriptor; `root` is the root directory's record.
pub(super) fn primary(image: &Image<'_>, volume: &Volume, root: &[u8]) -> Vec<u8> {
    let mut out = head(1);
    out.push(0);
    text(&mut out, "", 32); // system
    text(&mut out, image.volume_id, VOLUME_ID_LEN);
    out.extend([0; 8]);
    out.extend(both32(volume.sectors));
    out.extend([0; 32]);
    out.extend(both16(1)); // volumes in the set
    out.extend(both16(1)); // this one's number
    out.extend(both16(SECTOR as u16));
    out.extend(both32(volume.path_table_len));
    out.extend(volume.path_table_le.to_le_bytes());
    out.extend([0; 4]); // no second copy
    out.extend(volume.path_table_be.to_be_bytes());
    out.extend([0; 4]);
    out.extend(root);
    text(&mut out, image.volume_set_id, SET_ID_LEN);
    // Publisher, preparer, application; copyright, abstract and bibliographic files.
    text(&mut out, "", 3 * 128 + 3 * 37);
    let date = long_date(image.mtime);
    out.extend(&date); // created
    out.extend(&date); // modified
    for _ in 0..2 {
        out.extend([b'0'; 16]); // never expires, was always effective
        out.push(0);
    }
    out.push(1); // version of the file structure
    out.resize(SECTOR as usize, 0);
    out
}

/// The boot record that points to El Torito's catalog.
pub(super) fn boot_record(catalog: u32) -> Vec<u8> {
    let mut out = head(0);
    out.extend(b"EL TORITO SPECIFICATION");
    out.resize(0x47, 0);
    out.extend(catalog.to_le_bytes());
    out.resize(SECTOR as usize, 0);
    out
}

/// What ends the descriptors.
pub(super) fn terminator() -> Vec<u8> {
    let mut out = head(255);
    out.resize(SECTOR as usize, 0);
    out
}

fn head(kind: u8) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend(b"CD001\x01");
    out
}

/// Text, filled up with spaces to `len` bytes.
fn text(out: &mut Vec<u8>, value: &str, len: usize) {
    let end = out.len() + len;
    out.extend(value.bytes());
    out.resize(end, b' ');
}

/// Year, month, day, hour, minute, second in UTC.
fn civil(seconds: u32) -> (u32, [u8; 5]) {
    let (mut days, clock) = (seconds / DAY, seconds % DAY);
    let leap = |year: u32| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u32::from(leap(year)) {
        days -= 365 + u32::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + u32::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, [month, days as u8 + 1, (clock / 3600) as u8, (clock / 60 % 60) as u8, (clock % 60) as u8])
}

/// A date in digits, hundredths of a second and time zone included.
fn long_date(seconds: u32) -> Vec<u8> {
    let (year, [month, day, hour, minute, second]) = civil(seconds);
    let mut out = format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}00").into_bytes();
    out.push(0);
    out
}

/// A date of a record.
pub(super) fn short_date(seconds: u32) -> [u8; 7] {
    let (year, [month, day, hour, minute, second]) = civil(seconds);
    [(year - 1900) as u8, month, day, hour, minute, second, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(long_date(1_559_424_892), b"2019060121345200\0");
        assert_eq!(long_date(0), b"1970010100000000\0");
        assert_eq!(long_date(951_782_400), b"2000022900000000\0");
        assert_eq!(long_date(1_735_689_599), b"2024123123595900\0");
        assert_eq!(long_date(u32::MAX), b"2106020706281500\0");
        assert_eq!(short_date(1_559_424_892), [119, 6, 1, 21, 34, 52, 0]);
    }
}
