//! Values by key, with where each came from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ConfigError;
use super::keys::{self, KEYS, Key, Kind};

/// A value and its source.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The value as text; list items joined by commas.
    pub text: String,
    /// `default`, a file's path, or an environment variable's name.
    pub source: String,
}

/// Where to read settings from, in order; later ones override.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A YAML, JSON or dotenv (`*.env`) file.
    File(PathBuf),
    /// Environment variables with this prefix.
    Environment(String),
}

impl Source {
    /// Reads an argument of `--config`: `FILE`, `file=FILE` or `env=PREFIX`.
    pub fn parse(text: &str) -> Self {
        match text.split_once('=') {
            Some(("env", prefix)) => Self::Environment(prefix.to_owned()),
            Some(("file", path)) => Self::File(path.into()),
            _ => Self::File(text.into()),
        }
    }
}

/// All settings by path.
#[derive(Clone, Debug)]
pub struct Values {
    settings: BTreeMap<String, Setting>,
    /// Sentences about keys that have no effect here.
    pub warnings: Vec<String>,
}

/// The source of values that no source gives.
const DEFAULT: &str = "default";

/// The prefix of environment variables where no source names another.
pub const ENVIRONMENT_PREFIX: &str = "IF_";

impl Values {
    /// Defaults overridden by the sources in order; the environment with prefix `IF_` comes last unless a source names
    /// the environment itself.
    ///
    /// # Errors
    /// [`ConfigError`] naming the source and the key.
    pub fn load(sources: &[Source], environment: &[(String, String)]) -> Result<Self, ConfigError> {
        let settings = KEYS
            .iter()
            .map(|key| (key.path.to_owned(), Setting { text: key.default.to_owned(), source: DEFAULT.to_owned() }))
            .collect();
        let mut values = Self { settings, warnings: Vec::new() };
        let mut sources = sources.to_vec();
        if !sources.iter().any(|source| matches!(source, Source::Environment(_))) {
            sources.push(Source::Environment(ENVIRONMENT_PREFIX.to_owned()));
        }
        for source in &sources {
            match source {
                Source::Environment(prefix) => values.apply_environment(prefix, environment, None)?,
                Source::File(path) if path.extension().is_some_and(|ext| ext == "env") || path.ends_with(".env") => {
                    let entries: Result<Vec<_>, _> = dotenvy::from_path_iter(path)
                        .map_err(|e| ConfigError::File { path: path.clone(), reason: e.to_string() })?
                        .collect();
                    let entries =
                        entries.map_err(|e| ConfigError::File { path: path.clone(), reason: e.to_string() })?;
                    values.apply_environment(ENVIRONMENT_PREFIX, &entries, Some(path))?;
                }
                Source::File(path) => values.apply_file(path)?,
            }
        }
        Ok(values)
    }

    fn apply_environment(
        &mut self,
        prefix: &str,
        entries: &[(String, String)],
        file: Option<&Path>,
    ) -> Result<(), ConfigError> {
        for (name, text) in entries {
            let Some(rest) = name.strip_prefix(prefix) else {
                if let Some(path) = file {
                    let source = path.display().to_string();
                    return Err(ConfigError::Unknown { key: name.clone(), origin: source, nearest: String::new() });
                }
                continue;
            };
            let source = match file {
                Some(path) => format!("{}: {name}", path.display()),
                None => format!("environment: {name}"),
            };
            let path = KEYS
                .iter()
                .map(|key| key.path.to_owned())
                .find(|path| path.replace('.', "_").eq_ignore_ascii_case(rest))
                .unwrap_or_else(|| from_variable(rest));
            self.set(&path, text.clone(), source, name)?;
        }
        Ok(())
    }

    fn apply_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let failed = |reason: String| ConfigError::File { path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
        let root: serde_yaml::Value = serde_yaml::from_str(&text).map_err(|e| failed(e.to_string()))?;
        let mut leaves = Vec::new();
        flatten("", &root, &mut leaves).map_err(failed)?;
        for (key, text) in leaves {
            self.set(&key, text, path.display().to_string(), &key)?;
        }
        Ok(())
    }

    fn set(&mut self, path: &str, text: String, source: String, shown: &str) -> Result<(), ConfigError> {
        match KEYS.iter().find(|key| key.path == path) {
            Some(key) => {
                check(key, &text, &source)?;
                self.settings.insert(path.to_owned(), Setting { text, source });
            }
            None => match keys::ignored(path) {
                Some(why) => self.warnings.push(format!("{shown} ({source}) has no effect: {why}")),
                None => {
                    let nearest = nearest(path);
                    return Err(ConfigError::Unknown { key: shown.to_owned(), origin: source, nearest });
                }
            },
        }
        Ok(())
    }

