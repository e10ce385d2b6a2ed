//! `Content-Disposition` (RFC 6266): the name under which a client keeps a file.

use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Longest name in bytes: more than file systems take.
const MAX_NAME: usize = 255;

/// What stands in `filename*` as it is (RFC 8187, "attr-char").
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// The header that names a file to be kept as `name`.
///
/// # Errors
/// What is wrong with the name, for the caller: it is too long, a path, or holds control characters.
pub fn attachment(name: &str) -> Result<HeaderValue, String> {
    if name.len() > MAX_NAME {
        return Err(format!("filename has {} bytes; {MAX_NAME} at most", name.len()));
    }
    if name.chars().any(char::is_control) {
        return Err(format!("filename {name:?} holds a control character"));
    }
    if name.contains(['/', '\\']) || matches!(name, "" | "." | "..") {
        return Err(format!("filename {name:?} is not the name of a file"));
    }
    let plain: String = name.chars().map(|c| if c.is_ascii() { c } else { '_' }).collect();
    let mut text = format!("attachment; filename=\"{}\"", plain.replace('"', "\\\""));
    if !name.is_ascii() {
        text.push_str(&format!("; filename*=UTF-8''{}", utf8_percent_encode(name, ENCODED)));
    }
    HeaderValue::from_str(&text).map_err(|error| format!("filename {name:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_and_encoded() {
        for (name, want) in [
            ("metal-amd64.iso", "attachment; filename=\"metal-amd64.iso\""),
            ("a b.iso", "attachment; filename=\"a b.iso\""),
            ("\"x\".iso", "attachment; filename=\"\\\"x\\\".iso\""),
            ("é;%.iso", "attachment; filename=\"_;%.iso\"; filename*=UTF-8''%C3%A9%3B%25.iso"),
        ] {
            assert_eq!(attachment(name).unwrap(), want);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "x".repeat(256);
        for name in ["../../x", "a/b", "a\\b", "..", ".", "\r\nX-Evil:1", "a\0", "\u{85}", &long] {
            assert!(attachment(name).is_err(), "{name:?}");
        }
    }
}
