//! Plain (unquoted) scalars.

use super::{Kind, Scanner, Style, is_blank, is_blank_or_end};
use crate::format::yaml::analyze::is_break;
use crate::format::yaml::error::YamlError;

/// Line breaks and blanks between two words of a scalar, and what they fold to.
#[derive(Default)]
pub(super) struct Gap {
    blanks: String,
    first_break: Option<char>,
    more_breaks: String,
}

impl Gap {
    pub(super) fn blank(&mut self, c: char) {
        if self.first_break.is_none() {
            self.blanks.push(c);
        }
    }

    pub(super) fn line_break(&mut self, c: char) {
        if self.first_break.is_none() {
            self.blanks.clear();
            self.first_break = Some(c);
        } else {
            self.more_breaks.push(c);
        }
    }

    pub(super) const fn has_break(&self) -> bool {
        self.first_break.is_some()
    }

    /// One break is a space, more are one less; the separators of Unicode stay.
    pub(super) fn fold(&mut self, out: &mut String) {
        match self.first_break.take() {
            Some('\n') if self.more_breaks.is_empty() => out.push(' '),
            Some('\n') => out.push_str(&self.more_breaks),
            Some(c) => {
                out.push(c);
                out.push_str(&self.more_breaks);
            }
            None => out.push_str(&self.blanks),
        }
        self.blanks.clear();
        self.more_breaks.clear();
    }
}

impl Scanner<'_> {
    pub(super) fn scan_plain(&mut self) -> Result<(), YamlError> {
        let mark = self.mark;
        let indent = self.indent + 1;
        let mut text = String::new();
        let mut gap = Gap::default();
        let mut broken = false;
        loop {
            if self.at_document_marker()?.is_some() || self.char()? == '#' {
                break;
            }
            loop {
                let c = self.char()?;
                if is_blank_or_end(c) || self.ends_plain(c)? {
                    break;
                }
                if gap.has_break() {
                    broken = false;
                }
                gap.fold(&mut text);
                text.push(c);
                self.skip();
                self.reader.ensure(2)?;
            }
            if !is_blank(self.char()?) && !is_break(self.char()?) {
                break;
            }
            loop {
                let c = self.char()?;
                if is_blank(c) {
                    if gap.has_break() && self.mark.column < indent && c == '\t' {
                        return self.error("a tab stands where spaces should indent a continued value");
                    }
                    gap.blank(c);
                    self.skip();
                } else if is_break(c) {
                    gap.line_break(self.skip_line()?);
                    broken = true;
                } else {
                    break;
                }
            }
            if self.flow_level == 0 && self.mark.column < indent {
                break;
            }
        }
        if broken {
            self.simple_key_allowed = true;
        }
        self.push(Kind::Scalar { text, style: Style::Plain }, mark);
        Ok(())
    }

    fn ends_plain(&mut self, c: char) -> Result<bool, YamlError> {
        let next = self.reader.peek(1)?;
        Ok(match c {
            ':' if is_blank_or_end(next) => true,
            _ if self.flow_level == 0 => false,
            ',' | '[' | ']' | '{' | '}' => true,
            '?' => is_blank_or_end(next),
            ':' => matches!(next, ' ' | ',' | ']' | '}'),
            _ => false,
        })
    }
}
