//! All files of an index.

use std::borrow::Cow;
use std::collections::HashMap;

use super::dependencies::{NONE, dependencies, direct};
use super::text::{devname, values};
use super::tree::{Module, ModuleTree, Symbol};
use super::trie::Trie;
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
pub(super) fn module_name(path: &str) -> String {
    let base = path.rsplit('/').next().unwrap_or_default();
    base.split('.').next().unwrap_or_default().replace('-', "_")
}

/// A module of merged trees: the number of its tree, and its own in there.
#[derive(Clone, Copy)]
struct Chosen<'a> {
    tree: usize,
    number: usize,
    module: &'a Module,
}

/// The modules of merged trees by name: a later tree's file takes the place of an earlier one's at the same path; of
/// two paths with one name the one under `extras` wins, and of two there the last.
fn merge<'a>(trees: &[&'a ModuleTree]) -> Vec<Chosen<'a>> {
    let mut by_path = Vec::new();
    for (tree, found) in trees.iter().enumerate() {
        by_path.extend(found.modules.iter().enumerate().map(|(number, module)| Chosen { tree, number, module }));
    }
    by_path.sort_by(|a, b| a.module.walk.cmp(&b.module.walk));
    let mut by_name: HashMap<&str, Chosen<'_>> = HashMap::with_capacity(by_path.len());
    for same in by_path.chunk_by(|a, b| a.module.path == b.module.path) {
        let Some(chosen) = same.last() else { continue };
        let name = chosen.module.name.as_str();
        if chosen.module.path.starts_with(EXTRAS) || !by_name.contains_key(name) {
            by_name.insert(name, *chosen);
        }
    }
    by_name.into_values().collect()
}

/// Puts modules into the order of `modules.order`; those that are not in it come behind, in the order in which a hash
/// table of 512 buckets gives them out.
fn order(modules: &mut [Chosen<'_>], order: Option<&[u8]>, kmod: Kmod) {
    modules.sort_unstable_by_key(|chosen| (chosen.module.hash % 512, chosen.module.name.as_str()));
    let Some(order) = order.filter(|order| order.ends_with(b"\n")) else { return };
    let mut lines: HashMap<&[u8], usize> = HashMap::with_capacity(modules.len());
    for (number, line) in order.split(|byte| *byte == b'\n').enumerate() {
        if kmod == Kmod::V34 {
            lines.entry(line).or_insert(number);
        } else {
            lines.insert(line, number);
        }
    }
    modules.sort_by_cached_key(|chosen| lines.get(chosen.module.listed.as_bytes()).copied().unwrap_or(usize::MAX));
}

/// The symbols of merged trees.
struct Symbols<'a> {
    /// All of them: those of the first tree first.
    all: Vec<&'a Symbol>,
    /// For each tree after the first, the numbers of its symbols among all.
    later: Vec<Vec<u32>>,
}

impl<'a> Symbols<'a> {
    fn merge(base: &'a ModuleTree, extras: &[&'a ModuleTree]) -> Self {
        let mut all: Vec<&Symbol> = base.symbols.iter().collect();
        let mut added: HashMap<&str, u32> = HashMap::new();
        let mut number = |symbol: &'a Symbol| {
            base.symbol(&symbol.alias).unwrap_or_else(|| {
                *added.entry(&symbol.alias).or_insert_with(|| {
                    all.push(symbol);
                    all.len() as u32 - 1
                })
            })
        };
        let later = extras.iter().map(|extra| extra.symbols.iter().map(&mut number).collect()).collect();
        Self { all, later }
    }

    /// Numbers of symbols of a tree as those of all.
    fn numbers<'n>(&self, tree: usize, symbols: &'n [u32]) -> Cow<'n, [u32]> {
        match tree.checked_sub(1).and_then(|later| self.later.get(later)) {
            Some(numbers) => symbols.iter().map(|symbol| numbers[*symbol as usize]).collect(),
            None => Cow::Borrowed(symbols),
        }
    }
}

