//! Scalars in single and double quotes.

use super::plain::Gap;
use super::{Kind, Scanner, Style, is_blank, is_blank_or_end, shown};
use crate::format::yaml::analyze::is_break;
use crate::format::yaml::error::YamlError;

impl Scanner<'_> {
    pub(super) fn scan_quoted(&mut self) -> Result<(), YamlError> {
        let mark = self.mark;
        let quote = self.char()?;
        self.skip();
        let mut text = String::new();
        let mut gap = Gap::default();
        loop {
            if self.at_document_marker()?.is_some() {
                return self.error(format!("a document marker stands inside the quoted text that began at {mark}"));
            }
            if self.char()? == '\0' {
                return Err(YamlError::syntax(mark, "the quoted text that begins here has no end"));
            }
            let continued = self.scan_word(quote, &mut text)?;
            if self.char()? == quote {
                break;
            }
            let mut broken = continued;
            loop {
                let c = self.char()?;
                if is_blank(c) {
                    if !broken {
                        gap.blank(c);
                    }
                    self.skip();
                } else if is_break(c) {
                    // Behind an escaped break the first break is one of "more": it stays.
                    let c = self.skip_line()?;
                    if broken && !gap.has_break() {
                        text.push(c)
                    } else {
                        gap.line_break(c)
                    }
                    broken = true;
                } else {
                    break;
                }
            }
            gap.fold(&mut text);
        }
        self.skip();
        self.push(Kind::Scalar { text, style: Style::Quoted }, mark);
        Ok(())
    }

    /// Reads up to the next blank, break or closing quote; `true` where an escaped line break ended it.
    fn scan_word(&mut self, quote: char, text: &mut String) -> Result<bool, YamlError> {
        loop {
            self.reader.ensure(2)?;
            let c = self.char()?;
            if is_blank_or_end(c) {
                return Ok(false);
            }
            if c == quote {
                if quote != '\'' || self.reader.peek(1)? != '\'' {
                    return Ok(false);
                }
                self.skip();
            } else if c == '\\' && quote == '"' {
                if is_break(self.reader.peek(1)?) {
                    self.skip();
                    self.skip_line()?;
                    return Ok(true);
                }
                text.push(self.scan_escape()?);
                continue;
            }
            text.push(c);
            self.skip();
        }
    }

    fn scan_escape(&mut self) -> Result<char, YamlError> {
        let letter = self.reader.peek(1)?;
        let length = match letter {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        let simple = match letter {
            '0' => '\0',
            'a' => '\u{7}',
            'b' => '\u{8}',
            't' | '\t' => '\t',
            'n' => '\n',
            'v' => '\u{b}',
            'f' => '\u{c}',
            'r' => '\r',
            'e' => '\u{1b}',
            ' ' | '"' | '\'' | '\\' => letter,
            'N' => '\u{85}',
            '_' => '\u{a0}',
            'L' => '\u{2028}',
            'P' => '\u{2029}',
            _ if length > 0 => '\0',
            _ => return self.error(format!("unknown escape: a backslash before {}", shown(letter))),
        };
        self.skip();
        self.skip();
        if length == 0 {
            return Ok(simple);
        }
        let mut code: u32 = 0;
        for ahead in 0..length {
            let c = self.reader.peek(ahead)?;
            let Some(digit) = c.to_digit(16) else {
                return self
                    .error(format!("expected {length} hexadecimal digits after \\{letter}, found {}", shown(c)));
            };
            code = code.wrapping_shl(4) | digit;
        }
        let Some(c) = char::from_u32(code) else {
            return self.error(format!("the escape \\{letter}{code:0length$X} is no Unicode character"));
        };
        (0..length).for_each(|_| self.skip());
        Ok(c)
    }
}
