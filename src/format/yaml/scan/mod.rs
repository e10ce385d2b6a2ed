//! From characters to tokens: indentation becomes block starts and ends, `key:` on one line becomes key and value.
//!
//! The rules are those of libyaml's scanner with the reference's changes: no limit of 1,024 characters for a key on one
//! line, `:` inside flow collections, and at least three tokens known before the first of them is used.

mod block_scalar;
mod directive;
mod fetch;
mod plain;
mod properties;
mod quoted;
mod token;

use std::collections::VecDeque;

pub use token::{Kind, Style, Token};

use super::analyze::is_break;
use super::error::{Mark, YamlError};
use super::reader::Reader;

/// Which texts are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// What the reference reads.
    Reference,
    /// What our emitter wrote: literal blocks are indented as it indents them, whatever their header and first line say.
    Emitted,
}

/// A scalar or collection start that is a key if a `:` follows on its line.
#[derive(Clone, Copy, Default)]
struct SimpleKey {
    flow_level: usize,
    required: bool,
    token: usize,
    mark: Mark,
}

/// The scanner.
pub struct Scanner<'a> {
    reader: Reader<'a>,
    dialect: Dialect,
    mark: Mark,
    tokens: VecDeque<Token>,
    /// Tokens taken from the queue so far.
    taken: usize,
    /// Tokens read so far.
    read: usize,
    /// The kind of the token that was read last.
    last: Kind,
    /// Whether the last token other than a tag is a list item's dash.
    after_dash: bool,
    flow_level: usize,
    /// Column of the current block collection; 0 outside of all.
    indent: usize,
    indents: Vec<usize>,
    simple_key_allowed: bool,
    simple_key_possible: bool,
    simple_key: SimpleKey,
    simple_keys: Vec<SimpleKey>,
}

impl<'a> Scanner<'a> {
    /// A scanner at the beginning of `bytes`.
    pub fn new(bytes: &'a [u8], dialect: Dialect) -> Self {
        let mark = Mark { line: 1, column: 1 };
        Self {
            reader: Reader::new(bytes),
            dialect,
            mark,
            tokens: VecDeque::from([Token { kind: Kind::StreamStart, mark }]),
            taken: 0,
            read: 1,
            last: Kind::StreamStart,
            after_dash: false,
            flow_level: 0,
            indent: 0,
            indents: Vec::new(),
            simple_key_allowed: true,
            simple_key_possible: false,
            simple_key: SimpleKey::default(),
            simple_keys: Vec::new(),
        }
    }

    /// The most tokens that are read; more than any sensible text has, so that memory stays within bounds.
    const fn max_tokens(&self) -> usize {
        match self.dialect {
            Dialect::Reference => 200_000,
            Dialect::Emitted => 2_000_000, // the same values, spelled out
        }
    }

    /// The next token, which stays in the queue.
    pub fn peek(&mut self) -> Result<&Token, YamlError> {
        while self.tokens.len() < 3 || self.first_may_become_key() {
            if self.read > self.max_tokens() {
                return self
                    .error(format!("the text has more than {} tokens", self.max_tokens()))
                    .map(|()| &self.tokens[0]);
            }
            self.fetch()?;
        }
        Ok(&self.tokens[0])
    }

    /// Takes the next token out of the queue.
    pub fn take(&mut self) -> Result<Token, YamlError> {
        let token = self.peek()?.clone();
        self.tokens.pop_front();
        self.taken += 1;
        Ok(token)
    }

    fn first_may_become_key(&self) -> bool {
        match self.simple_keys.first() {
            Some(key) => key.token == self.taken,
            None => self.simple_key_possible && self.simple_key.token == self.taken,
        }
    }

    fn char(&mut self) -> Result<char, YamlError> {
        self.reader.peek(0)
    }

    /// Goes over a character that is no line break.
    const fn skip(&mut self) {
        self.reader.advance();
        self.mark.column += 1;
    }

    /// Goes over a line break and gives it as it counts: all are `\n` but the line and paragraph separators.
    fn skip_line(&mut self) -> Result<char, YamlError> {
        let c = self.char()?;
        if c == '\r' && self.reader.peek(1)? == '\n' {
            self.reader.advance();
        }
        self.reader.advance();
        self.mark = Mark { line: self.mark.line + 1, column: 1 };
        Ok(if matches!(c, '\u{2028}' | '\u{2029}') { c } else { '\n' })
    }

    fn skip_blanks(&mut self) -> Result<(), YamlError> {
        while is_blank(self.char()?) {
            self.skip();
        }
        Ok(())
    }

    fn skip_to_line_end(&mut self) -> Result<(), YamlError> {
        while !is_break_or_end(self.char()?) {
            self.skip();
        }
        Ok(())
    }

    fn push(&mut self, kind: Kind, mark: Mark) {
        self.read += 1;
        if !matches!(kind, Kind::Tag { .. }) {
            self.after_dash = kind == Kind::BlockEntry;
        }
        self.last = kind.clone();
        self.tokens.push_back(Token { kind, mark });
    }

    /// Whether `---` or `...` stands here, at the beginning of a line.
    fn at_document_marker(&mut self) -> Result<Option<Kind>, YamlError> {
        self.reader.ensure(4)?;
        if self.mark.column != 1 || !is_blank_or_end(self.reader.peek(3)?) {
            return Ok(None);
        }
        Ok(match [self.reader.peek(0)?, self.reader.peek(1)?, self.reader.peek(2)?] {
            ['-', '-', '-'] => Some(Kind::DocumentStart),
            ['.', '.', '.'] => Some(Kind::DocumentEnd),
            _ => None,
        })
    }

    fn error<T>(&self, problem: impl Into<String>) -> Result<T, YamlError> {
        Err(YamlError::syntax(self.mark, problem))
    }
}

const fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

const fn is_break_or_end(c: char) -> bool {
    is_break(c) || c == '\0'
}

const fn is_blank_or_end(c: char) -> bool {
    is_blank(c) || is_break_or_end(c)
}

/// Characters of names: directives, tag handles.
const fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

/// How a character is shown in an error.
fn shown(c: char) -> String {
    if c == '\0' { "the end of the text".to_owned() } else { format!("{c:?}") }
}
