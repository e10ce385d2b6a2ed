//! The miniature Talos release: made once from Debian packages, published to a registry's storage,
//! signed, and kept in the cache under a key of everything it was made from.

mod boot;
mod extensions;
mod images;
mod versions;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::oci::{self, Layout, Tag};
use crate::packages::{self, Unpacked};
use crate::registry::Registry;
use crate::{cache, publish, run, tools};

/// How big the release's files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Size {
    /// As small as it can be and still boot: for tests.
    Mini,
    /// As big as the real one: kernel 18 MB, initramfs 75 MB. For measuring.
    Full,
}

impl Size {
    /// Least length of the kernel, in bytes.
    fn kernel(self) -> usize {
        match self {
            Size::Mini => 0,
            Size::Full => 18_000_000,
        }
    }

    /// Bytes in the root file system that do not compress.
    fn rootfs_filler(self) -> usize {
        match self {
            Size::Mini => 200_000,
            Size::Full => 47_000_000,
        }
    }

    /// Files of microcode for the many Intel processors.
    fn microcode_files(self) -> usize {
        match self {
            Size::Mini => 8,
            Size::Full => usize::MAX,
        }
    }

    /// Length of each of the four files of `big-firmware`, in bytes.
    fn big_firmware(self) -> usize {
        match self {
            Size::Mini => 1 << 20,
            Size::Full => 10 << 20,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Size::Mini => "mini",
            Size::Full => "full",
        }
    }
}

/// A finished release in the cache.
#[derive(Clone, Debug)]
pub struct Release {
    root: PathBuf,
    manifest: Manifest,
}

/// `release.json`: what the release holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Which size it has.
    pub size: Size,
    /// The imager's tags that a factory lists with minimum 1.2.0 and broken version 1.12.9, without `v1.12.5`,
    /// whose tag lacks the `v`.
    pub versions: Vec<String>,
    /// Release of the kernel by architecture.
    pub kernels: std::collections::BTreeMap<String, String>,
    /// All images.
    pub images: Vec<Tag>,
    /// The signatures' tags: `sha256-<hex>.sig` and `sha256-<hex>`.
    pub signatures: Vec<Tag>,
}

impl Release {
    /// The storage folder for a registry.
    pub fn storage(&self) -> PathBuf {
        self.root.join("registry")
    }

    /// The OCI image layout with all images and signatures, each named `repository:tag`.
    pub fn layout(&self) -> PathBuf {
        self.root.join("oci")
    }

    /// The public key (PEM) that verifies every image but `siderolabs/unsigned`.
    pub fn public_key(&self) -> PathBuf {
        self.root.join("cosign.pub")
    }

    /// The private key, for tests that sign more. Its password is empty.
    pub fn private_key(&self) -> PathBuf {
        self.root.join("cosign.key")
    }

    /// What it holds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The digest of an image, e.g. `siderolabs/imager`, `v1.13.2`.
    pub fn digest(&self, repository: &str, tag: &str) -> Result<&str> {
        let mut images = self.manifest.images.iter();
        let found = images.find(|image| image.repository == repository && image.tag == tag);
        Ok(&found.with_context(|| format!("the release has no {repository}:{tag}"))?.descriptor.digest)
    }

    /// Unpacks an image into a folder.
    pub fn unpack(&self, repository: &str, tag: &str, arch: &str, to: &Path) -> Result<()> {
        oci::unpack::image(&self.layout(), self.digest(repository, tag)?, arch, to)
    }

    /// Copies layout, public key and `release.json` to a folder.
    pub fn copy_to(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        run::output(
            Command::new("cp").args(["-a", "--reflink=auto", "-T"]).arg(self.layout()).arg(folder.join("oci")),
        )?;
        for file in ["cosign.pub", "release.json"] {
            fs::copy(self.root.join(file), folder.join(file))?;
        }
        Ok(())
    }
}

/// Gives the release of a size, made now if the cache has none of these inputs.
pub fn ensure(size: Size) -> Result<Release> {
    packages::install(packages::MACHINE)?;
    let packages = packages::unpacked()?;
    let root = cache::subfolder("releases")?.join(format!("{}-{}", size.name(), key(&packages)));
    let _lock = cache::lock("releases")?;
    if !root.join("release.json").is_file() {
        println!("making the {} release", size.name());
        let part = root.with_extension("part");
        if part.exists() {
            fs::remove_dir_all(&part)?;
        }
        make(&packages, size, &part)?;
        fs::rename(&part, &root)?;
    }
    forget_old(&cache::subfolder("releases")?, &root)?;
    let manifest = serde_json::from_slice(&fs::read(root.join("release.json"))?)
        .with_context(|| format!("cannot read the release in {}", root.display()))?;
    Ok(Release { root, manifest })
}

