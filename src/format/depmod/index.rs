//! All files of an index.

use std::collections::{BTreeMap, HashMap};

use super::dependencies::{dependencies, owners};
use super::text::{builtin_aliases, devname, listing, normalize, values};
use super::trie::Trie;
use super::{ModuleFacts, TreeFacts, hash};
use crate::types::TalosVersion;

/// The generations of kmod that write different files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kmod {
    /// Up to version 32.
    V32,
    /// Version 33.
    V33,
    /// From version 34 on.
    V34,
}

impl Kmod {
    /// The generation that a release of Talos was made with.
    pub fn of(version: &TalosVersion) -> Self {
        match (version.at_least(1, 10, 0), version.at_least(1, 8, 0)) {
            (true, _) => Self::V34,
            (false, true) => Self::V33,
            (false, false) => Self::V32,
        }
    }
}

/// The folder whose modules replace those that came with the kernel.
const EXTRAS: &str = "extras/";

/// Whether depmod takes a path below a kernel's folder for a module.
pub fn is_module(path: &str) -> bool {
    let mut parts = path.split('/');
    let base = parts.next_back().unwrap_or_default();
    let stem = ["", ".gz", ".xz", ".zst"].iter().find_map(|packed| base.strip_suffix(&format!(".ko{packed}")));
    stem.is_some_and(|stem| !stem.is_empty()) && !parts.any(|part| matches!(part, "build" | "source"))
}

/// A module's name: its base name up to the first dot, with underscores.
fn module_name(path: &str) -> String {
    let base = path.rsplit('/').next().unwrap_or_default();
    base.split('.').next().unwrap_or_default().replace('-', "_")
}

/// The modules of merged trees by name: a later tree's file takes the place of an earlier one's at the same path; of
/// two paths with one name the one under `extras` wins, and of two there the last.
fn merge<'a>(trees: &[&'a TreeFacts]) -> Vec<(String, &'a ModuleFacts)> {
    // Sorted as a walk that lists each folder in byte order comes by them.
    let mut by_path: BTreeMap<Vec<&str>, &ModuleFacts> = BTreeMap::new();
    for module in trees.iter().flat_map(|tree| &tree.modules) {
        if is_module(&module.path) {
            by_path.insert(module.path.split('/').collect(), module);
        }
    }
    let mut by_name: HashMap<String, &ModuleFacts> = HashMap::new();
    for module in by_path.into_values() {
        let name = module_name(&module.path);
        if module.path.starts_with(EXTRAS) || !by_name.contains_key(&name) {
            by_name.insert(name, module);
        }
    }
    by_name.into_iter().collect()
}

/// Puts modules into the order of `modules.order`; those that are not in it come behind, in hash order.
fn order(modules: &mut [(String, &ModuleFacts)], order: Option<&[u8]>, kmod: Kmod) {
    hash::sort(modules, 512, |(name, _)| name.as_bytes());
    let Some(order) = order.filter(|order| order.ends_with(b"\n")) else { return };
    let mut lines: HashMap<&[u8], usize> = HashMap::new();
    for (number, line) in order.split(|byte| *byte == b'\n').enumerate() {
        if kmod == Kmod::V34 {
            lines.entry(line).or_insert(number);
        } else {
            lines.insert(line, number);
        }
    }
    let place = |(name, module): &(String, &ModuleFacts)| {
        let (folder, base) = module.path.rsplit_once('/').map_or(("", module.path.as_str()), |(f, b)| (f, b));
        let stem = base.get(..name.len()).unwrap_or(base);
        let plain = if folder.is_empty() { format!("{stem}.ko") } else { format!("{folder}/{stem}.ko") };
        lines.get(plain.as_bytes()).copied().unwrap_or(usize::MAX)
    };
    modules.sort_by_cached_key(place);
}

