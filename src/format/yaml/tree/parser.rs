//! The parser: documents, directives, nodes with their properties.

use std::borrow::Cow;
use std::collections::HashMap;

use super::{Content, Id, TreeNode};
use crate::format::yaml::error::{Mark, YamlError};
use crate::format::yaml::resolve::resolve;
use crate::format::yaml::scan::{Kind, Scanner, Style};

const PREFIX: &str = "tag:yaml.org,2002:";

pub(super) struct Parser<'a> {
    pub(super) scanner: Scanner<'a>,
    pub(super) nodes: Vec<TreeNode>,
    anchors: HashMap<String, Id>,
    handles: HashMap<String, String>,
}

/// What stands in front of a node.
pub(super) struct Properties {
    pub(super) mark: Mark,
    pub(super) anchor: Option<String>,
    pub(super) tag: Cow<'static, str>,
}

impl<'a> Parser<'a> {
    pub(super) fn new(scanner: Scanner<'a>) -> Self {
        Self { scanner, nodes: Vec::new(), anchors: HashMap::new(), handles: HashMap::new() }
    }

    pub(super) fn kind(&mut self) -> Result<&Kind, YamlError> {
        Ok(&self.scanner.peek()?.kind)
    }

    pub(super) fn mark(&mut self) -> Result<Mark, YamlError> {
        Ok(self.scanner.peek()?.mark)
    }

    pub(super) fn document(&mut self) -> Result<Id, YamlError> {
        self.scanner.take()?;
        while *self.kind()? == Kind::DocumentEnd {
            self.scanner.take()?;
        }
        let root = match self.kind()? {
            Kind::StreamEnd => return Err(YamlError::Empty),
            Kind::Version { .. } | Kind::TagDirective { .. } | Kind::DocumentStart => {
                self.directives()?;
                let token = self.scanner.take()?;
                if token.kind != Kind::DocumentStart {
                    return Err(YamlError::syntax(token.mark, "expected \"---\" after the directives"));
                }
                match self.kind()? {
                    Kind::Version { .. }
                    | Kind::TagDirective { .. }
                    | Kind::DocumentStart
                    | Kind::DocumentEnd
                    | Kind::StreamEnd => {
                        let mark = self.mark()?;
                        self.empty(mark)
                    }
                    _ => self.value(true, false)?,
                }
            }
            _ => {
                self.default_handles();
                self.value(true, false)?
            }
        };
        // The document's end must be readable; whatever token stands there ends it.
        self.kind()?;
        Ok(root)
    }

    pub(super) fn directives(&mut self) -> Result<(), YamlError> {
        let mut version = false;
        loop {
            let mark = self.mark()?;
            match self.kind()?.clone() {
                Kind::Version { .. } if version => {
                    return Err(YamlError::syntax(mark, "a second %YAML directive"));
                }
                Kind::Version { major: 1, minor: 1 } => version = true,
                Kind::Version { major, minor } => {
                    let problem =
                        format!("%YAML {major}.{minor} is not supported: write 1.1 or leave the directive out");
                    return Err(YamlError::syntax(mark, problem));
                }
                Kind::TagDirective { handle, prefix } => {
                    if self.handles.insert(handle.clone(), prefix).is_some() {
                        return Err(YamlError::syntax(mark, format!("a second %TAG directive for {handle}")));
                    }
                }
                _ => break,
            }
            self.scanner.take()?;
        }
        self.default_handles();
        Ok(())
    }

    pub(super) fn default_handles(&mut self) {
        for (handle, prefix) in [("!", "!"), ("!!", PREFIX)] {
            self.handles.entry(handle.to_owned()).or_insert_with(|| prefix.to_owned());
        }
    }

