//! A registry as an upstream: the pull side of the OCI distribution specification 1.1.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::types::Digest;

use super::UpstreamConfig;
use super::error::{Place, UpstreamError};
use super::manifest::{Content, Descriptor, Manifest, ManifestType};
use super::name::{Reference, is_tag, shortened};
use super::retry::Retry;
use super::transport::{Answer, Transport};

/// Pages of a list that are read at most.
const MAX_PAGES: usize = 200;
/// Entries of a list that are kept at most.
const MAX_ENTRIES: usize = 200_000;
/// Statuses by which registries say that they have no referrers API.
const NO_REFERRERS_API: &[u16] = &[400, 404, 405, 406, 501];

/// One registry.
pub(super) struct Registry {
    pub(super) transport: Transport,
    pub(super) retry: Retry,
    pub(super) max_manifest: u64,
}

#[derive(Deserialize)]
struct Tags {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

/// A list of referrers; its entries are read one by one, so that a strange one does not hide the others.
#[derive(Deserialize)]
struct Referrers {
    manifests: Option<Vec<Value>>,
}

impl Registry {
    pub fn new(config: &UpstreamConfig) -> Result<Self, UpstreamError> {
        Ok(Self {
            transport: Transport::new(config)?,
            retry: Retry { attempts: config.attempts, base: config.backoff, cap: config.max_backoff },
            max_manifest: config.max_manifest,
        })
    }

    /// One whole answer, asked for as often as the policy allows.
    async fn get(
        &self,
        place: &Place,
        url: &Url,
        accept: &str,
        max: u64,
        also: &[u16],
    ) -> Result<Answer, UpstreamError> {
        self.retry.run(|| self.transport.fetch(place, url, accept, max, also)).await
    }

    pub(super) async fn url(&self, place: &Place, path: &str) -> Result<Url, UpstreamError> {
        self.retry.run(|| self.transport.url(place, path)).await
    }

    pub async fn tags(&self, place: &Place) -> Result<Vec<String>, UpstreamError> {
        let mut url = self.url(place, &format!("v2/{}/tags/list?n=1000", place.repository)).await?;
        let mut tags: Vec<String> = Vec::new();
        for _ in 0..MAX_PAGES {
            let answer = self.get(place, &url, "application/json", self.max_manifest, &[]).await?;
            let page: Tags = parse(place, &answer, "a list of tags")?;
            tags.extend(page.tags.unwrap_or_default().into_iter().filter(|tag| is_tag(tag)));
            if tags.len() > MAX_ENTRIES {
                return Err(place.bad(format!("more than {MAX_ENTRIES} tags")));
            }
            match next_page(place, &answer, &url)? {
                Some(next) => url = next,
                None => return Ok(tags),
            }
        }
        Err(place.bad(format!("more than {MAX_PAGES} pages of tags")))
    }

    pub async fn manifest(&self, place: &Place, reference: &Reference) -> Result<Manifest, UpstreamError> {
        let url = self.url(place, &format!("v2/{}/manifests/{reference}", place.repository)).await?;
        let accept = ManifestType::ALL.map(ManifestType::as_str).join(", ");
        let answer = self.get(place, &url, &accept, self.max_manifest, &[]).await?;
        let found = Digest::of(&answer.bytes);
        let expected = match reference {
            Reference::Digest(digest) => Some(*digest),
            // The header is checked only where the registry's word is all there is.
            Reference::Tag(_) => announced_digest(place, &answer)?,
        };
        if let Some(expected) = expected
            && expected != found
        {
            return Err(place.bad(format!("the manifest has digest {found}, not {expected}")));
        }
        Manifest::parse(answer.bytes.clone(), answer.header("content-type"))
            .map_err(|error| place.bad(error.to_string()))
    }

    /// Whoever refers to `digest`: by the referrers API, or by the fallback tag where there is no API or it knows nobody.
    pub async fn referrers(&self, place: &Place, digest: &Digest) -> Result<Vec<Descriptor>, UpstreamError> {
        let mut url = self.url(place, &format!("v2/{}/referrers/{digest}", place.repository)).await?;
        let mut found = Vec::new();
        for page in 0..MAX_PAGES {
            let accept = ManifestType::OciIndex.as_str();
            let also = if page == 0 { NO_REFERRERS_API } else { &[] };
            let answer = self.get(place, &url, accept, self.max_manifest, also).await?;
            let index = answer.header("content-type").and_then(ManifestType::parse) == Some(ManifestType::OciIndex);
            if page == 0 && (!answer.status.is_success() || !index) {
                // Some registries lead unknown routes to a web page: that, too, is no API.
                return self.fallback(place, digest).await;
            }
            let list: Referrers = parse(place, &answer, "a list of referrers")?;
            for entry in list.manifests.unwrap_or_default() {
                match Descriptor::deserialize(&entry) {
                    Ok(descriptor) => found.push(descriptor),
                    Err(error) => tracing::debug!(%place, %error, "a referrer's descriptor cannot be read"),
                }
            }
            if found.len() > MAX_ENTRIES {
                return Err(place.bad(format!("more than {MAX_ENTRIES} referrers")));
            }
            match next_page(place, &answer, &url)? {
                Some(next) => url = next,
                None if found.is_empty() => return self.fallback(place, digest).await,
                None => return Ok(found),
            }
        }
        Err(place.bad(format!("more than {MAX_PAGES} pages of referrers")))
    }