/// Every file that depmod writes for `base` with `extras` laid over it, and its three inputs, by name.
pub fn index(base: &TreeFacts, extras: &[&TreeFacts], kmod: Kmod) -> Vec<(&'static str, Vec<u8>)> {
    let trees: Vec<&TreeFacts> = std::iter::once(base).chain(extras.iter().copied()).collect();
    let last = |file: fn(&TreeFacts) -> &Option<Vec<u8>>| trees.iter().rev().find_map(|tree| file(tree).as_ref());
    let (listed, builtin) = (last(|tree| &tree.order), last(|tree| &tree.builtin));
    let modinfo = last(|tree| &tree.builtin_modinfo);

    let mut merged = merge(&trees);
    order(&mut merged, listed.map(Vec::as_slice), kmod);
    let modules: Vec<(&str, &ModuleFacts)> = merged.iter().map(|(name, module)| (name.as_str(), *module)).collect();
    let facts: Vec<&ModuleFacts> = modules.iter().map(|(_, module)| *module).collect();
    let owners = owners(&facts);
    let needed = dependencies(&facts, &owners);

    let mut files: Vec<(&'static str, Vec<u8>)> = Vec::new();
    let (mut dep, mut dep_bin) = (String::new(), Trie::default());
    for (number, ((name, module), needed)) in modules.iter().zip(&needed).enumerate() {
        let mut line = format!("{}:", module.path);
        for other in needed {
            line.push(' ');
            line.push_str(&facts[*other].path);
        }
        dep_bin.insert(name.as_bytes(), line.as_bytes(), number as u32);
        dep.push_str(&line);
        dep.push('\n');
    }
    files.push(("modules.dep", dep.into_bytes()));
    files.push(("modules.dep.bin", dep_bin.write(kmod)));

    let mut alias_bin = Trie::default();
    for (number, (name, module)) in modules.iter().enumerate() {
        for alias in values(module, "alias").filter_map(normalize) {
            alias_bin.insert(alias.as_bytes(), name.as_bytes(), number as u32);
        }
    }
    let head = "# Aliases extracted from modules themselves.";
    files.push(("modules.alias", listing(&modules, head, "alias", |name, value| format!("alias {value} {name}"))));
    files.push(("modules.alias.bin", alias_bin.write(kmod)));
    let head = "# Soft dependencies extracted from modules themselves.";
    files
        .push(("modules.softdep", listing(&modules, head, "softdep", |name, value| format!("softdep {name} {value}"))));
    if kmod >= Kmod::V33 {
        let head = "# Weak dependencies extracted from modules themselves.";
        let weakdep = listing(&modules, head, "weakdep", |name, value| format!("weakdep {name} {value}"));
        files.push(("modules.weakdep", weakdep));
    }

    let mut symbols: Vec<(&str, usize)> = owners.iter().map(|(symbol, owner)| (*symbol, *owner)).collect();
    hash::sort(&mut symbols, 2048, |(symbol, _)| symbol.as_bytes());
    let (mut text, mut symbols_bin) =
        ("# Aliases for symbols, used by symbol_request().\n".to_owned(), Trie::default());
    for (symbol, owner) in symbols {
        let name = modules[owner].0;
        text.push_str(&format!("alias symbol:{symbol} {name}\n"));
        symbols_bin.insert(format!("symbol:{symbol}").as_bytes(), name.as_bytes(), owner as u32);
    }
    files.push(("modules.symbols", text.into_bytes()));
    files.push(("modules.symbols.bin", symbols_bin.write(kmod)));

    files.push(("modules.builtin.bin", builtin.map(|text| builtin_bin(text, kmod)).unwrap_or_default()));
    files.push(("modules.builtin.alias.bin", modinfo.map(|text| builtin_alias_bin(text, kmod)).unwrap_or_default()));
    files.push(("modules.devname", devname(&modules)));
    let inputs = [("modules.order", listed), ("modules.builtin", builtin), ("modules.builtin.modinfo", modinfo)];
    files.extend(inputs.into_iter().filter_map(|(name, bytes)| Some((name, bytes?.clone()))));
    files
}

fn builtin_bin(text: &[u8], kmod: Kmod) -> Vec<u8> {
    let mut trie = Trie::default();
    for line in text.split(|byte| *byte == b'\n').filter(|line| line.first().is_some_and(u8::is_ascii_alphabetic)) {
        trie.insert(module_name(&String::from_utf8_lossy(line)).as_bytes(), b"", 0);
    }
    trie.write(kmod)
}

fn builtin_alias_bin(modinfo: &[u8], kmod: Kmod) -> Vec<u8> {
    let mut trie = Trie::default();
    for (module, alias) in builtin_aliases(modinfo) {
        if let Some(alias) = normalize(&alias) {
            trie.insert(alias.as_bytes(), module.as_bytes(), 0);
        }
    }
    trie.write(kmod)
}
