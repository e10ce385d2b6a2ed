//! Small readings of texts that several files share, and `modules.devname`.

/// The values of a key of module information.
pub fn values<'a>(info: &'a [(String, String)], key: &'a str) -> impl Iterator<Item = &'a str> {
    info.iter().filter(move |(found, _)| found == key).map(|(_, value)| value.as_str())
}

/// `modules.devname`: device nodes that load their module when they are opened.
pub fn devname<'a>(modules: impl Iterator<Item = (&'a str, &'a [(String, String)])>) -> Vec<u8> {
    let mut out = String::new();
    for (name, info) in modules {
        let (mut node, mut numbers) = (None, None);
        for alias in values(info, "alias") {
            if let Some(path) = alias.strip_prefix("devname:") {
                node = Some(path);
            } else if let Some(found) = device(alias) {
                numbers = Some(found);
            }
            if node.is_some() && numbers.is_some() {
                break;
            }
        }
        if let (Some(node), Some((kind, major, minor))) = (node, numbers) {
            if out.is_empty() {
                out.push_str("# Device nodes to trigger on-demand module loading.\n");
            }
            out.push_str(&format!("{name} {node} {kind}{major}:{minor}\n"));
        }
    }
    out.into_bytes()
}

/// Kind, major and minor number of `char-major-A-B` or `block-major-A-B`.
fn device(alias: &str) -> Option<(char, u32, u32)> {
    let (kind, rest) = match alias.strip_prefix("char-major-") {
        Some(rest) => ('c', rest),
        None => ('b', alias.strip_prefix("block-major-")?),
    };
    let (major, minor) = rest.split_once('-')?;
    let digits = minor.find(|c: char| !c.is_ascii_digit()).unwrap_or(minor.len());
    Some((kind, major.parse().ok()?, minor[..digits].parse().ok()?))
}

/// An alias as the binary indexes have it: `-` is `_`, but not inside brackets; `None` where brackets do not match.
pub fn normalize(alias: &str) -> Option<String> {
    let (mut out, mut inside) = (String::with_capacity(alias.len()), false);
    for c in alias.chars() {
        match c {
            ']' if !inside => return None,
            ']' => inside = false,
            '[' if !inside => inside = true,
            _ => {}
        }
        out.push(if c == '-' && !inside { '_' } else { c });
    }
    (!inside).then_some(out)
}

/// The aliases of modules that are built into the kernel, out of `modules.builtin.modinfo`, as the binary indexes have
/// them: alias and module.
pub fn builtin_aliases(modinfo: &[u8]) -> Vec<(String, String)> {
    let Some(end) = modinfo.iter().rposition(|byte| *byte == 0) else { return Vec::new() };
    let mut found = Vec::new();
    for record in modinfo[..end].split(|byte| *byte == 0) {
        let record = String::from_utf8_lossy(record);
        if let Some((module, rest)) = record.split_once('.')
            && let Some(("alias", value)) = rest.split_once('=')
            && !value.is_empty()
            && let Some(alias) = normalize(value)
        {
            found.push((alias, module.to_owned()));
        }
    }
    found
}