    /// The referrers tag schema: an index under the tag `sha256-<hex>`.
    async fn fallback(&self, place: &Place, digest: &Digest) -> Result<Vec<Descriptor>, UpstreamError> {
        let reference = Reference::Tag(format!("sha256-{}", digest.hex()));
        let place = Place { reference: Some(reference.clone()), ..place.clone() };
        match self.manifest(&place, &reference).await {
            Ok(Manifest { content: Content::Index(index), .. }) => Ok(index.manifests),
            Ok(_) => Err(place.bad("the fallback tag of the referrers holds an image, not an index")),
            Err(UpstreamError::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    pub async fn small_blob(&self, place: &Place, digest: &Digest, max: u64) -> Result<Bytes, UpstreamError> {
        let url = self.url(place, &format!("v2/{}/blobs/{digest}", place.repository)).await?;
        let answer = self.get(place, &url, "", max, &[]).await?;
        let found = Digest::of(&answer.bytes);
        if found != *digest {
            return Err(place.bad(format!("the blob has digest {found}")));
        }
        Ok(answer.bytes)
    }
}

fn parse<T: for<'de> Deserialize<'de>>(place: &Place, answer: &Answer, what: &str) -> Result<T, UpstreamError> {
    serde_json::from_slice(&answer.bytes).map_err(|error| {
        let announced = shortened(answer.header("content-type").unwrap_or_default());
        place.bad(format!("not {what}: {error} (announced as {announced:?})"))
    })
}

/// The digest that the registry says it sends; one of another algorithm says nothing to us.
fn announced_digest(place: &Place, answer: &Answer) -> Result<Option<Digest>, UpstreamError> {
    match answer.header("docker-content-digest") {
        Some(text) if text.starts_with("sha256:") => {
            let digest = text.parse().map_err(|error| place.bad(format!("Docker-Content-Digest: {error}")))?;
            Ok(Some(digest))
        }
        _ => Ok(None),
    }
}

/// Where the list goes on: `Link: <url>; rel="next"` (RFC 8288), on the same host only.
fn next_page(place: &Place, answer: &Answer, asked: &Url) -> Result<Option<Url>, UpstreamError> {
    let Some(link) = answer.header("link").and_then(next_link) else { return Ok(None) };
    let next = answer.url.join(link).map_err(|error| place.bad(format!("Link {:?}: {error}", shortened(link))))?;
    if next.origin() != asked.origin() {
        return Err(place.bad(format!("the next page {:?} is on another host", shortened(link))));
    }
    if next == *asked {
        return Err(place.bad("the next page is the same page again"));
    }
    Ok(Some(next))
}

/// The target of the link with `rel="next"`, if the header holds one.
fn next_link(header: &str) -> Option<&str> {
    let mut rest = header;
    while let Some((_, behind)) = rest.split_once('<') {
        let (target, behind) = behind.split_once('>')?;
        let (parameters, _) = behind.split_once('<').unwrap_or((behind, ""));
        let next = |parameter: &str| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = value.trim().trim_end_matches(',').trim().trim_matches('"');
            name.trim().eq_ignore_ascii_case("rel") && value.eq_ignore_ascii_case("next")
        };
        if parameters.split(';').any(next) {
            return Some(target);
        }
        rest = behind;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::next_link;

    #[test]
    fn the_next_link_is_found_among_others() {
        assert_eq!(next_link(r#"</v2/a/tags/list?last=b&n=1>; rel="next""#), Some("/v2/a/tags/list?last=b&n=1"));
        assert_eq!(next_link(r#"<x>; rel="prev", <y>; title=t; REL=next, <z>"#), Some("y"));
        for none in ["", "<", "<x", "<x>", "<x>; rel=prev", "rel=next", "next"] {
            assert_eq!(next_link(none), None, "{none}");
        }
    }
}
