//! A factory over the miniature release's registry.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use conformance::factory::{Factory, Settings};
use conformance::registry::Registry;
use conformance::release::{self, Release, Size};
use reqwest::blocking::{Client, Response};
use serde_json::Value;

/// Extensions of all kinds: plain, with modules, with firmware.
pub const THREE: &str = "customization:
    extraKernelArgs:
        - console=ttyS0
        - -slab_nomerge
    systemExtensions:
        officialExtensions:
            - siderolabs/hello
            - siderolabs/qemu-guest-agent
            - siderolabs/dummy-driver
";

/// Media types of manifests that clients accept.
pub const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json";

/// A factory, its upstream and its folder.
pub struct World {
    pub release: Release,
    pub registry: Registry,
    pub factory: Factory,
    pub folder: tempfile::TempDir,
}

impl World {
    /// A fresh factory over the whole release.
    pub fn start() -> Result<Self> {
        Self::start_with(|settings| settings)
    }

    /// As [`World::start`], its settings changed.
    pub fn start_with(change: impl FnOnce(Settings) -> Settings) -> Result<Self> {
        let release = release::ensure(Size::Mini)?;
        let registry = Registry::read_only(&release)?;
        let folder = tempfile::tempdir()?;
        let settings = Settings::on(&registry, &release, &folder.path().join("store"));
        let factory = Factory::start(&change(settings), &folder.path().join("factory.log"))?;
        Ok(Self { release, registry, factory, folder })
    }

    /// A path in the world's folder.
    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// GET of a path.
    pub fn get(&self, path: &str) -> Result<Response> {
        get(&self.factory, path)
    }

    /// Downloads a path into a file of the world's folder.
    pub fn download(&self, path: &str, name: &str) -> Result<PathBuf> {
        let to = self.at(name);
        let mut answer = self.get(path)?.error_for_status()?;
        let length = answer.content_length().context("no length")?;
        ensure!(std::io::copy(&mut answer, &mut File::create(&to)?)? == length, "{path} broke off");
        Ok(to)
    }

    /// Digests of index, then of amd64's and arm64's manifest.
    pub fn digests(&self, image: &str, tag: &str) -> Result<[String; 3]> {
        digests(&self.factory, image, tag)
    }

    /// A JSON document.
    pub fn json(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&self.get(path)?.error_for_status()?.bytes()?)?)
    }
}

/// GET of a path.
pub fn get(factory: &Factory, path: &str) -> Result<Response> {
    Ok(Client::builder().timeout(None).build()?.get(factory.url(path)).header("Accept", ACCEPT).send()?)
}

/// Digests of index, then of amd64's and arm64's manifest.
pub fn digests(factory: &Factory, image: &str, tag: &str) -> Result<[String; 3]> {
    let answer = get(factory, &format!("/v2/{image}/manifests/{tag}"))?.error_for_status()?;
    let index = answer.headers().get("docker-content-digest").context("no digest")?.to_str()?.to_owned();
    let body: Value = serde_json::from_slice(&answer.bytes()?)?;
    let child = |n: usize, arch: &str| -> Result<String> {
        let entry = &body["manifests"][n];
        ensure!(entry["platform"]["architecture"] == arch, "{body}");
        Ok(entry["digest"].as_str().context("no digest")?.to_owned())
    };
    Ok([index, child(0, "amd64")?, child(1, "arm64")?])
}
