//! Mappings with known fields.

use std::collections::HashSet;

use super::merge::{Seen, text_key};
use super::scalar::Scalar;
use super::{Construct, Step, shorten};
use crate::format::yaml::{Content, Id, Node, Text};
use crate::schematic::model::{Customization, DiskImage, MetaValue, Overlay, Schematic, SecureBoot};

/// A mapping with known fields.
pub(super) trait Fields {
    /// What it is called in errors.
    const NAME: &'static str;
    /// Its fields.
    const FIELDS: &'static [&'static str];

    /// Reads a field.
    fn set(&mut self, construct: &mut Construct, field: &str, id: Id) -> Step<()>;
}

impl<'a> Construct<'a> {
    /// Reads a mapping into `out`; fields that are absent or null stay as they are. `false` for null, and for what is no
    /// such mapping (that is noted).
    pub(super) fn structure<T: Fields>(&mut self, id: Id, out: &mut T, merged: Option<&mut Seen>) -> Step<bool> {
        self.follow(id, |this, id, content| {
            match content {
                Content::Map(pairs) => return this.fields(pairs, out, merged),
                Content::Scalar { text, quoted } => match this.scalar(id, text, *quoted)? {
                    Scalar::Typed(Node::Null, _) | Scalar::Merge(_) => return Ok(false),
                    _ => {}
                },
                Content::Seq(_) | Content::Alias { .. } => {}
            }
            let found = this.shown(id);
            this.problem(id, format!("{} takes a mapping ({}), not {found}", T::NAME, T::FIELDS.join(", ")))?;
            Ok(false)
        })
    }

    fn fields<T: Fields>(&mut self, pairs: &'a [(Id, Id)], out: &mut T, mut merged: Option<&mut Seen>) -> Step<bool> {
        if !self.unique_keys(pairs)? {
            return Ok(false);
        }
        let (own, merge) = self.split_merge(pairs);
        let mut done = HashSet::new();
        for (id, value) in own {
            let Some(name) = self.text(id, "a field name")? else { continue };
            if let Some(seen) = merged.as_deref_mut()
                && !seen.insert(text_key(&name))
            {
                continue;
            }
            match T::FIELDS.iter().find(|field| name == **field) {
                None => {
                    let (name, known) = (shorten(&name), T::FIELDS.join(", "));
                    self.problem(id, format!("{} has no field {name:?}; there are {known}", T::NAME))?;
                }
                Some(field) if !done.insert(*field) => self.problem(id, format!("the field {field} is already set"))?,
                Some(field) => out.set(self, field, value)?,
            }
        }
        if let Some(value) = merge {
            self.merge(pairs, value, merged, &mut |this, id, seen| this.structure(id, out, Some(seen)).map(|_| ()))?;
        }
        Ok(true)
    }

    /// Reads a list, each item by `read`; items that give `None` are left out.
    fn list<T>(
        &mut self,
        id: Id,
        what: &str,
        mut read: impl FnMut(&mut Self, Id) -> Step<Option<T>>,
    ) -> Step<Option<Vec<T>>> {
        self.follow(id, |this, id, content| {
            match content {
                Content::Seq(items) => {
                    let mut out = Vec::with_capacity(items.len());
                    for item in items {
                        out.extend(read(this, *item)?);
                    }
                    return Ok(Some(out));
                }
                Content::Scalar { text, quoted } => match this.scalar(id, text, *quoted)? {
                    Scalar::Typed(Node::Null, _) | Scalar::Merge(_) => return Ok(None),
                    _ => {}
                },
                Content::Map(_) | Content::Alias { .. } => {}
            }
            let found = this.shown(id);
            this.problem(id, format!("{what} takes a list, not {found}"))?;
            Ok(None)
        })
    }

    fn texts(&mut self, id: Id, what: &str) -> Step<Option<Vec<Text>>> {
        let item = format!("an item of {what}");
        self.list(id, what, |this, id| this.text(id, &item))
    }
}

/// Sets `place` where something was read.
fn put<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

