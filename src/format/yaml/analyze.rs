//! Which style a scalar is written in.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Text;
use super::node::Node;
use super::resolve::{Resolved, resolve};

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    Plain,
    /// In single quotes.
    Single,
    /// In double quotes, with escapes.
    Double,
    /// As a literal block.
    Literal,
}

/// A scalar ready to be written.
pub struct Scalar<'a> {
    /// Its characters (base64 where the string is no UTF-8).
    pub text: Cow<'a, str>,
    /// The tag that stands in front, where the text alone does not say the type.
    pub tag: &'static str,
    /// The style.
    pub style: Style,
    /// Whether it holds a line break of any kind.
    pub multiline: bool,
}

impl Scalar<'_> {
    /// Whether the scalar may stand before a `:` without a `?`: one line, and at most 128 bytes with its tag.
    pub fn is_simple_key(&self) -> bool {
        !self.multiline && self.text.len() + self.tag.len() <= 128
    }
}

/// A number, boolean, null or time stamp by its plain text.
pub fn plain(node: &Node) -> Scalar<'static> {
    let text = node.plain_text().unwrap_or_default();
    // An offset of 25 hours can be computed, but not read: such a time stamp needs its tag.
    let unreadable = matches!(node, Node::Timestamp(_)) && resolve(&text, true) == Resolved::Str;
    let tag = if unreadable { "!!timestamp" } else { "" };
    Scalar { text: Cow::Owned(text), tag, style: Style::Plain, multiline: false }
}

/// Chooses the style of a string.
pub fn string(text: &Text) -> Scalar<'_> {
    if !text.is_utf8() {
        let text = base64_lines(text.as_bytes());
        let multiline = text.contains('\n');
        let style = if multiline { Style::Literal } else { Style::Plain };
        return Scalar { text: Cow::Owned(text), tag: "!!binary", style, multiline };
    }
    let traits = Traits::of(text);
    let wanted = if text.contains('\n') {
        // White space alone is never a block.
        if text.chars().all(char::is_whitespace) { Style::Double } else { Style::Literal }
    } else if is_base60(text) || is_old_bool(text) || &**text == "<<" {
        Style::Single
    } else if resolve(text, true) == Resolved::Str {
        Style::Plain
    } else {
        Style::Double
    };
    Scalar { text: Cow::Borrowed(text), tag: "", style: traits.allowed(wanted), multiline: traits.multiline }
}

/// What the characters of a string allow.
#[derive(Default)]
struct Traits {
    multiline: bool,
    no_plain: bool,
    no_single: bool,
    no_block: bool,
}

impl Traits {
    fn of(text: &str) -> Self {
        let mut out = Self::default();
        let (mut previous_space, mut previous_break, mut after_white) = (false, false, true);
        if text.starts_with("---") || text.starts_with("...") {
            out.no_plain = true;
        }
        let mut chars = text.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            let next = chars.peek().map(|(_, next)| *next);
            let before_white = next.is_none_or(|next| matches!(next, ' ' | '\t'));
            let (first, last) = (at == 0, next.is_none());
            out.no_plain |= match c {
                '#' if first || after_white => true,
                ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => first,
                '?' | '-' => first && before_white,
                ':' => before_white,
                _ => false,
            };
            if c == '\t' {
                out.no_plain = true;
                out.no_single = true;
            } else if !is_printable(c) {
                out.no_plain = true;
                out.no_single = true;
                out.no_block = true;
            }
            if c == ' ' {
                out.no_plain |= first || last || previous_break;
                out.no_block |= last;
                out.no_single |= previous_break;
                (previous_space, previous_break) = (true, false);
            } else if is_break(c) {
                out.multiline = true;
                out.no_plain = true;
                if previous_space {
                    out.no_single = true;
                    out.no_block = true;
                }
                (previous_space, previous_break) = (false, true);
            } else {
                (previous_space, previous_break) = (false, false);
            }
            after_white = matches!(c, ' ' | '\t') || is_break(c) || c == '\0';
        }
        out
    }

    const fn allowed(&self, wanted: Style) -> Style {
        let mut style = wanted;
        if matches!(style, Style::Plain) && self.no_plain {
            style = Style::Single;
        }
        if matches!(style, Style::Single) && self.no_single || matches!(style, Style::Literal) && self.no_block {
            style = Style::Double;
        }
        style
    }
}

/// Line breaks of YAML 1.1.
pub const fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What is written unescaped: the basic plane's printable characters without the byte order mark (and without tab).
pub const fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && c != '\u{feff}'
}

/// Booleans of YAML 1.1 that are strings now, and are quoted for readers that still believe otherwise.
fn is_old_bool(text: &str) -> bool {
    matches!(text, "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON")
        || matches!(text, "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF")
}

/// Numbers in base 60 of YAML 1.1 (`1:20`, `-1:20.5`): a sign, digits, then groups of `:` and 0–59, then a fraction.
fn is_base60(text: &str) -> bool {
    let bare = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (bare, fraction) = bare.split_once('.').unwrap_or((bare, ""));
    let mut groups = bare.split(':');
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let first = groups.next().unwrap_or("");
    let mut count = 0;
    let rest = groups.all(|group| {
        count += 1;
        matches!(group.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9'])
    });
    rest && count > 0 && first.starts_with(|c: char| c.is_ascii_digit()) && digits(first) && digits(fraction)
}

/// Base64, in lines of 70 (each ended) as soon as there is one full line.
fn base64_lines(bytes: &[u8]) -> String {
    const LINE: usize = 70;
    let encoded = STANDARD.encode(bytes);
    if encoded.len() < LINE {
        return encoded;
    }
    let mut out = String::with_capacity(encoded.len() + encoded.len() / LINE + 1);
    for (at, c) in encoded.chars().enumerate() {
        if at > 0 && at % LINE == 0 {
            out.push('\n');
        }
        out.push(c);
    }
    out.push('\n');
    out
}
