//! The rooms' dependencies point down only; this test reads the `use crate::` paths and holds them to it.

#[cfg(test)]
mod rooms {
    use std::fs;
    use std::path::{Path, PathBuf};

    /// Rooms from top to bottom; those of one line do not know one another.
    const FLOORS: &[&[&str]] = &[
        &["cli"],
        &["server"],
        &["frontend"],
        &["factory"],
        &["catalog", "assemble"],
        &["schematic"],
        &["format", "encode"],
        &["sign", "verify"],
        &["upstream"],
        &["store", "sandbox"],
        &["config", "telemetry"],
        &["virtual_file"],
        &["types"],
    ];

    fn floor(room: &str) -> usize {
        FLOORS.iter().position(|floor| floor.contains(&room)).unwrap_or_else(|| panic!("room {room} has no floor"))
    }

    fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, out);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                out.push(path);
            }
        }
    }

    #[test]
    fn dependencies_point_down() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        sources(&src, &mut files);
        let (mut wrong, mut seen) = (Vec::new(), 0);
        for path in files {
            let inside = path.strip_prefix(&src).unwrap();
            let Some(room) = inside.iter().next().and_then(|first| first.to_str()) else { continue };
            if room.ends_with(".rs") {
                continue; // lib.rs and main.rs wire everything
            }
            let text = fs::read_to_string(&path).unwrap();
            for part in text.split("crate::").skip(1) {
                let target: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if target.is_empty() || target == room {
                    continue;
                }
                seen += 1;
                if floor(&target) <= floor(room) {
                    wrong.push(format!("{}: {room} uses {target}", inside.display()));
                }
            }
        }
        assert!(seen > 0, "no use of another room was found: the test reads the wrong files");
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
