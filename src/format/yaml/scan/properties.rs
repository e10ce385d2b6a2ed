//! Anchors, aliases and tags.

use super::{Kind, Scanner, is_blank_or_end, is_word, shown};
use crate::format::yaml::error::{Mark, YamlError};

impl Scanner<'_> {
    pub(super) fn scan_anchor(&mut self) -> Result<(), YamlError> {
        let mark = self.mark;
        let alias = self.char()? == '*';
        self.skip();
        let mut name = String::new();
        loop {
            let c = self.char()?;
            if !c.is_ascii_graphic() || matches!(c, ':' | '[' | ']' | '{' | '}' | ',') {
                break;
            }
            name.push(c);
            self.skip();
        }
        let c = self.char()?;
        let ended = is_blank_or_end(c) || matches!(c, '?' | ':' | ',' | ']' | '}' | '%' | '@' | '`');
        if name.is_empty() || !ended {
            let what = if alias { "alias" } else { "anchor" };
            return self
                .error(format!("the name of an {what} consists of ASCII letters and digits; found {}", shown(c)));
        }
        self.push(if alias { Kind::Alias(name) } else { Kind::Anchor(name) }, mark);
        Ok(())
    }

    pub(super) fn scan_tag(&mut self) -> Result<(), YamlError> {
        let mark = self.mark;
        let (handle, suffix);
        if self.reader.peek(1)? == '<' {
            self.skip();
            self.skip();
            handle = String::new();
            suffix = self.scan_tag_uri(true, "")?;
            if self.char()? != '>' {
                let found = shown(self.char()?);
                return self.error(format!("expected \">\" at the end of a tag, found {found}"));
            }
            self.skip();
        } else {
            let read = self.scan_tag_handle(false)?;
            if read.len() > 1 && read.ends_with('!') {
                suffix = self.scan_tag_uri(false, "")?;
                handle = read;
            } else {
                let rest = self.scan_tag_uri(false, &read)?;
                // A lone "!" says "no type": the tag is the "!" itself.
                (handle, suffix) = if rest.is_empty() { (rest, "!".to_owned()) } else { ("!".to_owned(), rest) };
            }
        }
        let c = self.char()?;
        if !is_blank_or_end(c) {
            return self.error(format!("expected a blank or a line break after a tag, found {}", shown(c)));
        }
        self.push(Kind::Tag { handle, suffix }, mark);
        Ok(())
    }

    /// Reads `!`, `!!` or `!name!`; `!name` where no second `!` follows.
    pub(super) fn scan_tag_handle(&mut self, directive: bool) -> Result<String, YamlError> {
        let c = self.char()?;
        if c != '!' {
            return self.error(format!("expected \"!\" at the beginning of a tag handle, found {}", shown(c)));
        }
        let mut handle = String::from(c);
        self.skip();
        while is_word(self.char()?) {
            handle.push(self.char()?);
            self.skip();
        }
        if self.char()? == '!' {
            handle.push('!');
            self.skip();
        } else if directive && handle != "!" {
            return self.error("expected \"!\" at the end of a tag handle");
        }
        Ok(handle)
    }

    /// Reads the rest of a tag; `head` is what a handle scan has read of it already.
    pub(super) fn scan_tag_uri(&mut self, verbatim: bool, head: &str) -> Result<String, YamlError> {
        let mut uri: Vec<u8> = head.bytes().skip(1).collect();
        let mut any = !head.is_empty();
        loop {
            let c = self.char()?;
            let part = match c {
                ',' | '[' | ']' | '{' | '}' => verbatim,
                ';' | '/' | '?' | ':' | '@' | '&' | '=' | '+' | '$' | '.' | '!' | '~' | '*' | '\'' | '(' | ')'
                | '%' => true,
                c => is_word(c),
            };
            if !part {
                break;
            }
            any = true;
            if c == '%' {
                self.scan_uri_escape(&mut uri)?;
            } else {
                uri.push(c as u8);
                self.skip();
            }
        }
        let c = self.char()?;
        if !verbatim && matches!(c, '!'..='~') {
            return self.error(format!("{} is not allowed in a tag", shown(c)));
        }
        if !any {
            return self.error(format!("expected a tag, found {}", shown(c)));
        }
        Ok(String::from_utf8_lossy(&uri).into_owned())
    }

    /// Reads the `%xx` escapes of one UTF-8 character.
    fn scan_uri_escape(&mut self, uri: &mut Vec<u8>) -> Result<(), YamlError> {
        let begin: Mark = self.mark;
        let mut left = None;
        while left != Some(0) {
            let digits = [self.reader.peek(1)?, self.reader.peek(2)?].map(|c| c.to_digit(16));
            let ('%', [Some(high), Some(low)]) = (self.char()?, digits) else {
                return self.error("expected an escaped byte (% and two hexadecimal digits) in a tag");
            };
            let byte = (high * 16 + low) as u8;
            left = Some(match (left, byte) {
                (None, 0..=0x7f) => 0,
                (None, 0xc0..=0xdf) => 1,
                (None, 0xe0..=0xef) => 2,
                (None, 0xf0..=0xf7) => 3,
                (Some(left), 0x80..=0xbf) => left - 1,
                _ => return Err(YamlError::syntax(begin, "the escaped bytes of a tag are no UTF-8")),
            });
            uri.push(byte);
            (0..3).for_each(|_| self.skip());
        }
        Ok(())
    }
}
