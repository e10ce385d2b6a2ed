//! The entries of directories.

use super::name::{LONG_UNITS, Name};

/// Attributes of an entry.
pub(super) const READ_ONLY: u8 = 0x01;
pub(super) const LABEL: u8 = 0x08;
pub(super) const DIRECTORY: u8 = 0x10;
pub(super) const ARCHIVE: u8 = 0x20;
const LONG_NAME: u8 = 0x0f;
/// Marks the last piece of a long name, which comes first.
const LAST_PIECE: u8 = 0x40;
/// The first second that the format can say, since 1970: 1980 begins.
const FIRST_SECOND: u32 = 315_532_800;

/// A moment as the format says it: 2 seconds, minutes, hours; and day, month, years since 1980. UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub time: u16,
    pub date: u16,
}

impl Stamp {
    /// Seconds since 1970, as a stamp; an earlier one than 1980 becomes its begin.
    pub fn new(seconds: u32) -> Self {
        let seconds = seconds.max(FIRST_SECOND);
        let (mut day, rest) = (seconds / 86400, seconds % 86400);
        let leap = |year: u32| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let mut year = 1970;
        while day >= 365 + u32::from(leap(year)) {
            day -= 365 + u32::from(leap(year));
            year += 1;
        }
        let mut month = 1;
        for days in [31, 28 + u32::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30] {
            if day < days {
                break;
            }
            day -= days;
            month += 1;
        }
        let time = ((rest / 3600) << 11) | ((rest / 60 % 60) << 5) | (rest % 60 / 2);
        let date = ((year - 1980) << 9) | (month << 5) | (day + 1);
        Self { time: time as u16, date: date as u16 }
    }
}

/// Appends an entry: short name, attributes, first cluster (0: none), length in bytes.
pub(super) fn entry(out: &mut Vec<u8>, short: &[u8; 11], attributes: u8, stamp: Stamp, cluster: u64, len: u32) {
    let (time, date, cluster) = (stamp.time.to_le_bytes(), stamp.date.to_le_bytes(), (cluster as u32).to_le_bytes());
    out.extend_from_slice(short);
    out.extend_from_slice(&[attributes, 0, 0]);
    out.extend_from_slice(&time); // made
    out.extend_from_slice(&date);
    out.extend_from_slice(&date); // read
    out.extend_from_slice(&cluster[2..]);
    out.extend_from_slice(&time); // written
    out.extend_from_slice(&date);
    out.extend_from_slice(&cluster[..2]);
    out.extend_from_slice(&len.to_le_bytes());
}

/// Appends the entries of a long name, if there is one; the short one comes behind them.
pub(super) fn long_entries(out: &mut Vec<u8>, name: &Name) {
    let sum = name.short.iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    let pieces = name.long.chunks(LONG_UNITS).enumerate();
    let last = name.long.len().div_ceil(LONG_UNITS);
    for (index, piece) in pieces.rev() {
        // The name ends with 0 if there is room for it, and what is left is all ones.
        let mut units = [[0xff; 2]; LONG_UNITS];
        for (unit, value) in units.iter_mut().zip(piece.iter().chain([&0])) {
            *unit = value.to_le_bytes();
        }
        let number = index as u8 + 1;
        out.push(if index + 1 == last { number | LAST_PIECE } else { number });
        out.extend_from_slice(units[..5].as_flattened());
        out.extend_from_slice(&[LONG_NAME, 0, sum]);
        out.extend_from_slice(units[5..11].as_flattened());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(units[11..].as_flattened());
    }
}
