//! The route table.

use http::Method;
use percent_encoding::percent_decode_str;

use super::registry::Target;

/// A route with the variable parts of its path, percent-decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/healthz`: the process is up.
    Health,
    /// `/readyz`: it can serve what it promises.
    Ready,
    /// `/llms.txt`: what this service is, for programs that read prose.
    Llms,
    /// `/schematics`: make one.
    Schematics,
    /// `/schematics/:id`
    Schematic(String),
    /// `/versions`
    Versions,
    /// `/version/:version/extensions/official`
    Extensions(String),
    /// `/version/:version/overlays/official`
    Overlays(String),
    /// `/talosctl/:version`
    Talosctl(String),
    /// `/talosctl/:version/:file`
    TalosctlFile(String, String),
    /// `/image/:schematic/:version/:path`
    Image(String, String, String),
    /// `/pxe/:schematic/:version/:path`
    Pxe(String, String, String),
    /// `/oci/cosign/signing-key.pub`
    SigningKey,
    /// Everything below `/v2`.
    Registry(Target),
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A route.
    Route(Route),
    /// Another spelling of a route's path.
    Moved(String),
    /// Nothing.
    Nothing,
}

impl Route {
    /// The methods that the route answers, OPTIONS aside.
    pub const fn methods(&self) -> &'static [Method] {
        match self {
            Self::Schematics => &[Method::POST],
            _ => &[Method::GET, Method::HEAD],
        }
    }
}

impl Found {
    /// The name of the route in metrics and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Moved(_) => "moved",
            Self::Nothing => "none",
            Self::Route(route) => match route {
                Route::Health => "healthz",
                Route::Ready => "readyz",
                Route::Llms => "llms",
                Route::Schematics | Route::Schematic(_) => "schematics",
                Route::Versions => "versions",
                Route::Extensions(_) => "extensions",
                Route::Overlays(_) => "overlays",
                Route::Talosctl(_) | Route::TalosctlFile(..) => "talosctl",
                Route::Image(..) => "image",
                Route::Pxe(..) => "pxe",
                Route::SigningKey => "signing-key",
                Route::Registry(target) => target.name(),
            },
        }
    }
}

/// Finds the route of a path as it stands in the request line.
pub fn find(path: &str) -> Found {
    if let Some(rest) = path.strip_prefix("/v2").filter(|rest| rest.is_empty() || rest.starts_with('/')) {
        return Found::Route(Route::Registry(Target::parse(rest)));
    }
    if let Some(route) = exact(path) {
        return Found::Route(route);
    }
    // Doubled and trailing slashes and capitals in fixed words lead to the right spelling.
    let words: Vec<&str> = path.split('/').filter(|word| !word.is_empty()).collect();
    let cleaned = format!("/{}", words.join("/"));
    let lowered: Vec<String> = words
        .iter()
        .enumerate()
        .map(|(n, word)| if n == 0 { word.to_ascii_lowercase() } else { (*word).to_owned() })
        .collect();
    [cleaned, format!("/{}", lowered.join("/"))]
        .into_iter()
        .find(|candidate| candidate != path && exact(candidate).is_some())
        .map_or(Found::Nothing, Found::Moved)
}

fn exact(path: &str) -> Option<Route> {
    let words: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    Some(match words.as_slice() {
        ["healthz"] => Route::Health,
        ["readyz"] => Route::Ready,
        ["llms.txt"] => Route::Llms,
        ["schematics"] => Route::Schematics,
        ["schematics", id] => Route::Schematic(decode(id)?),
        ["versions"] => Route::Versions,
        ["version", version, "extensions", "official"] => Route::Extensions(decode(version)?),
        ["version", version, "overlays", "official"] => Route::Overlays(decode(version)?),
        ["talosctl", version] => Route::Talosctl(decode(version)?),
        ["talosctl", version, file] => Route::TalosctlFile(decode(version)?, decode(file)?),
        ["image", schematic, version, path] => Route::Image(decode(schematic)?, decode(version)?, decode(path)?),
        ["pxe", schematic, version, path] => Route::Pxe(decode(schematic)?, decode(version)?, decode(path)?),
        ["oci", "cosign", "signing-key.pub"] => Route::SigningKey,
        _ => return None,
    })
}

/// One variable word of a path: not empty, no slash even when encoded, UTF-8.
fn decode(word: &str) -> Option<String> {
    let text = percent_decode_str(word).decode_utf8().ok()?;
    (!text.is_empty() && !text.contains('/')).then(|| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_where_the_table_says() {
        assert_eq!(find("/versions"), Found::Route(Route::Versions));
        assert_eq!(find("/version/v1.13.2%2F../extensions/official"), Found::Nothing);
        assert_eq!(find("/version/%20v1/extensions/official"), Found::Route(Route::Extensions(" v1".to_owned())));
        assert_eq!(find("//healthz"), Found::Moved("/healthz".to_owned()));
        assert_eq!(find("/HEALTHZ"), Found::Moved("/healthz".to_owned()));
        assert_eq!(find("/schematics/aB/"), Found::Moved("/schematics/aB".to_owned()));
        let tags = |name: &str| Found::Route(Route::Registry(Target::Tags(name.to_owned())));
        assert_eq!(find("/v2/v2/v2/tags/list"), tags("v2/v2"));
        assert_eq!(find("/v2/v2x/tags/list"), tags("v2x"));
        for nothing in ["/", "/version/v1.13.2", "/talosctl", "/image", "/schematics/a/b", ""] {
            assert_eq!(find(nothing), Found::Nothing, "{nothing}");
        }
    }
}
