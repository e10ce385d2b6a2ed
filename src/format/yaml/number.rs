//! Numbers: the texts that are integers, and the text of a float.

/// An integer of 64 bits, with the sign that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integer {
    /// Fits a signed integer.
    Signed(i64),
    /// Only fits an unsigned one.
    Unsigned(u64),
}

/// Reads a Go integer literal without underscores: decimal, `0x`, `0o`, `0b`, or octal by a leading zero; one sign.
/// `None` where it is no such literal or exceeds 64 bits (a sign is only allowed within the signed range).
pub fn integer(text: &str) -> Option<Integer> {
    let (negative, bare, signed) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..], true),
        b'+' => (false, &text[1..], true),
        _ => (false, text, false),
    };
    let (radix, digits) = match bare.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &bare[2..]),
        [b'0', b'o' | b'O', ..] => (8, &bare[2..]),
        [b'0', b'b' | b'B', ..] => (2, &bare[2..]),
        [b'0', _, ..] => (8, &bare[1..]),
        _ => (10, bare),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if negative {
        return 0i64.checked_sub_unsigned(magnitude).map(Integer::Signed);
    }
    match i64::try_from(magnitude) {
        Ok(value) => Some(Integer::Signed(value)),
        Err(_) if signed => None,
        Err(_) => Some(Integer::Unsigned(magnitude)),
    }
}

/// Reads a decimal float `[sign] digits [. digits] [e [sign] digits]`, where one of the two digit groups may be missing.
/// `None` for anything else and for what exceeds the range.
pub fn float(text: &str) -> Option<f64> {
    if !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')) {
        return None;
    }
    text.parse::<f64>().ok().filter(|value| value.is_finite())
}

/// Reads a [`float`] in which underscores may stand between digits.
pub fn float_with_underscores(text: &str) -> Option<f64> {
    let bytes = text.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let separates = |at: usize| at > 0 && is_digit(at - 1) && is_digit(at + 1);
    let fine = bytes.iter().enumerate().all(|(at, b)| *b != b'_' || separates(at));
    fine.then(|| float(&text.replace('_', "")))?
}

/// The shortest text that reads back as `value`, with an exponent of two digits or more when it is below -4 or above 5.
pub fn float_text(value: f64) -> String {
    if value.is_nan() {
        return ".nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    let mut scientific = format!("{value:e}");
    // Where two texts of the least length are equally near, the one with the even digit is written.
    let digits = scientific.bytes().take_while(|b| *b != b'e').filter(u8::is_ascii_digit).count();
    let even = format!("{value:.*e}", digits - 1);
    if even.parse() == Ok(value) {
        scientific = even;
    }
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        let decimals = usize::try_from(digits as i32 - 1 - exponent).unwrap_or(0);
        return format!("{value:.decimals$}");
    }
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.unsigned_abs())
}