    /// All settings, sorted by path.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.settings.iter().map(|(path, setting)| (path.as_str(), setting))
    }

    /// The text of a key of the table.
    pub(super) fn text(&self, path: &str) -> &str {
        self.settings.get(path).map_or("", |setting| setting.text.as_str())
    }

    /// The text, if not empty.
    pub(super) fn optional(&self, path: &str) -> Option<String> {
        Some(self.text(path)).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// Whether no source set the key.
    pub(super) fn is_default(&self, path: &str) -> bool {
        self.settings.get(path).is_some_and(|setting| setting.source == DEFAULT)
    }

    pub(super) fn flag(&self, path: &str) -> bool {
        parse_bool(self.text(path)).unwrap_or(false)
    }

    pub(super) fn integer(&self, path: &str) -> usize {
        self.text(path).parse().unwrap_or(0)
    }

    pub(super) fn duration(&self, path: &str) -> Duration {
        parse_duration(self.text(path)).unwrap_or_default()
    }

    pub(super) fn size(&self, path: &str) -> Option<u64> {
        parse_size(self.text(path)).ok().flatten()
    }

    pub(super) fn list(&self, path: &str) -> Vec<String> {
        self.text(path).split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    /// Refuses a key's value with a reason.
    pub(super) fn refuse(&self, path: &str, reason: impl Into<String>) -> ConfigError {
        let origin = self.settings.get(path).map_or_else(String::new, |setting| setting.source.clone());
        ConfigError::Value { key: path.to_owned(), text: self.text(path).to_owned(), origin, reason: reason.into() }
    }
}

/// `CACHE_OCI_REGISTRY` as the dotted path that a prefix of ignored keys would match.
fn from_variable(rest: &str) -> String {
    keys::IGNORED
        .iter()
        .find(|(prefix, _)| {
            let upper = prefix.replace('.', "_").to_ascii_uppercase();
            rest.to_ascii_uppercase().starts_with(&upper)
        })
        .map_or_else(|| rest.replace('_', "."), |(prefix, _)| format!("{prefix}{}", &rest[prefix.len()..]))
}

/// The known key whose last word is that of `path`, as a hint.
fn nearest(path: &str) -> String {
    let last = path.rsplit('.').next().unwrap_or(path);
    KEYS.iter()
        .find(|key| key.path.rsplit('.').next().is_some_and(|word| word.eq_ignore_ascii_case(last)))
        .map_or_else(String::new, |key| format!("; did you mean {}?", key.path))
}

/// The leaves of a YAML tree as dotted paths and texts.
fn flatten(prefix: &str, node: &serde_yaml::Value, out: &mut Vec<(String, String)>) -> Result<(), String> {
    use serde_yaml::Value;
    let scalar = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null => Some(String::new()),
        _ => None,
    };
    match node {
        Value::Mapping(map) => {
            for (key, value) in map {
                let key = key.as_str().ok_or_else(|| format!("a key below {prefix:?} is not text"))?;
                let path = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
                flatten(&path, value, out)?;
            }
        }
        Value::Null if prefix.is_empty() => {}
        Value::Sequence(items) => {
            let items: Option<Vec<String>> = items.iter().map(scalar).collect();
            let items = items.ok_or_else(|| format!("{prefix}: a list of texts is expected"))?;
            out.push((prefix.to_owned(), items.join(",")));
        }
        other => {
            if prefix.is_empty() {
                return Err("a mapping is expected at the top".to_owned());
            }
            out.push((prefix.to_owned(), scalar(other).ok_or_else(|| format!("{prefix}: a plain value is expected"))?));
        }
    }
    Ok(())
}

fn check(key: &Key, text: &str, source: &str) -> Result<(), ConfigError> {
    let refuse = |reason: String| {
        Err(ConfigError::Value { key: key.path.to_owned(), text: text.to_owned(), origin: source.to_owned(), reason })
    };
    let wrong = match key.kind {
        Kind::Text | Kind::List => None,
        Kind::Bool => parse_bool(text).err(),
        Kind::Integer => text.parse::<usize>().err().map(|_| "a whole number is expected".to_owned()),
        Kind::Duration => parse_duration(text).err(),
        Kind::Size => parse_size(text).err(),
    };
    match wrong {
        Some(reason) => refuse(reason),
        None if !key.available && text != key.default => refuse("not available in this version".to_owned()),
        None => Ok(()),
    }
}

fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("true or false is expected".to_owned()),
    }
}

/// Go's notation: numbers with `ms`, `s`, `m`, `h`, one after another.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || "a duration such as 300ms, 15m or 1h30m is expected".to_owned();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let tail = &rest[digits..];
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let unit = match &tail[..end] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        total += Duration::try_from_secs_f64(number * unit).map_err(|_| wrong())?;
        rest = &tail[end..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

fn parse_size(text: &str) -> Result<Option<u64>, String> {
    let wrong = || "a size such as 64KiB, 500MB or 20GiB is expected".to_owned();
    if text.is_empty() {
        return Ok(None);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let unit = text[digits..].trim().trim_end_matches('B');
    let (letter, base) = match unit.strip_suffix('i') {
        Some(letter) => (letter, 1024u64),
        None => (unit, 1000),
    };
    let power = match letter {
        "" => 0,
        "k" | "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        _ => return Err(wrong()),
    };
    base.checked_pow(power).and_then(|factor| number.checked_mul(factor)).map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_as_their_notations_say() {
        assert_eq!(parse_duration("1h30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(parse_duration("250ms").unwrap(), Duration::from_millis(250));
        assert_eq!(parse_size("64KiB").unwrap(), Some(65536));
        assert_eq!(parse_size("20GB").unwrap(), Some(20_000_000_000));
        for bad in ["", "5", "m", "5x", "1h 3m", "-1s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        for bad in ["x", "5Q", "-1", "99999999999T"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
