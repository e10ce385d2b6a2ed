//! The customization model and its canonical YAML.

mod canonical;
mod construct;
mod error;
mod id;
mod model;
#[cfg(test)]
mod tests;

pub use error::{Problem, SchematicError, SchematicIdError};
pub use id::SchematicId;
pub use model::{Bootloader, Customization, DiskImage, EnrollKeys, MetaValue, Overlay, Schematic, SecureBoot};

use crate::format::meta::Meta;
use crate::format::yaml::{Node, Text, Tree, Width, emit, emit_within};

/// The most bytes of a schematic as it is posted.
pub const MAX_INPUT: usize = 1 << 20;

/// The most bytes of a schematic in its canonical form.
pub const MAX_CANONICAL: usize = 4 << 20;

impl Schematic {
    /// Reads the first YAML document of `bytes` (JSON is YAML too) as the reference does: unknown fields, duplicate keys
    /// and wrong types are refused, aliases and merge keys are followed, missing and null fields are empty.
    ///
    /// What the values mean is not looked at: that is [`Schematic::validate`].
    ///
    /// # Errors
    /// [`SchematicError::TooLarge`], [`SchematicError::CanonicalTooLarge`]; [`SchematicError::Yaml`] for what is no YAML;
    /// [`SchematicError::Values`] for what is no schematic.
    pub fn parse(bytes: &[u8]) -> Result<Self, SchematicError> {
        if bytes.len() > MAX_INPUT {
            return Err(SchematicError::TooLarge { size: bytes.len(), limit: MAX_INPUT });
        }
        let schematic = construct::schematic(&Tree::parse(bytes)?)?;
        match emit_within(&canonical::node(&schematic), Width::Unlimited, MAX_CANONICAL) {
            Some(_) => Ok(schematic),
            None => Err(SchematicError::CanonicalTooLarge { limit: MAX_CANONICAL }),
        }
    }

    /// Reads back what [`Schematic::canonical`] wrote, also where the reference could not (texts that begin with a blank
    /// and go on in further lines). The schematic has the same ID; numbers in overlay options may have changed their type
    /// where the canonical form does not show it (`1.0` is written `1`).
    ///
    /// # Errors
    /// As [`Schematic::parse`], for a text that [`Schematic::canonical`] did not write.
    pub fn from_stored(canonical: &str) -> Result<Self, SchematicError> {
        if canonical.len() > MAX_CANONICAL {
            return Err(SchematicError::CanonicalTooLarge { limit: MAX_CANONICAL });
        }
        construct::schematic(&Tree::parse_emitted(canonical)?)
    }

    /// The canonical YAML: equal schematics have equal texts, byte for byte those of the reference.
    pub fn canonical(&self) -> String {
        emit(&canonical::node(self), Width::Unlimited)
    }

    /// The name: the SHA-256 of [`Schematic::canonical`].
    pub fn id(&self) -> SchematicId {
        SchematicId::of(&self.canonical())
    }

    /// Checks that every value means something, which [`Schematic::parse`] leaves open. After this, every [`Text`] of the
    /// schematic outside of the overlay's options is exact as `str`.
    ///
    /// # Errors
    /// [`SchematicError::Owner`] for an owner without authentication, [`SchematicError::Choice`] for an unknown
    /// `enrollKeys` or `sectorSize`, [`SchematicError::NotText`] for binary data in a text field,
    /// [`SchematicError::Meta`] for more META values than fit.
    pub fn validate(&self, auth_enabled: bool) -> Result<(), SchematicError> {
        if !auth_enabled && !self.owner.is_empty() {
            return Err(SchematicError::Owner(self.owner.to_string()));
        }
        let customization = &self.customization;
        let enroll_keys = &customization.secureboot.enroll_keys;
        if !enroll_keys.is_empty() && self.enroll_keys().is_none() {
            return Err(SchematicError::Choice {
                field: "customization.secureboot.enrollKeys",
                value: enroll_keys.to_string(),
                accepted: "off, manual, if-safe and force",
            });
        }
        let sector_size = customization.disk_image.sector_size;
        if !matches!(sector_size, 0 | 512 | 4096) {
            return Err(SchematicError::Choice {
                field: "customization.diskImage.sectorSize",
                value: sector_size.to_string(),
                accepted: "512, 4096 and 0 (the default, 512)",
            });
        }
        if let Some((field, _)) = self.texts().find(|(_, text)| !text.is_utf8()) {
            return Err(SchematicError::NotText(field));
        }
        Ok(self.meta().check()?)
    }

    /// The values of the META partition.
    pub fn meta(&self) -> Meta<'_> {
        self.customization.meta.iter().map(|entry| (entry.key, entry.value.as_bytes())).collect()
    }

    /// Every text outside of the overlay's options, with the path of its field.
    fn texts(&self) -> impl Iterator<Item = (&'static str, &Text)> {
        let customization = &self.customization;
        let single = [
            ("owner", &self.owner),
            ("customization.embeddedMachineConfiguration", &customization.embedded_machine_configuration),
        ];
        let overlay = self.overlay.iter().flat_map(|o| [("overlay.image", &o.image), ("overlay.name", &o.name)]);
        let args = customization.extra_kernel_args.iter().map(|arg| ("customization.extraKernelArgs", arg));
        let meta = customization.meta.iter().map(|meta| ("customization.meta", &meta.value));
        let extensions = customization.official_extensions.iter();
        let extensions = extensions.map(|name| ("customization.systemExtensions.officialExtensions", name));
        single.into_iter().chain(overlay).chain(args).chain(meta).chain(extensions)
    }
}

impl Overlay {
    /// The options as one YAML mapping.
    pub fn options_node(&self) -> Node {
        Node::Map(self.options.clone())
    }
}
