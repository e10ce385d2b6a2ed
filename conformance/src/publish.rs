//! Pushes a layout into a registry, byte for byte, and signs what was pushed with cosign.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use reqwest::blocking::Client;
use serde_json::Value;

use crate::oci::{Descriptor, Tag, blob_path};
use crate::registry::Registry;
use crate::{run, tools};

/// The repositories that get the older signature form (`sha256-<hex>.sig`); the others get bundles.
const OLD_FORM: &[&str] = &[
    "siderolabs/imager",
    "siderolabs/extensions",
    "siderolabs/hello",
    "siderolabs/intel-ucode",
    "siderolabs/installer",
];

/// The one repository that stays without a signature.
const UNSIGNED: &str = "siderolabs/unsigned";

/// Pushes every tag of a layout with all that it points to.
pub fn push(registry: &Registry, layout: &Path, tags: &[Tag]) -> Result<()> {
    let mut push = Push {
        client: Client::new(),
        base: format!("http://{}/v2", registry.address()),
        layout,
        home: BTreeMap::new(),
        done: BTreeSet::new(),
    };
    for tag in tags {
        push.manifest(&tag.repository, &tag.tag, &tag.descriptor)
            .with_context(|| format!("cannot push {}:{}", tag.repository, tag.tag))?;
    }
    Ok(())
}

struct Push<'a> {
    client: Client,
    base: String,
    layout: &'a Path,
    /// A repository that has the blob, to mount it from.
    home: BTreeMap<String, String>,
    /// `repository@digest` of blobs and manifests already there.
    done: BTreeSet<String>,
}

impl Push<'_> {
    fn bytes(&self, digest: &str) -> Result<Vec<u8>> {
        let hex = digest.strip_prefix("sha256:").with_context(|| format!("not SHA-256: {digest}"))?;
        let path = blob_path(self.layout, hex);
        fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    fn manifest(&mut self, repository: &str, reference: &str, descriptor: &Descriptor) -> Result<()> {
        let bytes = self.bytes(&descriptor.digest)?;
        if self.done.insert(format!("{repository}@{}", descriptor.digest)) {
            let document: Value = serde_json::from_slice(&bytes)?;
            for child in document["manifests"].as_array().into_iter().flatten() {
                let child: Descriptor = serde_json::from_value(child.clone())?;
                let digest = child.digest.clone();
                self.manifest(repository, &digest, &child)?;
            }
            for blob in document["layers"].as_array().into_iter().flatten().chain(document.get("config")) {
                let blob: Descriptor = serde_json::from_value(blob.clone())?;
                self.blob(repository, &blob)?;
            }
        }
        let url = format!("{}/{repository}/manifests/{reference}", self.base);
        let answer = self.client.put(url).header("Content-Type", &descriptor.media_type).body(bytes).send()?;
        let status = answer.status();
        ensure!(status.is_success(), "{repository}:{reference}: {status} {}", answer.text()?);
        Ok(())
    }

    fn blob(&mut self, repository: &str, blob: &Descriptor) -> Result<()> {
        if !self.done.insert(format!("{repository}@{}", blob.digest)) {
            return Ok(());
        }
        let mut url = format!("{}/{repository}/blobs/uploads/", self.base);
        if let Some(home) = self.home.get(&blob.digest) {
            url = format!("{url}?mount={}&from={home}", blob.digest);
        }
        let answer = self.client.post(url).send()?.error_for_status()?;
        if answer.status().as_u16() != 201 {
            let location = answer.headers().get("Location").context("no place to upload to")?.to_str()?;
            let joint = if location.contains('?') { '&' } else { '?' };
            let url = format!("{location}{joint}digest={}", blob.digest);
            let bytes = self.bytes(&blob.digest)?;
            self.client
                .put(url)
                .header("Content-Type", "application/octet-stream")
                .body(bytes)
                .send()?
                .error_for_status()?;
            self.home.insert(blob.digest.clone(), repository.to_owned());
        }
        Ok(())
    }
}

