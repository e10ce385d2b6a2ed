//! Scalars in the style that was chosen for them.

use super::Emitter;
use crate::format::yaml::analyze::{Scalar, Style, is_break, is_printable};

impl Emitter {
    pub(super) fn scalar(&mut self, scalar: &Scalar, indent: usize, breaks: bool) {
        if !scalar.tag.is_empty() {
            self.token(scalar.tag, true);
        }
        match scalar.style {
            Style::Plain => self.plain(&scalar.text, indent, breaks),
            Style::Single => self.single_quoted(&scalar.text, indent, breaks),
            Style::Double => self.double_quoted(&scalar.text, indent, breaks),
            Style::Literal => self.literal(&scalar.text, indent),
        }
    }

    fn plain(&mut self, text: &str, indent: usize, breaks: bool) {
        if !text.is_empty() && !self.white {
            self.put(' ');
        }
        self.foldable(text, indent, breaks, false);
        self.white = false;
        self.indention = false;
    }

    fn single_quoted(&mut self, text: &str, indent: usize, breaks: bool) {
        self.token("'", true);
        self.foldable(text, indent, breaks, true);
        self.token("'", false);
    }

    /// The inside of a plain or single-quoted scalar, folded at single spaces beyond the width.
    fn foldable(&mut self, text: &str, indent: usize, may_fold: bool, quoted: bool) {
        let (mut spaces, mut breaks) = (false, false);
        let mut chars = text.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            let next = chars.peek().map(|(_, next)| *next);
            if c == ' ' {
                let inside = !quoted || at > 0 && next.is_some();
                if may_fold && !spaces && self.column > self.width && inside && next != Some(' ') {
                    self.indent(indent);
                } else {
                    self.put(c);
                }
                spaces = true;
            } else if is_break(c) {
                if !breaks && c == '\n' {
                    self.put_break('\n');
                }
                self.put_break(c);
                breaks = true;
            } else {
                if breaks {
                    self.indent(indent);
                }
                if quoted && c == '\'' {
                    self.put('\'');
                }
                self.put(c);
                self.indention = false;
                (spaces, breaks) = (false, false);
            }
        }
    }

    fn double_quoted(&mut self, text: &str, indent: usize, may_fold: bool) {
        // A byte order mark in front makes the reference escape every character of the string.
        let all = text.starts_with('\u{feff}');
        let mut spaces = false;
        self.token("\"", true);
        let mut chars = text.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            let next = chars.peek().map(|(_, next)| *next);
            if all || !is_printable(c) || is_break(c) || c == '"' || c == '\\' {
                self.escape(c);
                spaces = false;
            } else if c == ' ' {
                if may_fold && !spaces && self.column > self.width && at > 0 && next.is_some() {
                    self.indent(indent);
                    if next == Some(' ') {
                        self.put('\\');
                    }
                } else {
                    self.put(c);
                }
                spaces = true;
            } else {
                self.put(c);
                spaces = false;
            }
        }
        self.token("\"", false);
    }

    fn escape(&mut self, c: char) {
        let short = match c {
            '\0' => "\\0",
            '\u{7}' => "\\a",
            '\u{8}' => "\\b",
            '\t' => "\\t",
            '\n' => "\\n",
            '\u{b}' => "\\v",
            '\u{c}' => "\\f",
            '\r' => "\\r",
            '\u{1b}' => "\\e",
            '"' => "\\\"",
            '\\' => "\\\\",
            '\u{85}' => "\\N",
            '\u{a0}' => "\\_",
            '\u{2028}' => "\\L",
            '\u{2029}' => "\\P",
            _ => "",
        };
        let code = u32::from(c);
        let text = match code {
            _ if !short.is_empty() => short.to_owned(),
            0..=0xff => format!("\\x{code:02X}"),
            0x100..=0xffff => format!("\\u{code:04X}"),
            _ => format!("\\U{code:08X}"),
        };
        text.chars().for_each(|c| self.put(c));
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.token("|", true);
        if text.starts_with(' ') {
            self.token("4", false); // the reference writes its indent here, even where the block is indented by 2
        }
        let mut tail = text.chars().rev();
        let chomping = match (tail.next().is_some_and(is_break), tail.next()) {
            (false, _) => "-",
            (true, None) => "+",
            (true, Some(c)) => {
                if is_break(c) {
                    "+"
                } else {
                    ""
                }
            }
        };
        self.token(chomping, false);
        self.put_break('\n');
        self.white = true;
        let mut breaks = true;
        for c in text.chars() {
            if is_break(c) {
                self.put_break(c);
                breaks = true;
            } else {
                if breaks {
                    self.indent(indent);
                }
                self.put(c);
                self.indention = false;
                breaks = false;
            }
        }
    }
}
