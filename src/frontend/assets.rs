//! Boot assets over HTTP: files, their checksums, and scripts for iPXE.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use super::Peer;
use super::body::Body;
use super::disposition::attachment;
use super::error::{ApiError, OciCode};
use super::http::{TEXT, fixed};
use super::range;
use crate::factory::{Algorithm, Asset, Credentials, Factory};
use crate::sign::cosign::BUNDLE;

/// RFC 9530, section 3.
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");
/// What is addressed by a schematic and a version does not change.
const FOREVER: &str = "public, max-age=31536000, immutable";

/// Answers `/image/<schematic>/<version>/<path>`.
pub async fn image(
    factory: &Arc<Factory>,
    (schematic, version, path): (&str, &str, &str),
    request: &Parts,
) -> Result<Response<Body>, ApiError> {
    let beside = [
        (".sha256", Beside::Checksum(Algorithm::Sha256)),
        (".sha512", Beside::Checksum(Algorithm::Sha512)),
        (".sigstore.json", Beside::Bundle),
    ];
    let beside = beside.into_iter().find_map(|(suffix, beside)| Some((path.strip_suffix(suffix)?, Some(beside))));
    let (of, beside) = beside.unwrap_or((path, None));
    let asset = factory.asset(schematic, version, of).await?;
    let name = filename(request.uri.query());
    let name = name.as_deref().unwrap_or(of);
    match beside {
        Some(Beside::Checksum(algorithm)) => checksum(factory, &asset, algorithm, name, request).await,
        Some(Beside::Bundle) => bundle(factory, &asset, name, request).await,
        None => file(factory, &asset, name, request),
    }
}

/// What there is beside each asset.
enum Beside {
    /// Its checksum.
    Checksum(Algorithm),
    /// A Sigstore bundle over it.
    Bundle,
}

/// The `filename` of a query; an empty one counts as none.
fn filename(query: Option<&str>) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(query?.as_bytes());
    let (_, name) = pairs.find(|(key, _)| key == "filename")?;
    (!name.is_empty()).then(|| name.into_owned())
}

fn invalid(text: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, OciCode::Unsupported, text)
}

fn file(factory: &Factory, asset: &Asset, name: &str, request: &Parts) -> Result<Response<Body>, ApiError> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(asset.content_type()));
    headers.insert(CONTENT_DISPOSITION, attachment(name).map_err(invalid)?);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(FOREVER));
    if let Some(checksum) = factory.known_checksum(asset, Algorithm::Sha256)
        && let Ok(value) = HeaderValue::from_str(&format!("sha-256=:{}:", STANDARD.encode(checksum)))
    {
        headers.insert(REPR_DIGEST, value);
    }
    let etag = format!("\"{}\"", asset.extents.hex());
    Ok(range::respond(&request.headers, headers, &etag, &asset.file, factory.blobs()))
}

/// A line as `sha256sum -c` reads it.
async fn checksum(
    factory: &Factory,
    asset: &Asset,
    algorithm: Algorithm,
    name: &str,
    request: &Parts,
) -> Result<Response<Body>, ApiError> {
    // The name stands in the line, too.
    attachment(name).map_err(invalid)?;
    let disposition = attachment(&format!("{name}.{algorithm}")).map_err(invalid)?;
    let line = |hex: &str| format!("{hex}  {name}\n");
    // How long the answer is needs no computing.
    let text = if request.method == Method::HEAD {
        line(&"0".repeat(algorithm.checksum_len() * 2))
    } else {
        line(&hex::encode(factory.checksum(asset, algorithm, client(request)).await?))
    };
    let mut response = fixed(StatusCode::OK, TEXT, text);
    response.headers_mut().insert(CONTENT_DISPOSITION, disposition);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(FOREVER));
    Ok(response)
}

/// Signed with the key of `/oci/cosign/signing-key.pub`: `cosign verify-blob` and `image-factory verify bundle` read it.
async fn bundle(factory: &Factory, asset: &Asset, name: &str, request: &Parts) -> Result<Response<Body>, ApiError> {
    let disposition = attachment(&format!("{name}.sigstore.json")).map_err(invalid)?;
    // For HEAD too: signatures differ in length.
    let text = factory.bundle(asset, client(request)).await?;
    let mut response = fixed(StatusCode::OK, BUNDLE, text);
    response.headers_mut().insert(CONTENT_DISPOSITION, disposition);
    Ok(response)
}

/// Who asks.
fn client(request: &Parts) -> IpAddr {
    request.extensions.get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0)
}

/// Answers `/pxe/<schematic>/<version>/<path>`.
pub async fn pxe(
    factory: &Factory,
    (schematic, version, path): (&str, &str, &str),
    request: &Parts,
) -> Result<Response<Body>, ApiError> {
    let credentials = request.headers.get(AUTHORIZATION).and_then(basic);
    let script = factory.pxe_script(schematic, version, path, credentials).await?;
    Ok(fixed(StatusCode::OK, TEXT, script))
}

/// Basic credentials (RFC 7617); other schemes are nothing that a URL can carry.
fn basic(header: &HeaderValue) -> Option<Credentials> {
    let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
    let decoded = STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(Credentials { user: user.to_owned(), password: password.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials_are_read_and_others_are_not() {
        let read = |text: &str| basic(&HeaderValue::from_str(text).unwrap());
        let want = Credentials { user: "u".to_owned(), password: "p:q".to_owned() };
        assert_eq!(read(&format!("basic {}", STANDARD.encode("u:p:q"))), Some(want));
        for other in ["Bearer abc", "Basic", "Basic !", "Basic dQ=="] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn the_first_filename_counts() {
        assert_eq!(filename(Some("x=1&filename=a%20b&filename=c")).as_deref(), Some("a b"));
        for none in [None, Some(""), Some("filename="), Some("Filename=x")] {
            assert_eq!(filename(none), None);
        }
    }
}
