//! Text that may hold bytes which are no UTF-8.

use std::fmt;
use std::ops::Deref;

/// A YAML string: nearly always UTF-8, but a `!!binary` scalar can put any bytes where a string is expected.
///
/// Derefs to `str`; where the bytes are no UTF-8 ([`Text::is_utf8`]) that view has U+FFFD in place of the bad ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text {
    view: String,
    raw: Option<Vec<u8>>,
}

impl Text {
    /// A text of these bytes, whatever they are.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(view) => Self { view, raw: None },
            Err(error) => {
                let raw = error.into_bytes();
                Self { view: String::from_utf8_lossy(&raw).into_owned(), raw: Some(raw) }
            }
        }
    }

    /// The exact bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.raw.as_deref().unwrap_or(self.view.as_bytes())
    }

    /// Whether the `str` view is exact.
    pub const fn is_utf8(&self) -> bool {
        self.raw.is_none()
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.view
    }
}

impl From<String> for Text {
    fn from(view: String) -> Self {
        Self { view, raw: None }
    }
}

impl From<&str> for Text {
    fn from(view: &str) -> Self {
        Self { view: view.to_owned(), raw: None }
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.view)
    }
}
