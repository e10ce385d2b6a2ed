//! Literal (`|`) and folded (`>`) block scalars.

use super::{Dialect, Kind, Scanner, Style, is_blank, is_break_or_end, shown};
use crate::format::yaml::analyze::is_break;
use crate::format::yaml::error::YamlError;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Chomping {
    Strip,
    Clip,
    Keep,
}

impl Scanner<'_> {
    pub(super) fn scan_block_scalar(&mut self) -> Result<(), YamlError> {
        let mark = self.mark;
        let literal = self.char()? == '|';
        self.skip();
        let (chomping, increment) = self.scan_block_header()?;
        // 0: not known yet, to be found from the first line.
        let mut indent = match (self.dialect, increment) {
            (Dialect::Emitted, _) => self.emitted_indent(),
            (Dialect::Reference, 0) => 0,
            (Dialect::Reference, increment) => self.indent.max(1) + increment,
        };
        let (mut text, mut first_break, mut more_breaks) = (String::new(), None, String::new());
        self.scan_block_breaks(&mut indent, &mut more_breaks)?;
        let mut after_blank = false;
        while self.mark.column == indent && self.char()? != '\0' {
            let before_blank = is_blank(self.char()?);
            if !literal && !after_blank && !before_blank && first_break == Some('\n') {
                if more_breaks.is_empty() {
                    text.push(' ');
                }
            } else {
                text.extend(first_break);
            }
            text.push_str(&more_breaks);
            more_breaks.clear();
            after_blank = before_blank;
            while !is_break_or_end(self.char()?) {
                text.push(self.char()?);
                self.skip();
            }
            first_break = if self.char()? == '\0' { None } else { Some(self.skip_line()?) };
            self.scan_block_breaks(&mut indent, &mut more_breaks)?;
        }
        if chomping != Chomping::Strip {
            text.extend(first_break);
        }
        if chomping == Chomping::Keep {
            text.push_str(&more_breaks);
        }
        self.push(Kind::Scalar { text, style: Style::Quoted }, mark);
        Ok(())
    }

    /// Reads what stands behind the `|` or `>`: chomping and indentation, a comment, the line break.
    fn scan_block_header(&mut self) -> Result<(Chomping, usize), YamlError> {
        let (mut chomping, mut increment) = (None, None);
        for _ in 0..2 {
            match self.char()? {
                '+' if chomping.is_none() => chomping = Some(Chomping::Keep),
                '-' if chomping.is_none() => chomping = Some(Chomping::Strip),
                '0' if increment.is_none() => return self.error("the indentation of a block text cannot be 0"),
                c @ '1'..='9' if increment.is_none() => increment = c.to_digit(10),
                _ => break,
            }
            self.skip();
        }
        self.skip_blanks()?;
        if self.char()? == '#' {
            self.skip_to_line_end()?;
        }
        let c = self.char()?;
        if is_break(c) {
            self.skip_line()?;
        } else if c != '\0' {
            return self
                .error(format!("expected a line break after the beginning of a block text, found {}", shown(c)));
        }
        Ok((chomping.unwrap_or(Chomping::Clip), increment.unwrap_or(0) as usize))
    }

    /// Goes over empty lines and indentation; finds the indentation if it is not known.
    fn scan_block_breaks(&mut self, indent: &mut usize, breaks: &mut String) -> Result<(), YamlError> {
        let mut deepest = 0;
        loop {
            while (*indent == 0 || self.mark.column < *indent) && self.char()? == ' ' {
                self.skip();
            }
            deepest = deepest.max(self.mark.column);
            let c = self.char()?;
            if (*indent == 0 || self.mark.column < *indent) && c == '\t' {
                return self.error("a tab stands where spaces should indent a block text");
            }
            if !is_break(c) {
                break;
            }
            breaks.push(self.skip_line()?);
        }
        if *indent == 0 {
            *indent = deepest.max(self.indent + 1);
        }
        Ok(())
    }

    /// The column at which our emitter puts the text of a block: two behind a list item's dash, else at the next
    /// multiple of four.
    fn emitted_indent(&self) -> usize {
        let outer = self.indent.max(1) - 1;
        if self.after_dash { outer + 3 } else { 4 * (outer / 4 + 1) + 1 }
    }
}
