//! The `WWW-Authenticate` header (RFC 9110, section 11.6.1; Docker's "Token Authentication Specification").

/// What a registry wants to see before it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Name and password.
    Basic,
    /// A token from the server at `realm`.
    Bearer {
        /// URL of the token server.
        realm: String,
        /// Name of the registry for it.
        service: Option<String>,
        /// What the token must allow.
        scope: Option<String>,
    },
}

/// Reads the challenges of one header. What cannot be read is left out; a scheme that we do not speak, too.
pub(super) fn parse(header: &str) -> Vec<Challenge> {
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = header;
    loop {
        // An equals sign is left over from base64 in place of parameters, which only other schemes have.
        rest = rest.trim_start_matches([' ', '\t', ',', '=']);
        let (word, after) = token(rest);
        if word.is_empty() {
            break;
        }
        match after.trim_start().strip_prefix('=') {
            Some(value) => {
                let (value, behind) = value_of(value.trim_start());
                if let Some((_, parameters)) = found.last_mut() {
                    parameters.push((word.to_ascii_lowercase(), value));
                }
                rest = behind;
            }
            None => {
                found.push((word.to_ascii_lowercase(), Vec::new()));
                rest = after;
            }
        }
    }
    found.into_iter().filter_map(|(scheme, parameters)| known(&scheme, parameters)).collect()
}

fn known(scheme: &str, parameters: Vec<(String, String)>) -> Option<Challenge> {
    if scheme == "basic" {
        return Some(Challenge::Basic);
    }
    if scheme != "bearer" {
        return None;
    }
    let get = |name: &str| {
        parameters.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.clone())
    };
    Some(Challenge::Bearer { realm: get("realm")?, service: get("service"), scope: get("scope") })
}

/// A token of RFC 9110, section 5.6.2, at the start of `text`, and what comes behind it.
fn token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    text.split_at(text.find(|c| !is_token(c)).unwrap_or(text.len()))
}

/// A token or quoted string at the start of `text`, and what comes behind it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (word, rest) = token(text);
        return (word.to_owned(), rest);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        }
    }

    #[test]
    fn what_registries_say_is_understood() {
        let header = r#"Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:a/b:pull,push""#;
        assert_eq!(parse(header), [bearer("https://ghcr.io/token", Some("ghcr.io"), Some("repository:a/b:pull,push"))]);
        assert_eq!(parse("BASIC realm=\"r, \\\"q\\\" Bearer realm=x\""), [Challenge::Basic]);
        let both = r#"Negotiate abc==, Basic realm=x , bearer scope="", realm = "https://t""#;
        assert_eq!(parse(both), [Challenge::Basic, bearer("https://t", None, None)]);
        for nothing in ["", "Bearer", "Bearer service=x", "=", "\"", "realm=x", "é"] {
            assert_eq!(parse(nothing), [], "{nothing}");
        }
        assert_eq!(parse("Bearer realm=\"open"), [bearer("open", None, None)]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC*", tail in "[Bbearsic=\", \\\\]{0,40}") {
            let both = parse(&format!("{text}Bearer realm=\"r\"{tail}"));
            prop_assert!(both.len() <= text.len() + tail.len() + 1);
        }
    }
}