/// A hash over what the release is made from: packages, signing tool, and the sources of this crate.
fn key(packages: &Unpacked) -> String {
    let sources = [
        packages.key().as_str(),
        tools::COSIGN.version,
        include_str!("mod.rs"),
        include_str!("boot.rs"),
        include_str!("extensions.rs"),
        include_str!("images.rs"),
        include_str!("init.sh"),
        include_str!("versions.rs"),
        include_str!("../../overlay/main.go"),
        include_str!("../golang.rs"),
        include_str!("../oci/mod.rs"),
        include_str!("../oci/tree.rs"),
        include_str!("../publish.rs"),
    ]
    .join("\0");
    cache::sha256(sources.as_bytes())[..16].to_owned()
}

/// Days after which an unused release goes.
const KEEP: Duration = Duration::from_secs(3 * 24 * 3600);

/// Marks a release as used now, and removes those that nobody used for [`KEEP`].
fn forget_old(folder: &Path, used: &Path) -> Result<()> {
    fs::write(used.join("used"), "")?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let used = fs::metadata(path.join("used")).or_else(|_| fs::metadata(&path))?.modified()?;
        if used.elapsed().is_ok_and(|age| age > KEEP) {
            fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Makes each blob of the layout a hard link to the registry's: both are only read from now on.
fn share_blobs(layout: &Path, storage: &Path) -> Result<()> {
    for entry in fs::read_dir(layout.join("blobs/sha256"))? {
        let blob = entry?.path();
        let hex = blob.file_name().context("no name")?.to_string_lossy().into_owned();
        let stored = storage.join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(&hex).join("data");
        if stored.is_file() {
            fs::remove_file(&blob)?;
            fs::hard_link(&stored, &blob)?;
        }
    }
    Ok(())
}

fn make(packages: &Unpacked, size: Size, root: &Path) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let layout_root = root.join("oci");
    let mut layout = Layout::create(&layout_root)?;
    let boot = boot::make(packages, size, &scratch.path().join("boot"))?;
    images::write(&mut layout, packages, &boot)?;
    let (old, new) = extensions::write(&mut layout, packages, &boot, size)?;
    let overlay = images::overlay(&mut layout, scratch.path())?;
    let overlays = extensions::overlays(&layout, &overlay)?;
    for version in versions::VERSIONS.iter().filter(|version| version.catalogs) {
        let extensions = if version.era.lib() == "lib" { &old } else { &new };
        layout.tag("siderolabs/extensions", version.tag, extensions);
        layout.tag("siderolabs/overlays", version.tag, &overlays);
    }
    let images = layout.finish()?;

    println!("publishing and signing {} tags", images.len());
    let storage = root.join("registry");
    fs::create_dir_all(&storage)?;
    publish::make_keys(root)?;
    let registry = Registry::writable(&storage)?;
    publish::push(&registry, &layout_root, &images)?;
    publish::sign(&registry, &images, &root.join("cosign.key"))?;
    let signatures = publish::fetch_signatures(&registry, &layout_root, &images)?;
    drop(registry);

    share_blobs(&layout_root, &storage)?;
    let all: Vec<Tag> = images.iter().chain(&signatures).cloned().collect();
    oci::write_index(&layout_root, &all)?;
    let listed = |tag: &&str| {
        !["v1.1.0", "1.12.5", "v1.12.9", "v1.13.0-beta.1", "latest", "edge"].contains(tag)
            && !tag.contains("-dev")
            && !tag.contains("-g")
    };
    let manifest = Manifest {
        size,
        versions: versions::VERSIONS.iter().map(|v| v.tag).filter(listed).map(str::to_owned).collect(),
        kernels: boot.arches.iter().map(|(arch, a)| ((*arch).to_owned(), a.release.clone())).collect(),
        images,
        signatures,
    };
    fs::write(root.join("release.json"), serde_json::to_vec_pretty(&manifest)?)?;
    Ok(())
}
