//! Ranges of semantic versions: `>= v1.5.0 < 2.0.0 || = 2.1.0`.

/// A range that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is no range of versions such as \">= v1.5.0\": {reason}")]
pub struct ConstraintError {
    text: String,
    reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
}

/// A comparison with a version: major, minor, patch.
type Bound = (Comparison, (u64, u64, u64));

/// Alternatives, each a list of comparisons that must all hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint(Vec<Vec<Bound>>);

/// Operators, longest first.
const OPERATORS: &[(&str, Comparison)] = &[
    (">=", Comparison::GreaterOrEqual),
    ("<=", Comparison::LessOrEqual),
    ("!=", Comparison::NotEqual),
    ("==", Comparison::Equal),
    (">", Comparison::Greater),
    ("<", Comparison::Less),
    ("!", Comparison::NotEqual),
    ("=", Comparison::Equal),
];

impl Constraint {
    /// Reads a range: comparisons next to one another must all hold, `||` separates alternatives; versions may have a `v`.
    ///
    /// # Errors
    /// [`ConstraintError`] with the text.
    pub fn parse(text: &str) -> Result<Self, ConstraintError> {
        let failed = |reason: String| ConstraintError { text: text.chars().take(200).collect(), reason };
        let alternatives = text.split("||").map(|part| alternative(part).map_err(failed));
        Ok(Self(alternatives.collect::<Result<_, _>>()?))
    }

    /// Whether the version `major.minor.patch` lies in the range.
    pub fn allows(&self, major: u64, minor: u64, patch: u64) -> bool {
        let version = (major, minor, patch);
        self.0.iter().any(|all| {
            all.iter().all(|(comparison, bound)| match comparison {
                Comparison::Less => version < *bound,
                Comparison::LessOrEqual => version <= *bound,
                Comparison::Equal => version == *bound,
                Comparison::NotEqual => version != *bound,
                Comparison::Greater => version > *bound,
                Comparison::GreaterOrEqual => version >= *bound,
            })
        })
    }
}

fn alternative(text: &str) -> Result<Vec<Bound>, String> {
    let (mut rest, mut all) = (text.trim(), Vec::new());
    if rest.is_empty() {
        return Err("a comparison is missing".to_owned());
    }
    while !rest.is_empty() {
        let found = OPERATORS.iter().find(|(operator, _)| rest.starts_with(operator));
        let (comparison, after) = match found {
            Some((operator, comparison)) => (*comparison, &rest[operator.len()..]),
            None => (Comparison::Equal, rest),
        };
        let after = after.trim_start();
        let end =
            after.find(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | '=' | '!' | ',')).unwrap_or(after.len());
        all.push((comparison, version(&after[..end])?));
        rest = after[end..].trim_start_matches(|c: char| c.is_whitespace() || c == ',');
    }
    Ok(all)
}

fn version(text: &str) -> Result<(u64, u64, u64), String> {
    let bare = text.strip_prefix('v').unwrap_or(text);
    let version = semver::Version::parse(bare).map_err(|error| format!("{text:?}: {error}"))?;
    Ok((version.major, version.minor, version.patch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_allow_what_they_say() {
        let allows = |range: &str, v| {
            let (major, minor, patch) = v;
            Constraint::parse(range).unwrap().allows(major, minor, patch)
        };
        assert!(allows(">= v1.5.0", (1, 5, 0)) && !allows(">= v1.5.0", (1, 4, 9)));
        assert!(allows(">=1.5.0 <2.0.0", (1, 9, 0)) && !allows(">=1.5.0 <2.0.0", (2, 0, 0)));
        assert!(allows("1.0.0 || > 2.0.0", (2, 0, 1)) && allows("1.0.0||>2.0.0", (1, 0, 0)));
        assert!(!allows("!=1.2.3", (1, 2, 3)) && allows("> 1.0.0, < 1.2.0", (1, 1, 0)));
        for bad in ["", ">=", ">= 1.5", "x", "1.0.0 ||", ">>1.0.0"] {
            assert!(Constraint::parse(bad).is_err(), "{bad}");
        }
    }
}
