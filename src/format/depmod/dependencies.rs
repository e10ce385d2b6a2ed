//! Which modules a module needs, directly and indirectly.

use std::collections::HashMap;

use super::ModuleFacts;

/// The module that each symbol is had from: the last that exports it.
pub fn owners<'a>(modules: &[&'a ModuleFacts]) -> HashMap<&'a str, usize> {
    let mut owners = HashMap::new();
    for (number, module) in modules.iter().enumerate() {
        for symbol in &module.exports {
            owners.insert(symbol.as_str(), number);
        }
    }
    owners
}

/// For each module the modules that it needs, those first that themselves need others of them. Modules in a cycle, and
/// those that only they need, come last; depmod itself refuses such a tree.
pub fn dependencies(modules: &[&ModuleFacts], owners: &HashMap<&str, usize>) -> Vec<Vec<usize>> {
    let direct: Vec<Vec<usize>> = modules
        .iter()
        .enumerate()
        .map(|(number, module)| {
            let mut found = Vec::new();
            for symbol in &module.needs {
                let symbol = symbol.strip_prefix('.').unwrap_or(symbol);
                if let Some(owner) = owners.get(symbol)
                    && *owner != number
                    && !found.contains(owner)
                {
                    found.push(*owner);
                }
            }
            found
        })
        .collect();
    let rank = ranks(&direct);
    let mut seen = vec![usize::MAX; modules.len()];
    (0..modules.len())
        .map(|start| {
            let (mut all, mut todo) = (Vec::new(), direct[start].clone());
            seen[start] = start;
            while let Some(next) = todo.pop() {
                if seen[next] != start {
                    seen[next] = start;
                    all.push(next);
                    todo.extend(&direct[next]);
                }
            }
            all.sort_unstable_by_key(|number| rank[*number]);
            all
        })
        .collect()
}

/// Topological numbers: users before what they use.
fn ranks(direct: &[Vec<usize>]) -> Vec<usize> {
    let mut users = vec![0; direct.len()];
    direct.iter().flatten().for_each(|used| users[*used] += 1);
    let mut stack: Vec<usize> = (0..direct.len()).filter(|number| users[*number] == 0).collect();
    let (mut rank, mut next) = (vec![usize::MAX; direct.len()], 0);
    while let Some(number) = stack.pop() {
        rank[number] = next;
        next += 1;
        for used in &direct[number] {
            users[*used] -= 1;
            if users[*used] == 0 {
                stack.push(*used);
            }
        }
    }
    rank
}
