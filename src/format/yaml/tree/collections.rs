//! The parser: block and flow collections.

use std::borrow::Cow;

use super::parser::{Parser, Properties};
use super::{Content, Id};
use crate::format::yaml::error::{Mark, YamlError};
use crate::format::yaml::scan::Kind;

impl Parser<'_> {
    pub(super) fn block_entries(&mut self, id: Id, indentless: bool) -> Result<(), YamlError> {
        while *self.kind()? == Kind::BlockEntry {
            let mark = self.scanner.take()?.mark;
            let item = match self.kind()? {
                Kind::BlockEntry | Kind::BlockEnd => self.empty(mark),
                Kind::Key | Kind::Value if indentless => self.empty(mark),
                _ => self.value(true, false)?,
            };
            if let Content::Seq(items) = &mut self.nodes[id].content {
                items.push(item);
            }
        }
        if !indentless {
            self.expect(&Kind::BlockEnd, "a list item (\"- \") at the indentation of this list")?;
        }
        Ok(())
    }

    pub(super) fn block_mapping(&mut self, properties: Properties) -> Result<Id, YamlError> {
        let id = self.push(properties, Content::Map(Vec::new()));
        self.scanner.take()?;
        while *self.kind()? == Kind::Key {
            let mark = self.scanner.take()?.mark;
            let key = self.block_part(mark)?;
            let mark = self.mark()?;
            let value = if *self.kind()? == Kind::Value {
                self.scanner.take()?;
                self.block_part(mark)?
            } else {
                self.empty(mark)
            };
            self.add_pair(id, key, value);
        }
        self.expect(&Kind::BlockEnd, "a key at the indentation of this mapping")?;
        Ok(id)
    }

    /// A key or a value of a block mapping, which may be left out.
    pub(super) fn block_part(&mut self, mark: Mark) -> Result<Id, YamlError> {
        match self.kind()? {
            Kind::Key | Kind::Value | Kind::BlockEnd => Ok(self.empty(mark)),
            _ => self.value(true, true),
        }
    }

    pub(super) fn flow_sequence(&mut self, properties: Properties) -> Result<Id, YamlError> {
        let id = self.push(properties, Content::Seq(Vec::new()));
        self.scanner.take()?;
        let mut first = true;
        while *self.kind()? != Kind::FlowSequenceEnd {
            if !first {
                self.expect(&Kind::FlowEntry, "\",\" or \"]\" in this list")?;
            }
            first = false;
            let item = match self.kind()? {
                Kind::FlowSequenceEnd => break,
                Kind::Key => self.flow_pair()?,
                _ => self.value(false, false)?,
            };
            if let Content::Seq(items) = &mut self.nodes[id].content {
                items.push(item);
            }
        }
        self.scanner.take()?;
        Ok(id)
    }

    /// A mapping of one pair without braces, inside a flow sequence.
    pub(super) fn flow_pair(&mut self) -> Result<Id, YamlError> {
        let mark = self.scanner.take()?.mark;
        let id = self.push(Properties { mark, anchor: None, tag: Cow::Borrowed("") }, Content::Map(Vec::new()));
        let key = match self.kind()? {
            Kind::Value | Kind::FlowEntry | Kind::FlowSequenceEnd => {
                // The reference goes over the token that stands in the key's place.
                self.scanner.take()?;
                self.empty(mark)
            }
            _ => self.value(false, false)?,
        };
        let value = self.flow_value(&Kind::FlowSequenceEnd)?;
        self.add_pair(id, key, value);
        Ok(id)
    }

    /// `: value`, where either may be left out.
    pub(super) fn flow_value(&mut self, end: &Kind) -> Result<Id, YamlError> {
        let mark = self.mark()?;
        if *self.kind()? == Kind::Value {
            self.scanner.take()?;
            let kind = self.kind()?;
            if *kind != Kind::FlowEntry && kind != end {
                return self.value(false, false);
            }
        }
        Ok(self.empty(mark))
    }

    pub(super) fn flow_mapping(&mut self, properties: Properties) -> Result<Id, YamlError> {
        let id = self.push(properties, Content::Map(Vec::new()));
        self.scanner.take()?;
        let mut first = true;
        while *self.kind()? != Kind::FlowMappingEnd {
            if !first {
                self.expect(&Kind::FlowEntry, "\",\" or \"}\" in this mapping")?;
            }
            first = false;
            let mark = self.mark()?;
            let (key, value) = match self.kind()? {
                Kind::FlowMappingEnd => break,
                Kind::Key => {
                    self.scanner.take()?;
                    let key = match self.kind()? {
                        Kind::Value | Kind::FlowEntry | Kind::FlowMappingEnd => self.empty(mark),
                        _ => self.value(false, false)?,
                    };
                    (key, self.flow_value(&Kind::FlowMappingEnd)?)
                }
                _ => {
                    let key = self.value(false, false)?;
                    (key, self.empty(mark))
                }
            };
            self.add_pair(id, key, value);
        }
        self.scanner.take()?;
        Ok(id)
    }
}