/// An index being made: the trees, and the modules chosen of them in their order.
struct Index<'a> {
    trees: Vec<&'a ModuleTree>,
    modules: Vec<Chosen<'a>>,
    symbols: Symbols<'a>,
    /// The module that each symbol is had from: the last that exports it.
    owners: Vec<u32>,
    kmod: Kmod,
}

/// A file's name and contents.
type NamedFile = (&'static str, Vec<u8>);

/// Every file that depmod writes for `base` with `extras` laid over it, and its three inputs, by name.
pub fn index(base: &ModuleTree, extras: &[&ModuleTree], kmod: Kmod) -> Vec<NamedFile> {
    let trees: Vec<&ModuleTree> = std::iter::once(base).chain(extras.iter().copied()).collect();
    let mut modules = merge(&trees);
    let listed = trees.iter().rev().find_map(|tree| tree.order.as_deref());
    order(&mut modules, listed, kmod);
    let symbols = Symbols::merge(base, extras);
    let mut owners = vec![NONE; symbols.all.len()];
    for (chosen, number) in modules.iter().zip(0..) {
        for symbol in symbols.numbers(chosen.tree, &chosen.module.exports).iter() {
            owners[*symbol as usize] = number;
        }
    }
    let index = Index { trees, modules, symbols, owners, kmod };
    // Half of the work each.
    let (symbols, mut files) = std::thread::scope(|scope| {
        let symbols = scope.spawn(|| index.symbols());
        let mut files = index.dependencies();
        files.extend(index.aliases());
        files.extend(index.others());
        (symbols.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), files)
    });
    files.extend(symbols);
    files
}

