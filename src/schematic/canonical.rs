//! The canonical form: fields in a fixed order, empty ones left out.

use super::model::{Customization, Overlay, Schematic};
use crate::format::yaml::{Node, Text};

/// Pairs of a mapping that is being put together.
#[derive(Default)]
struct Fields(Vec<(Node, Node)>);

impl Fields {
    fn set(&mut self, name: &str, value: Node) {
        self.0.push((Node::string(name), value));
    }

    fn text(&mut self, name: &str, text: &Text) {
        if !text.is_empty() {
            self.set(name, Node::String(text.clone()));
        }
    }

    fn list(&mut self, name: &str, texts: &[Text]) {
        if !texts.is_empty() {
            self.set(name, Node::Seq(texts.iter().cloned().map(Node::String).collect()));
        }
    }

    fn map(&mut self, name: &str, fields: Self) {
        if !fields.0.is_empty() {
            self.set(name, Node::Map(fields.0));
        }
    }
}

/// An unsigned integer, in the type that carries it.
fn number(value: u64) -> Node {
    i64::try_from(value).map_or(Node::Uint(value), Node::Int)
}

/// The schematic as a YAML value.
pub(super) fn node(schematic: &Schematic) -> Node {
    let mut out = Fields::default();
    out.text("owner", &schematic.owner);
    if let Some(overlay) = &schematic.overlay {
        out.set("overlay", overlay_node(overlay));
    }
    out.set("customization", customization_node(&schematic.customization));
    Node::Map(out.0)
}

fn overlay_node(overlay: &Overlay) -> Node {
    let mut out = Fields::default();
    out.set("image", Node::String(overlay.image.clone()));
    out.set("name", Node::String(overlay.name.clone()));
    out.map("options", Fields(overlay.options.clone()));
    Node::Map(out.0)
}

fn customization_node(customization: &Customization) -> Node {
    let mut out = Fields::default();
    out.text("embeddedMachineConfiguration", &customization.embedded_machine_configuration);
    out.list("extraKernelArgs", &customization.extra_kernel_args);
    if !customization.meta.is_empty() {
        let values = customization
            .meta
            .iter()
            .map(|meta| Node::map([("key", number(meta.key.into())), ("value", Node::String(meta.value.clone()))]));
        out.set("meta", Node::Seq(values.collect()));
    }
    let mut extensions = Fields::default();
    extensions.list("officialExtensions", &customization.official_extensions);
    out.map("systemExtensions", extensions);
    if let Some(bootloader) = customization.bootloader {
        out.set("bootloader", Node::string(bootloader.as_str()));
    }
    let mut secureboot = Fields::default();
    secureboot.text("enrollKeys", &customization.secureboot.enroll_keys);
    if customization.secureboot.include_well_known_certificates {
        secureboot.set("includeWellKnownCertificates", Node::Bool(true));
    }
    out.map("secureboot", secureboot);
    let mut disk = Fields::default();
    if customization.disk_image.sector_size != 0 {
        disk.set("sectorSize", number(customization.disk_image.sector_size));
    }
    out.map("diskImage", disk);
    Node::Map(out.0)
}
