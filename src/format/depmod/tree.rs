//! A tree's modules, worked up once for all indexes that they come to stand in: sorted, named, symbols numbered.

use std::collections::HashMap;

use super::hash::hash;
use super::index::{is_module, module_name};
use super::text::{builtin_aliases, normalize, values};
use super::{ModuleFacts, TreeFacts};

/// The modules below one kernel's folder, and what an index over them and others takes.
pub struct ModuleTree {
    /// The kernel's release, which is the folder's name.
    pub kernel: String,
    /// In the order of a walk that lists each folder in byte order.
    pub(super) modules: Vec<Module>,
    /// What the modules export or need, in byte order.
    pub(super) symbols: Vec<Symbol>,
    /// Numbers of the symbols in the order of [`Symbol::by_hash`].
    pub(super) by_hash: Vec<u32>,
    /// Aliases as the binary index has them, with the number of their module, in byte order.
    pub(super) aliases: Vec<(String, u32)>,
    /// `modules.order`
    pub(super) order: Option<Vec<u8>>,
    /// `modules.builtin`
    pub(super) builtin: Option<Vec<u8>>,
    /// `modules.builtin.modinfo`
    pub(super) builtin_modinfo: Option<Vec<u8>>,
    /// Names in `modules.builtin`.
    pub(super) builtin_names: Vec<String>,
    /// Aliases in `modules.builtin.modinfo`, as the binary index has them, and their modules.
    pub(super) builtin_aliases: Vec<(String, String)>,
}

/// A module of a tree.
pub(super) struct Module {
    /// Path below the kernel's folder.
    pub path: String,
    /// The path with a zero for each slash: a walk that lists each folder in byte order comes by in the order of this.
    pub walk: String,
    /// Its name: the base name up to the first dot, with underscores.
    pub name: String,
    /// kmod's hash of the name.
    pub hash: u32,
    /// How it stands in `modules.order`.
    pub listed: String,
    /// Numbers of the symbols that it exports.
    pub exports: Vec<u32>,
    /// Numbers of the symbols that it needs.
    pub needs: Vec<u32>,
    /// Its `alias`, `softdep` and `weakdep` entries, in order: key and value.
    pub info: Vec<(String, String)>,
}

/// A symbol of a tree.
pub(super) struct Symbol {
    /// Its alias: `symbol:` and its name.
    pub alias: String,
    /// kmod's hash of the name.
    hash: u32,
}

/// What stands before a symbol's name in its alias.
const SYMBOL: &str = "symbol:";

impl Symbol {
    fn new(name: &str) -> Self {
        Self { alias: [SYMBOL, name].concat(), hash: hash(name.as_bytes()) }
    }

    /// What symbols are sorted by where a hash table of 2048 buckets gives them out.
    pub fn by_hash(&self) -> (u32, &str) {
        (self.hash % 2048, &self.alias)
    }
}

impl ModuleTree {
    /// Works up the facts of a tree.
    pub fn new(facts: TreeFacts) -> Self {
        let TreeFacts { kernel, modules: mut found, order, builtin, builtin_modinfo } = facts;
        found.retain(|module| is_module(&module.path));
        found.sort_by_cached_key(|module| walk(&module.path));
        let mut names = Vec::new();
        for module in &found {
            names.extend(module.exports.iter().map(String::as_str));
            names.extend(module.needs.iter().map(|symbol| wanted(symbol)));
        }
        names.sort_unstable();
        names.dedup();
        let numbers: HashMap<&str, u32> = names.iter().copied().zip(0..).collect();
        let modules: Vec<Module> = found.iter().map(|facts| Module::new(facts, &numbers)).collect();
        let symbols: Vec<Symbol> = names.into_iter().map(Symbol::new).collect();
        let mut by_hash: Vec<u32> = (0..).take(symbols.len()).collect();
        by_hash.sort_unstable_by_key(|symbol| symbols[*symbol as usize].by_hash());
        let mut aliases = Vec::new();
        for (module, number) in modules.iter().zip(0..) {
            aliases.extend(values(&module.info, "alias").filter_map(normalize).map(|alias| (alias, number)));
        }
        aliases.sort_unstable();
        let builtin_names = builtin.iter().flat_map(|text| builtin_names(text)).collect();
        let builtin_aliases = builtin_modinfo.iter().flat_map(|text| builtin_aliases(text)).collect();
        Self {
            kernel,
            modules,
            symbols,
            by_hash,
            aliases,
            order,
            builtin,
            builtin_modinfo,
            builtin_names,
            builtin_aliases,
        }
    }

    /// The number of a symbol by its alias.
    pub(super) fn symbol(&self, alias: &str) -> Option<u32> {
        let found = self.symbols.binary_search_by(|symbol| symbol.alias.as_str().cmp(alias));
        found.ok().map(|number| number as u32)
    }
}

impl Module {
    fn new(facts: &ModuleFacts, numbers: &HashMap<&str, u32>) -> Self {
        let name = module_name(&facts.path);
        let (folder, base) = facts.path.rsplit_once('/').map_or(("", facts.path.as_str()), |(f, b)| (f, b));
        let stem = base.get(..name.len()).unwrap_or(base);
        let listed = if folder.is_empty() { format!("{stem}.ko") } else { format!("{folder}/{stem}.ko") };
        let number = |symbol: &str| numbers.get(symbol).copied();
        Self {
            path: facts.path.clone(),
            walk: walk(&facts.path),
            hash: hash(name.as_bytes()),
            name,
            listed,
            exports: facts.exports.iter().filter_map(|symbol| number(symbol)).collect(),
            needs: facts.needs.iter().filter_map(|symbol| number(wanted(symbol))).collect(),
            info: facts.info.clone(),
        }
    }
}

/// [`Module::walk`]
fn walk(path: &str) -> String {
    path.replace('/', "\0")
}

/// A needed symbol as others export it.
fn wanted(symbol: &str) -> &str {
    symbol.strip_prefix('.').unwrap_or(symbol)
}

fn builtin_names(text: &[u8]) -> Vec<String> {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| line.first().is_some_and(u8::is_ascii_alphabetic));
    lines.map(|line| module_name(&String::from_utf8_lossy(line))).collect()
}