impl Index<'_> {
    /// `modules.dep`
    fn dependencies(&self) -> Vec<NamedFile> {
        let needs: Vec<Cow<'_, [u32]>> =
            self.modules.iter().map(|chosen| self.symbols.numbers(chosen.tree, &chosen.module.needs)).collect();
        let direct = direct(needs.iter().map(AsRef::as_ref), &self.owners);
        let (mut text, mut lines) = (String::new(), Vec::new());
        for (chosen, needed) in self.modules.iter().zip(&dependencies(&direct)) {
            let start = text.len();
            text.push_str(&chosen.module.path);
            text.push(':');
            for other in needed {
                text.push(' ');
                text.push_str(&self.modules[*other].module.path);
            }
            lines.push(start..text.len());
            text.push('\n');
        }
        let mut trie = Trie::default();
        for ((chosen, line), number) in self.modules.iter().zip(lines).zip(0..) {
            trie.insert(&chosen.module.name, &text[line], number);
        }
        let binary = trie.write(self.kmod);
        vec![("modules.dep", text.into_bytes()), ("modules.dep.bin", binary)]
    }

    /// `modules.alias`
    fn aliases(&self) -> Vec<NamedFile> {
        let mut numbers: Vec<Vec<u32>> = self.trees.iter().map(|tree| vec![NONE; tree.modules.len()]).collect();
        for (chosen, number) in self.modules.iter().zip(0..) {
            numbers[chosen.tree][chosen.number] = number;
        }
        let mut trie = Trie::default();
        for (tree, numbers) in self.trees.iter().zip(&numbers) {
            for (alias, module) in &tree.aliases {
                let number = numbers[*module as usize];
                if number != NONE {
                    trie.insert(alias, &tree.modules[*module as usize].name, number);
                }
            }
        }
        let head = "# Aliases extracted from modules themselves.";
        let text = self.listing(head, "alias", |name, value| ["alias ", value, " ", name]);
        vec![("modules.alias", text), ("modules.alias.bin", trie.write(self.kmod))]
    }

    /// `modules.symbols`
    fn symbols(&self) -> Vec<NamedFile> {
        let base = self.trees[0];
        let added = base.symbols.len() as u32..self.symbols.all.len() as u32;
        let owner = |symbol: u32| self.modules.get(self.owners[symbol as usize] as usize);
        let mut by_hash: Vec<u32> = base.by_hash.iter().copied().chain(added).collect();
        by_hash.retain(|symbol| owner(*symbol).is_some());
        by_hash.sort_by_key(|symbol| self.symbols.all[*symbol as usize].by_hash());
        let mut text = "# Aliases for symbols, used by symbol_request().\n".to_owned();
        for symbol in by_hash {
            let Some(owner) = owner(symbol) else { continue };
            for part in ["alias ", &self.symbols.all[symbol as usize].alias, " ", &owner.module.name, "\n"] {
                text.push_str(part);
            }
        }
        let mut trie = Trie::default();
        for (symbol, number) in self.symbols.all.iter().zip(&self.owners) {
            if let Some(owner) = self.modules.get(*number as usize) {
                trie.insert(&symbol.alias, &owner.module.name, *number);
            }
        }
        vec![("modules.symbols", text.into_bytes()), ("modules.symbols.bin", trie.write(self.kmod))]
    }

    /// The small files, and the three inputs.
    fn others(&self) -> Vec<NamedFile> {
        let last = |has: fn(&ModuleTree) -> bool| self.trees.iter().rev().copied().find(|tree| has(tree));
        let listed = last(|tree| tree.order.is_some()).and_then(|tree| tree.order.as_ref());
        let builtin = last(|tree| tree.builtin.is_some());
        let modinfo = last(|tree| tree.builtin_modinfo.is_some());
        let head = "# Soft dependencies extracted from modules themselves.";
        let softdep = self.listing(head, "softdep", |name, value| ["softdep ", name, " ", value]);
        let mut files = vec![("modules.softdep", softdep)];
        if self.kmod >= Kmod::V33 {
            let head = "# Weak dependencies extracted from modules themselves.";
            let weakdep = self.listing(head, "weakdep", |name, value| ["weakdep ", name, " ", value]);
            files.push(("modules.weakdep", weakdep));
        }
        let names = builtin.map(|tree| {
            let mut trie = Trie::default();
            tree.builtin_names.iter().for_each(|name| trie.insert(name, "", 0));
            trie.write(self.kmod)
        });
        files.push(("modules.builtin.bin", names.unwrap_or_default()));
        let aliases = modinfo.map(|tree| {
            let mut trie = Trie::default();
            tree.builtin_aliases.iter().for_each(|(alias, module)| trie.insert(alias, module, 0));
            trie.write(self.kmod)
        });
        files.push(("modules.builtin.alias.bin", aliases.unwrap_or_default()));
        files.push(("modules.devname", devname(self.infos())));
        let builtin = builtin.and_then(|tree| tree.builtin.as_ref());
        let modinfo = modinfo.and_then(|tree| tree.builtin_modinfo.as_ref());
        let inputs = [("modules.order", listed), ("modules.builtin", builtin), ("modules.builtin.modinfo", modinfo)];
        files.extend(inputs.into_iter().filter_map(|(name, bytes)| Some((name, bytes?.clone()))));
        files
    }

    /// Name and information of each module.
    fn infos(&self) -> impl Iterator<Item = (&str, &[(String, String)])> {
        self.modules.iter().map(|chosen| (chosen.module.name.as_str(), chosen.module.info.as_slice()))
    }

    /// A file of one line a value: `head`, then for each module and value what `line` makes of them.
    fn listing(&self, head: &str, key: &str, line: for<'l> fn(&'l str, &'l str) -> [&'l str; 4]) -> Vec<u8> {
        let mut out = format!("{head}\n");
        for (name, info) in self.infos() {
            for value in values(info, key) {
                line(name, value).into_iter().for_each(|part| out.push_str(part));
                out.push('\n');
            }
        }
        out.into_bytes()
    }
}
