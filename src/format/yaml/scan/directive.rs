//! `%YAML` and `%TAG` directives.

use super::{Kind, Scanner, is_blank, is_blank_or_end, is_word, shown};
use crate::format::yaml::analyze::is_break;
use crate::format::yaml::error::YamlError;

impl Scanner<'_> {
    pub(super) fn scan_directive(&mut self) -> Result<(), YamlError> {
        let mark = self.mark;
        self.skip();
        let mut name = String::new();
        while is_word(self.char()?) {
            name.push(self.char()?);
            self.skip();
        }
        if name.is_empty() || !is_blank_or_end(self.char()?) {
            let found = shown(self.char()?);
            return self.error(format!("the name of a directive consists of letters and digits; found {found}"));
        }
        let kind = match name.as_str() {
            "YAML" => {
                self.skip_blanks()?;
                let major = self.scan_version_number()?;
                if self.char()? != '.' {
                    return self.error("expected a version like 1.1 in a %YAML directive");
                }
                self.skip();
                Kind::Version { major, minor: self.scan_version_number()? }
            }
            "TAG" => {
                self.skip_blanks()?;
                let handle = self.scan_tag_handle(true)?;
                if !is_blank(self.char()?) {
                    return self.error("expected a blank after the handle of a %TAG directive");
                }
                self.skip_blanks()?;
                let prefix = self.scan_tag_uri(true, "")?;
                if !is_blank_or_end(self.char()?) {
                    return self.error("expected a line break after the prefix of a %TAG directive");
                }
                Kind::TagDirective { handle, prefix }
            }
            _ => return Err(YamlError::syntax(mark, format!("unknown directive %{name}; there are %YAML and %TAG"))),
        };
        self.skip_blanks()?;
        if self.char()? == '#' {
            self.skip_to_line_end()?;
        }
        let c = self.char()?;
        if is_break(c) {
            self.skip_line()?;
        } else if c != '\0' {
            return self.error(format!("expected a line break after a directive, found {}", shown(c)));
        }
        self.push(kind, mark);
        Ok(())
    }

    /// One digit or two.
    fn scan_version_number(&mut self) -> Result<u32, YamlError> {
        let (mut value, mut length) = (0, 0);
        while let Some(digit) = self.char()?.to_digit(10) {
            length += 1;
            value = value * 10 + digit;
            self.skip();
            if length > 2 {
                return self.error("the version of a %YAML directive has too many digits");
            }
        }
        if length == 0 {
            return self.error("expected a version like 1.1 in a %YAML directive");
        }
        Ok(value)
    }
}
