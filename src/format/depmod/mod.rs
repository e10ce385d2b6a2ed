//! Kernel module indexes: every file that depmod writes, from facts about the modules.
//!
//! Specification: `depmod(8)`, `modules.dep(5)`, and the source of kmod; the files are equal to those of kmod 30 and 34
//! byte for byte. Facts of each module are gathered once ([`ModuleFacts::read`]) and worked up once a process
//! ([`ModuleTree::new`]); then an index over any set of them costs two milliseconds. Files with one module name under one
//! search place tie as depmod would have them if it listed folders in byte order.

mod dependencies;
mod facts;
mod hash;
mod index;
mod text;
mod tree;
mod trie;

pub use facts::{FactsError, ModuleFacts, TreeFacts};
pub use index::{Kmod, index, is_module};
pub use tree::ModuleTree;

#[cfg(test)]
mod tests;
