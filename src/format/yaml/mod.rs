//! YAML 1.1/1.2 as the reference reads and writes it: an emitter whose bytes are those of its library (a libyaml
//! descendant with an indent of 4), and a reader that accepts what its library accepts.
//!
//! Specifications: <https://yaml.org/spec/1.1/>, <https://yaml.org/spec/1.2.2/>; where the two differ, and where the
//! reference differs from both, the golden schematics decide.

mod analyze;
mod emit;
mod error;
mod node;
mod number;
mod order;
mod reader;
mod resolve;
mod scan;
#[cfg(test)]
mod tests;
mod text;
mod timestamp;
mod tree;

pub use emit::{Width, emit, emit_within};
pub use error::{Mark, YamlError};
pub use node::Node;
pub use order::sort_pairs;
pub use resolve::{Resolved, resolve, resolve_tagged};
#[cfg(test)]
pub(crate) use tests::ANY_TEXT;
pub use text::Text;
pub use tree::{Content, Id, Tree, TreeNode};