    pub(super) fn push(&mut self, properties: Properties, content: Content) -> Id {
        let Properties { mark, anchor, mut tag } = properties;
        if tag.is_empty() {
            tag = Cow::Borrowed(match &content {
                Content::Scalar { quoted: true, .. } => "!!str",
                Content::Scalar { text, .. } => resolve(text, true).tag(),
                Content::Seq(_) => "!!seq",
                Content::Map(_) => "!!map",
                Content::Alias { .. } => "",
            });
        }
        let id = self.nodes.len();
        self.nodes.push(TreeNode { content, tag, mark });
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, id);
        }
        id
    }

    /// A null that is not written.
    pub(super) fn empty(&mut self, mark: Mark) -> Id {
        let content = Content::Scalar { text: String::new(), quoted: false };
        self.push(Properties { mark, anchor: None, tag: Cow::Borrowed("") }, content)
    }

    pub(super) fn value(&mut self, block: bool, indentless: bool) -> Result<Id, YamlError> {
        if let Kind::Alias(name) = self.kind()? {
            let name = name.clone();
            let mark = self.scanner.take()?.mark;
            let Some(&target) = self.anchors.get(&name) else {
                return Err(YamlError::syntax(mark, format!("the anchor &{name} is not defined before *{name}")));
            };
            let properties = Properties { mark, anchor: None, tag: Cow::Borrowed("") };
            return Ok(self.push(properties, Content::Alias { name, target }));
        }
        let (properties, written) = self.properties()?;
        let kind = self.kind()?.clone();
        match kind {
            Kind::BlockEntry if indentless => {
                let id = self.push(properties, Content::Seq(Vec::new()));
                self.block_entries(id, true)?;
                Ok(id)
            }
            Kind::Scalar { text, style } => {
                self.scanner.take()?;
                Ok(self.push(properties, Content::Scalar { text, quoted: style == Style::Quoted }))
            }
            Kind::FlowSequenceStart => self.flow_sequence(properties),
            Kind::FlowMappingStart => self.flow_mapping(properties),
            Kind::BlockSequenceStart if block => {
                let id = self.push(properties, Content::Seq(Vec::new()));
                self.scanner.take()?;
                self.block_entries(id, false)?;
                Ok(id)
            }
            Kind::BlockMappingStart if block => self.block_mapping(properties),
            _ if written => Ok(self.push(properties, Content::Scalar { text: String::new(), quoted: false })),
            _ => {
                let mark = self.mark()?;
                let found = self.kind()?;
                Err(YamlError::syntax(mark, format!("expected a value, found {found}")))
            }
        }
    }

    /// Reads anchor and tag in either order, and whether there is one.
    pub(super) fn properties(&mut self) -> Result<(Properties, bool), YamlError> {
        let mut out = Properties { mark: self.mark()?, anchor: None, tag: Cow::Borrowed("") };
        let mut tagged = false;
        loop {
            let mark = self.mark()?;
            match self.kind()?.clone() {
                Kind::Anchor(name) if out.anchor.is_none() => out.anchor = Some(name),
                Kind::Tag { handle, suffix } if !tagged => {
                    tagged = true;
                    let tag = match self.handles.get(&handle) {
                        _ if handle.is_empty() => suffix,
                        Some(prefix) if !prefix.is_empty() || !suffix.is_empty() => format!("{prefix}{suffix}"),
                        _ => return Err(YamlError::syntax(mark, format!("the tag handle {handle} is not defined"))),
                    };
                    out.tag = Cow::Owned(match tag.strip_prefix(PREFIX) {
                        Some(own) => format!("!!{own}"),
                        None => tag,
                    });
                }
                _ => {
                    let written = tagged || out.anchor.is_some();
                    return Ok((out, written));
                }
            }
            self.scanner.take()?;
        }
    }

    pub(super) fn expect(&mut self, kind: &Kind, wanted: &str) -> Result<(), YamlError> {
        let token = self.scanner.take()?;
        if token.kind == *kind {
            return Ok(());
        }
        Err(YamlError::syntax(token.mark, format!("expected {wanted}, found {}", token.kind)))
    }

    pub(super) fn add_pair(&mut self, id: Id, key: Id, value: Id) {
        if let Content::Map(pairs) = &mut self.nodes[id].content {
            pairs.push((key, value));
        }
    }
}
