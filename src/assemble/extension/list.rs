//! `extensions.yaml`: which images are laid over the root file system, and what they are.

use crate::format::yaml::{Node, Width, emit};

use super::Metadata;

/// The text of `extensions.yaml` for image names and metadata in the order of the layers.
pub fn extensions_yaml<'a>(layers: impl Iterator<Item = (&'a str, &'a Metadata)>) -> String {
    let entries =
        layers.map(|(image, metadata)| Node::map([("image", Node::string(image)), ("metadata", describe(metadata))]));
    emit(&Node::map([("layers", Node::Seq(entries.collect()))]), Width::Folded)
}

fn describe(metadata: &Metadata) -> Node {
    let text = |text: &str| Node::string(text);
    let talos = Node::map([("version", text(&metadata.compatibility.talos.version))]);
    let mut pairs = vec![
        ("name", text(&metadata.name)),
        ("version", text(&metadata.version)),
        ("author", text(&metadata.author)),
        ("description", text(&metadata.description)),
        ("compatibility", Node::map([("talos", talos)])),
    ];
    if !metadata.extra_info.is_empty() {
        pairs.push(("extraInfo", text(&metadata.extra_info)));
    }
    Node::map(pairs)
}
