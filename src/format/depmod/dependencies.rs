//! Which modules a module needs, directly and indirectly.

/// What stands for no module.
pub const NONE: u32 = u32::MAX;

/// For each module the modules that it needs itself, in the order in which it names their symbols. `needs` are the
/// modules' symbols, `owners` the module that each symbol is had from.
pub fn direct<'a>(needs: impl Iterator<Item = &'a [u32]>, owners: &[u32]) -> Vec<Vec<usize>> {
    let mut seen: Vec<u32> = Vec::new();
    let direct = needs.zip(0..).map(|(needs, number)| {
        let mut found = Vec::new();
        for symbol in needs {
            let owner = owners[*symbol as usize];
            if owner == NONE || owner == number {
                continue;
            }
            let owner = owner as usize;
            if seen.len() <= owner {
                seen.resize(owner + 1, NONE);
            }
            if seen[owner] != number {
                seen[owner] = number;
                found.push(owner);
            }
        }
        found
    });
    direct.collect()
}

/// For each module all modules that it needs, those first that themselves need others of them. Modules in a cycle, and
/// those that only they need, come last; depmod itself refuses such a tree.
pub fn dependencies(direct: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let rank = ranks(direct);
    let mut seen = vec![usize::MAX; direct.len()];
    (0..direct.len())
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
