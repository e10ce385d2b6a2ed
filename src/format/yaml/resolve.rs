//! What a plain (unquoted) scalar means: YAML 1.2's core schema with the remains of 1.1 that the reference keeps.

use super::number::{self, Integer};
use super::timestamp;

/// The type and value of a plain scalar.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolved {
    /// `!!null`.
    Null,
    /// `!!bool`.
    Bool(bool),
    /// `!!int` within 64 signed bits.
    Int(i64),
    /// `!!int` that needs 64 unsigned bits.
    Uint(u64),
    /// `!!float`.
    Float(f64),
    /// `!!timestamp`, normalized.
    Timestamp(String),
    /// `!!merge`.
    Merge,
    /// `!!str`: none of the above.
    Str,
}

impl Resolved {
    /// The short tag of the type.
    pub const fn tag(&self) -> &'static str {
        match self {
            Self::Null => "!!null",
            Self::Bool(_) => "!!bool",
            Self::Int(_) | Self::Uint(_) => "!!int",
            Self::Float(_) => "!!float",
            Self::Timestamp(_) => "!!timestamp",
            Self::Merge => "!!merge",
            Self::Str => "!!str",
        }
    }
}

/// Resolves a plain scalar. Time stamps only count where `timestamps` says so: in untagged scalars and `!!timestamp` ones.
pub fn resolve(text: &str, timestamps: bool) -> Resolved {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Resolved::Null,
        "true" | "True" | "TRUE" => return Resolved::Bool(true),
        "false" | "False" | "FALSE" => return Resolved::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Resolved::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Resolved::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Resolved::Float(f64::NEG_INFINITY),
        "-0" | "-0.0" => return Resolved::Float(-0.0),
        "<<" => return Resolved::Merge,
        _ => {}
    }
    match text.as_bytes()[0] {
        b'.' => number::float_with_underscores(text).map_or(Resolved::Str, Resolved::Float),
        b'0'..=b'9' | b'+' | b'-' => {
            if timestamps && let Some(stamp) = timestamp::normalize(text) {
                return Resolved::Timestamp(stamp);
            }
            let plain = text.replace('_', "");
            match number::integer(&plain) {
                Some(Integer::Signed(value)) => Resolved::Int(value),
                Some(Integer::Unsigned(value)) => Resolved::Uint(value),
                None => number::float(&plain).map_or(Resolved::Str, Resolved::Float),
            }
        }
        _ => Resolved::Str,
    }
}

/// Resolves a scalar under its tag, as [`resolve`] does for untagged ones; `None` where the text is no value of the tag.
pub fn resolve_tagged(tag: &str, text: &str) -> Option<Resolved> {
    if tag == "!!str" {
        return Some(Resolved::Str);
    }
    match (tag, resolve(text, tag == "!!timestamp")) {
        #[allow(clippy::cast_precision_loss)] // what a float is for
        ("!!float", Resolved::Int(value)) => Some(Resolved::Float(value as f64)),
        (tag, resolved) if resolved.tag() == tag => Some(resolved),
        _ => None,
    }
}