/// Makes a key pair, `cosign.key` and `cosign.pub`, in a folder.
pub fn make_keys(folder: &Path) -> Result<()> {
    let mut command = Command::new(tools::COSIGN.path()?);
    command.args(["generate-key-pair", "--output-key-prefix", "cosign"]).current_dir(folder).env("COSIGN_PASSWORD", "");
    run::output(&mut command)?;
    Ok(())
}

/// Signs every image that a tag names, once a digest; the form follows the repository.
pub fn sign(registry: &Registry, tags: &[Tag], key: &Path) -> Result<()> {
    let cosign = tools::COSIGN.path()?;
    let mut signed = BTreeSet::new();
    for tag in tags {
        if tag.repository == UNSIGNED || !signed.insert((&tag.repository, &tag.descriptor.digest)) {
            continue;
        }
        let old = OLD_FORM.contains(&tag.repository.as_str());
        let mut command = Command::new(&cosign);
        command.args(["sign", "--yes", "--tlog-upload=false", "--use-signing-config=false", "--allow-http-registry"]);
        command.arg(format!("--new-bundle-format={}", !old)).arg("--key").arg(key);
        command.arg(format!("{}/{}@{}", registry.address(), tag.repository, tag.descriptor.digest));
        command.env("COSIGN_PASSWORD", "");
        run::output(&mut command)?;
    }
    Ok(())
}

/// Copies what signing added to the registry into the layout, and gives its tags.
pub fn fetch_signatures(registry: &Registry, layout: &Path, tags: &[Tag]) -> Result<Vec<Tag>> {
    let client = Client::new();
    let known: BTreeSet<(&str, &str)> = tags.iter().map(|t| (t.repository.as_str(), t.tag.as_str())).collect();
    let repositories: BTreeSet<&str> = tags.iter().map(|tag| tag.repository.as_str()).collect();
    let mut found = Vec::new();
    for repository in repositories {
        let base = format!("http://{}/v2/{repository}", registry.address());
        let list: Value = client.get(format!("{base}/tags/list")).send()?.error_for_status()?.json()?;
        for tag in list["tags"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if known.contains(&(repository, tag)) {
                continue;
            }
            let descriptor = fetch_manifest(&client, &base, layout, tag)?;
            found.push(Tag { repository: repository.to_owned(), tag: tag.to_owned(), descriptor });
        }
    }
    found.sort_by(|a, b| (&a.repository, &a.tag).cmp(&(&b.repository, &b.tag)));
    Ok(found)
}

fn fetch_manifest(client: &Client, base: &str, layout: &Path, reference: &str) -> Result<Descriptor> {
    let accept = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                  application/vnd.docker.distribution.manifest.v2+json";
    let answer = client.get(format!("{base}/manifests/{reference}")).header("Accept", accept).send()?;
    let answer = answer.error_for_status()?;
    let media_type = answer.headers().get("Content-Type").context("no content type")?.to_str()?.to_owned();
    let bytes = answer.bytes()?;
    let document: Value = serde_json::from_slice(&bytes)?;
    for child in document["manifests"].as_array().into_iter().flatten() {
        fetch_manifest(client, base, layout, child["digest"].as_str().context("no digest")?)?;
    }
    for blob in document["layers"].as_array().into_iter().flatten().chain(document.get("config")) {
        let digest = blob["digest"].as_str().context("no digest")?;
        let bytes = client.get(format!("{base}/blobs/{digest}")).send()?.error_for_status()?.bytes()?;
        store(layout, &bytes)?;
    }
    let hex = store(layout, &bytes)?;
    Ok(Descriptor { media_type, digest: format!("sha256:{hex}"), size: bytes.len() as u64 })
}

fn store(layout: &Path, bytes: &[u8]) -> Result<String> {
    let hex = crate::cache::sha256(bytes);
    fs::write(blob_path(layout, &hex), bytes)?;
    Ok(hex)
}
