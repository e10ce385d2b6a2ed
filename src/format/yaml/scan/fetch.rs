//! One step of the scanner: skip blanks and comments, close blocks that ended, read the next token.

use super::{Kind, Scanner, SimpleKey, Token, is_blank, is_blank_or_end, shown};
use crate::format::yaml::analyze::is_break;
use crate::format::yaml::error::{Mark, YamlError};

/// Collections inside one another that are read at most (the reference reads 10,000).
pub(in crate::format::yaml) const MAX_DEPTH: usize = 100;

impl Scanner<'_> {
    pub(super) fn fetch(&mut self) -> Result<(), YamlError> {
        self.skip_to_token()?;
        self.unroll_indent(self.mark.column);
        let c = self.char()?;
        if c == '\0' {
            return self.fetch_stream_end();
        }
        if self.mark.column == 1 && c == '%' {
            self.unroll_indent(0);
            self.remove_simple_key()?;
            self.simple_key_allowed = false;
            return self.scan_directive();
        }
        if let Some(kind) = self.at_document_marker()? {
            self.unroll_indent(0);
            self.remove_simple_key()?;
            self.simple_key_allowed = false;
            let mark = self.mark;
            (0..3).for_each(|_| self.skip());
            self.push(kind, mark);
            return Ok(());
        }
        self.fetch_content(c)?;
        // A comment on the token's line ends with the line, whatever blanks stand before it.
        if self.last != Kind::BlockEntry && self.mark.column > 1 {
            let mut ahead = 0;
            while is_blank(self.reader.peek(ahead)?) {
                ahead += 1;
            }
            if self.reader.peek(ahead)? == '#' {
                self.skip_to_line_end()?;
            }
        }
        Ok(())
    }

    fn fetch_content(&mut self, c: char) -> Result<(), YamlError> {
        let next = self.reader.peek(1)?;
        let in_flow = self.flow_level > 0;
        let after_entry = matches!(self.last, Kind::FlowEntry | Kind::FlowSequenceStart);
        match c {
            '[' => self.fetch_flow_start(Kind::FlowSequenceStart),
            '{' => self.fetch_flow_start(Kind::FlowMappingStart),
            ']' => self.fetch_flow_end(Kind::FlowSequenceEnd),
            '}' => self.fetch_flow_end(Kind::FlowMappingEnd),
            ',' => {
                self.remove_simple_key()?;
                self.simple_key_allowed = true;
                self.single(Kind::FlowEntry)
            }
            '-' if is_blank_or_end(next) => self.fetch_block_entry(),
            '?' if is_blank_or_end(next) => self.fetch_key(),
            ':' if in_flow && !after_entry || is_blank_or_end(next) => self.fetch_value(),
            '*' | '&' => {
                self.save_simple_key()?;
                self.simple_key_allowed = false;
                self.scan_anchor()
            }
            '!' => {
                self.save_simple_key()?;
                self.simple_key_allowed = false;
                self.scan_tag()
            }
            '|' | '>' if !in_flow => {
                self.remove_simple_key()?;
                self.simple_key_allowed = true;
                self.scan_block_scalar()
            }
            '\'' | '"' => {
                self.save_simple_key()?;
                self.simple_key_allowed = false;
                self.scan_quoted()
            }
            ' ' | '\t' | '#' | '|' | '>' | '%' | '@' | '`' => {
                self.error(format!("found {}, which cannot begin a value here", shown(c)))
            }
            _ => {
                self.save_simple_key()?;
                self.simple_key_allowed = false;
                self.scan_plain()
            }
        }
    }

    fn skip_to_token(&mut self) -> Result<(), YamlError> {
        loop {
            if self.reader.at_start() && self.char()? == '\u{feff}' {
                self.skip();
            }
            while match self.char()? {
                ' ' => true,
                '\t' => self.flow_level > 0 || !self.simple_key_allowed,
                _ => false,
            } {
                self.skip();
            }
            if self.char()? == '#' {
                self.skip_to_line_end()?;
            }
            if !is_break(self.char()?) {
                return Ok(());
            }
            self.skip_line()?;
            if self.flow_level == 0 {
                self.simple_key_allowed = true;
            }
        }
    }

    /// A token of one character.
    fn single(&mut self, kind: Kind) -> Result<(), YamlError> {
        let mark = self.mark;
        self.skip();
        self.push(kind, mark);
        Ok(())
    }

    fn fetch_stream_end(&mut self) -> Result<(), YamlError> {
        if self.mark.column != 1 {
            self.mark = Mark { line: self.mark.line + 1, column: 1 };
        }
        self.unroll_indent(0);
        self.remove_simple_key()?;
        self.simple_keys.clear();
        self.simple_key_allowed = false;
        self.push(Kind::StreamEnd, self.mark);
        Ok(())
    }

    fn fetch_flow_start(&mut self, kind: Kind) -> Result<(), YamlError> {
        self.save_simple_key()?;
        if self.simple_key_possible {
            self.simple_keys.push(self.simple_key);
        }
        self.simple_key = SimpleKey::default();
        self.flow_level += 1;
        self.check_depth()?;
        self.simple_key_allowed = true;
        self.single(kind)
    }

    fn fetch_flow_end(&mut self, kind: Kind) -> Result<(), YamlError> {
        self.remove_simple_key()?;
        if self.flow_level > 0 {
            self.flow_level -= 1;
            if let Some(key) = self.simple_keys.pop_if(|key| key.flow_level == self.flow_level) {
                self.simple_key = key;
                self.simple_key_possible = true;
            }
        }
        self.simple_key_allowed = false;
        self.single(kind)
    }

    fn fetch_block_entry(&mut self) -> Result<(), YamlError> {
        if self.flow_level == 0 {
            if !self.simple_key_allowed {
                return self.error("a list item (\"- \") is not allowed here");
            }
            self.roll_indent(self.mark, None, Kind::BlockSequenceStart)?;
        }
        self.remove_simple_key()?;
        self.simple_key_allowed = true;
        self.single(Kind::BlockEntry)
    }

    fn fetch_key(&mut self) -> Result<(), YamlError> {
        if self.flow_level == 0 {
            if !self.simple_key_allowed {
                return self.error("a mapping key (\"? \") is not allowed here");
            }
            self.roll_indent(self.mark, None, Kind::BlockMappingStart)?;
        }
        self.remove_simple_key()?;
        self.simple_key_allowed = self.flow_level == 0;
        self.single(Kind::Key)
    }

    fn fetch_value(&mut self) -> Result<(), YamlError> {
        let key = self.simple_key;
        if self.simple_key_possible && key.mark.line == self.mark.line {
            let position = key.token.saturating_sub(self.taken);
            self.tokens.insert(position.min(self.tokens.len()), Token { kind: Kind::Key, mark: key.mark });
            self.roll_indent(key.mark, Some(position), Kind::BlockMappingStart)?;
            self.simple_key_possible = false;
            self.simple_key.required = false;
            self.simple_key_allowed = false;
        } else {
            if self.flow_level == 0 {
                if !self.simple_key_allowed {
                    return self.error("a mapping value (\": \") is not allowed here");
                }
                self.roll_indent(self.mark, None, Kind::BlockMappingStart)?;
            }
            self.simple_key_allowed = self.flow_level == 0;
        }
        self.single(Kind::Value)
    }

    fn save_simple_key(&mut self) -> Result<(), YamlError> {
        if self.simple_key_allowed {
            self.remove_simple_key()?;
            self.simple_key_possible = true;
            self.simple_key = SimpleKey {
                flow_level: self.flow_level,
                required: self.flow_level == 0 && self.indent == self.mark.column,
                token: self.taken + self.tokens.len(),
                mark: self.mark,
            };
        }
        Ok(())
    }

    fn remove_simple_key(&mut self) -> Result<(), YamlError> {
        if self.simple_key.required {
            return Err(YamlError::syntax(self.simple_key.mark, "could not find expected \":\" after this key"));
        }
        self.simple_key_possible = false;
        Ok(())
    }

    /// Opens a block collection where the column is to the right of the current one.
    fn roll_indent(&mut self, mark: Mark, position: Option<usize>, kind: Kind) -> Result<(), YamlError> {
        if self.flow_level > 0 || self.indent >= mark.column {
            return Ok(());
        }
        self.indents.push(self.indent);
        self.indent = mark.column;
        self.check_depth()?;
        let position = position.unwrap_or(self.tokens.len()).min(self.tokens.len());
        self.tokens.insert(position, Token { kind, mark });
        Ok(())
    }

    /// Closes the block collections that are to the right of `column`.
    fn unroll_indent(&mut self, column: usize) {
        while self.flow_level == 0 && self.indent > column {
            self.push(Kind::BlockEnd, self.mark);
            self.indent = self.indents.pop().unwrap_or(0);
        }
    }

    fn check_depth(&self) -> Result<(), YamlError> {
        if self.flow_level + self.indents.len() > MAX_DEPTH {
            return self.error(format!("collections are nested more than {MAX_DEPTH} deep"));
        }
        Ok(())
    }
}
