//! Time stamps: which plain texts are one, and the RFC 3339 text that each is written with.

/// A cursor over the rest of a text.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn literal(&mut self, byte: u8) -> Option<()> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        (*first == byte).then_some(())
    }

    /// One digit or two (exactly two if `fixed`).
    fn number(&mut self, fixed: bool) -> Option<u32> {
        let length = self.0.iter().take(2).take_while(|b| b.is_ascii_digit()).count();
        if length == 0 || fixed && length != 2 {
            return None;
        }
        let (digits, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(digits.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0')))
    }

    /// `.` or `,` and digits, if they are there: the first nine digits, without trailing zeros.
    fn fraction(&mut self) -> &'a [u8] {
        let [b'.' | b',', after @ ..] = self.0 else { return &[] };
        let length = after.iter().take_while(|b| b.is_ascii_digit()).count();
        if length == 0 {
            return &[];
        }
        self.0 = &after[length..];
        let mut digits = &after[..length.min(9)];
        while let [head @ .., b'0'] = digits {
            digits = head;
        }
        digits
    }

    /// `Z`, or a signed offset in hours and minutes; as it is written back.
    fn zone(&mut self) -> Option<String> {
        let (sign, rest) = self.0.split_first()?;
        self.0 = rest;
        if *sign == b'Z' {
            return Some("Z".to_owned());
        }
        if !matches!(sign, b'+' | b'-') {
            return None;
        }
        let hours = self.number(true)?;
        self.literal(b':')?;
        let minutes = self.number(true)?;
        if hours > 24 || minutes > 60 {
            return None;
        }
        let total = hours * 60 + minutes;
        if total == 0 {
            return Some("Z".to_owned());
        }
        Some(format!("{}{:02}:{:02}", char::from(*sign), total / 60, total % 60))
    }
}

/// The RFC 3339 text of a time stamp: `2001-1-2`, `2001-1-2 3:4:5.6` (UTC), `2001-1-2T3:4:5.6Z`, `2001-1-2t3:4:5+02:00`.
/// `None` where the text is none of these, or names a day or an hour that does not exist.
pub fn normalize(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    if bytes.len() < 5 || !bytes[..4].iter().all(u8::is_ascii_digit) || bytes[4] != b'-' {
        return None;
    }
    let (year, mut rest) = (&text[..4], Rest(&bytes[5..]));
    let month = rest.number(false)?;
    rest.literal(b'-')?;
    let day = rest.number(false)?;
    if day == 0 || day > days(year.parse().ok()?, month)? {
        return None;
    }
    let date = format!("{year}-{month:02}-{day:02}");
    let zoned = match rest.0.first() {
        None => return Some(format!("{date}T00:00:00Z")),
        Some(b'T' | b't') => true,
        Some(b' ') => false,
        Some(_) => return None,
    };
    rest.0 = &rest.0[1..];
    while let (false, [b' ', after @ ..]) = (zoned, rest.0) {
        rest.0 = after;
    }
    let hour = rest.number(false)?;
    rest.literal(b':')?;
    let minute = rest.number(false)?;
    rest.literal(b':')?;
    let second = rest.number(false)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let fraction = String::from_utf8_lossy(rest.fraction());
    let zone = if zoned { rest.zone()? } else { "Z".to_owned() };
    if !rest.0.is_empty() {
        return None;
    }
    let dot = if fraction.is_empty() { "" } else { "." };
    Some(format!("{date}T{hour:02}:{minute:02}:{second:02}{dot}{fraction}{zone}"))
}

/// Days of a month (1–12) in the Gregorian calendar.
const fn days(year: u32, month: u32) -> Option<u32> {
    Some(match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    })
}
