//! Scalars: texts, numbers, booleans, the boot loader.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

use super::{Construct, Step, shorten};
use crate::format::yaml::{Content, Id, Node, Resolved, Text, resolve_tagged};
use crate::schematic::model::Bootloader;

/// Bits behind the last whole byte are ignored, as the reference does.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// A scalar by its type.
pub(super) enum Scalar<'a> {
    /// Null, a boolean, a number, a time stamp: the value and the text it was written as.
    Typed(Node, &'a str),
    /// A string (`!!str`).
    Str(&'a str),
    /// Decoded `!!binary`.
    Binary(Vec<u8>),
    /// A merge key (`<<`) where a value is expected.
    Merge(&'a str),
    /// A tag that YAML does not know: a string to those who take strings.
    Unknown(&'a str),
}

impl<'a> Construct<'a> {
    pub(super) fn scalar(&mut self, id: Id, text: &'a str, quoted: bool) -> Step<Scalar<'a>> {
        let tag = &*self.tree.node(id).tag;
        match tag {
            "!!str" => Ok(Scalar::Str(text)),
            "!" if quoted => Ok(Scalar::Str(text)),
            "!!merge" => Ok(Scalar::Merge(text)),
            "!!binary" => {
                let packed: Vec<u8> = text.bytes().filter(|b| !matches!(b, b'\n' | b'\r')).collect();
                match BASE64.decode(packed) {
                    Ok(bytes) => Ok(Scalar::Binary(bytes)),
                    Err(error) => self.stop(id, format!("the !!binary value is no base64: {error}")),
                }
            }
            "!!null" | "!!bool" | "!!int" | "!!float" | "!!timestamp" => {
                let node = match resolve_tagged(tag, text) {
                    Some(Resolved::Null) => Node::Null,
                    Some(Resolved::Bool(value)) => Node::Bool(value),
                    Some(Resolved::Int(value)) => Node::Int(value),
                    Some(Resolved::Uint(value)) => Node::Uint(value),
                    Some(Resolved::Float(value)) => Node::Float(value),
                    Some(Resolved::Timestamp(value)) => Node::Timestamp(value),
                    None if tag == "!!timestamp" && self.tree.is_emitted() => Node::Timestamp(text.to_owned()),
                    Some(Resolved::Merge | Resolved::Str) | None => {
                        return self.stop(id, format!("{:?} is tagged {tag}, but is none", shorten(text)));
                    }
                };
                Ok(Scalar::Typed(node, text))
            }
            _ => Ok(Scalar::Unknown(text)),
        }
    }

    fn refuse<T>(&mut self, id: Id, what: &str, wanted: &str) -> Step<Option<T>> {
        let found = self.shown(id);
        self.problem(id, format!("{what} takes {wanted}, not {found}"))?;
        Ok(None)
    }

    /// A text; `None` for null, and for what is none (that is noted). Numbers and booleans count as they are written.
    pub(super) fn text(&mut self, id: Id, what: &str) -> Step<Option<Text>> {
        self.follow(id, |this, id, content| {
            let Content::Scalar { text, quoted } = content else { return this.refuse(id, what, "a text") };
            Ok(match this.scalar(id, text, *quoted)? {
                Scalar::Typed(Node::Null, _) => None,
                Scalar::Typed(Node::Timestamp(_), _) => return this.refuse(id, what, "a text (quote it)"),
                Scalar::Typed(_, text) | Scalar::Str(text) | Scalar::Merge(text) | Scalar::Unknown(text) => {
                    Some(Text::from(text))
                }
                Scalar::Binary(bytes) => Some(Text::from_bytes(bytes)),
            })
        })
    }

    /// An integer from 0 to `max`; a float without a fraction will do.
    pub(super) fn unsigned(&mut self, id: Id, what: &str, max: u64) -> Step<Option<u64>> {
        self.follow(id, |this, id, content| {
            if let Content::Scalar { text, quoted } = content {
                let value = match this.scalar(id, text, *quoted)? {
                    Scalar::Typed(Node::Null, _) | Scalar::Merge(_) => return Ok(None),
                    Scalar::Typed(Node::Int(value), _) => u64::try_from(value).ok(),
                    Scalar::Typed(Node::Uint(value), _) => Some(value),
                    Scalar::Typed(Node::Float(value), _) => whole(value),
                    _ => None,
                };
                if let Some(value) = value.filter(|value| *value <= max) {
                    return Ok(Some(value));
                }
            }
            this.refuse(id, what, &format!("an integer from 0 to {max}"))
        })
    }

    /// A boolean, or one of YAML 1.1's words for it.
    pub(super) fn boolean(&mut self, id: Id, what: &str) -> Step<Option<bool>> {
        self.follow(id, |this, id, content| {
            if let Content::Scalar { text, quoted } = content {
                match this.scalar(id, text, *quoted)? {
                    Scalar::Typed(Node::Null, _) | Scalar::Merge(_) => return Ok(None),
                    Scalar::Typed(Node::Bool(value), _) => return Ok(Some(value)),
                    Scalar::Str("y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON") => return Ok(Some(true)),
                    Scalar::Str("n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF") => return Ok(Some(false)),
                    _ => {}
                }
            }
            this.refuse(id, what, "true or false")
        })
    }

    /// A boot loader's name; `Some(None)` for `none`, `None` for null.
    pub(super) fn bootloader(&mut self, id: Id, what: &str) -> Step<Option<Option<Bootloader>>> {
        self.follow(id, |this, id, content| {
            if let Content::Scalar { text, quoted } = content {
                let name = match this.scalar(id, text, *quoted)? {
                    Scalar::Typed(Node::Null, _) => return Ok(None),
                    Scalar::Binary(bytes) => Text::from_bytes(bytes),
                    _ => Text::from(text.as_str()),
                };
                if let Some(bootloader) = Bootloader::parse(&name) {
                    return Ok(Some(bootloader));
                }
            }
            this.refuse(id, what, "none, dual-boot, sd-boot or grub")
        })
    }
}

/// The value of a float that is an unsigned integer.
fn whole(value: f64) -> Option<u64> {
    const END: f64 = 18_446_744_073_709_551_616.0;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // in range and without a fraction
    ((0.0..END).contains(&value) && value.fract() == 0.0).then_some(value as u64)
}