impl Fields for Schematic {
    const NAME: &'static str = "a schematic";
    const FIELDS: &'static [&'static str] = &["owner", "overlay", "customization"];

    fn set(&mut self, construct: &mut Construct, field: &str, id: Id) -> Step<()> {
        match field {
            "owner" => put(&mut self.owner, construct.text(id, field)?),
            "overlay" => {
                let mut overlay = self.overlay.take().unwrap_or_default();
                construct.structure(id, &mut overlay, None)?;
                self.overlay = (overlay != Overlay::default()).then_some(overlay);
            }
            _ => {
                construct.structure(id, &mut self.customization, None)?;
            }
        }
        Ok(())
    }
}

impl Fields for Overlay {
    const NAME: &'static str = "overlay";
    const FIELDS: &'static [&'static str] = &["image", "name", "options"];

    fn set(&mut self, construct: &mut Construct, field: &str, id: Id) -> Step<()> {
        match field {
            "image" => put(&mut self.image, construct.text(id, field)?),
            "name" => put(&mut self.name, construct.text(id, field)?),
            _ => put(&mut self.options, construct.options(id, field)?),
        }
        Ok(())
    }
}

impl Fields for Customization {
    const NAME: &'static str = "customization";
    const FIELDS: &'static [&'static str] = &[
        "embeddedMachineConfiguration",
        "extraKernelArgs",
        "meta",
        "systemExtensions",
        "bootloader",
        "secureboot",
        "diskImage",
    ];

    fn set(&mut self, construct: &mut Construct, field: &str, id: Id) -> Step<()> {
        match field {
            "embeddedMachineConfiguration" => {
                put(&mut self.embedded_machine_configuration, construct.text(id, field)?);
            }
            "extraKernelArgs" => put(&mut self.extra_kernel_args, construct.texts(id, field)?),
            "meta" => {
                let values = construct.list(id, field, |construct, id| {
                    let mut value = MetaValue::default();
                    Ok(construct.structure(id, &mut value, None)?.then_some(value))
                })?;
                put(&mut self.meta, values);
            }
            "systemExtensions" => {
                construct.structure(id, &mut Extensions(&mut self.official_extensions), None)?;
            }
            "bootloader" => put(&mut self.bootloader, construct.bootloader(id, field)?),
            "secureboot" => {
                construct.structure(id, &mut self.secureboot, None)?;
            }
            _ => {
                construct.structure(id, &mut self.disk_image, None)?;
            }
        }
        Ok(())
    }
}

impl Fields for MetaValue {
    const NAME: &'static str = "an item of meta";
    const FIELDS: &'static [&'static str] = &["key", "value"];

    fn set(&mut self, construct: &mut Construct, field: &str, id: Id) -> Step<()> {
        match field {
            "key" => {
                let key = construct.unsigned(id, field, u8::MAX.into())?;
                put(&mut self.key, key.and_then(|key| u8::try_from(key).ok()));
            }
            _ => put(&mut self.value, construct.text(id, field)?),
        }
        Ok(())
    }
}

/// `systemExtensions`, which has nothing but its list.
struct Extensions<'a>(&'a mut Vec<Text>);

impl Fields for Extensions<'_> {
    const NAME: &'static str = "systemExtensions";
    const FIELDS: &'static [&'static str] = &["officialExtensions"];

    fn set(&mut self, construct: &mut Construct, field: &str, id: Id) -> Step<()> {
        put(self.0, construct.texts(id, field)?);
        Ok(())
    }
}

impl Fields for SecureBoot {
    const NAME: &'static str = "secureboot";
    const FIELDS: &'static [&'static str] = &["enrollKeys", "includeWellKnownCertificates"];

    fn set(&mut self, construct: &mut Construct, field: &str, id: Id) -> Step<()> {
        match field {
            "enrollKeys" => put(&mut self.enroll_keys, construct.text(id, field)?),
            _ => put(&mut self.include_well_known_certificates, construct.boolean(id, field)?),
        }
        Ok(())
    }
}

impl Fields for DiskImage {
    const NAME: &'static str = "diskImage";
    const FIELDS: &'static [&'static str] = &["sectorSize"];

    fn set(&mut self, construct: &mut Construct, field: &str, id: Id) -> Step<()> {
        put(&mut self.sector_size, construct.unsigned(id, field, u64::MAX)?);
        Ok(())
    }
}
