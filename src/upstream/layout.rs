//! A folder as an upstream: the OCI image layout (image-spec 1.1, "image-layout").
//!
//! `index.json` lists manifests; the annotation `org.opencontainers.image.ref.name` holds `<repository>:<tag>`.
//! Everything here may block.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::store::{BlobWrite, StoreError};
use crate::types::Digest;

use super::error::{Place, UpstreamError};
use super::manifest::{Content, Descriptor, ImageIndex, Manifest};
use super::name::{Reference, is_tag};

/// The annotation that names an entry.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// One folder.
pub(super) struct Layout {
    folder: PathBuf,
    max_manifest: u64,
}

impl Layout {
    pub fn new(folder: &Path, max_manifest: u64) -> Self {
        Self { folder: folder.to_owned(), max_manifest }
    }

    /// The index, read anew each time: the folder may be filled while we run.
    fn index(&self, place: &Place) -> Result<ImageIndex, UpstreamError> {
        let path = self.folder.join("index.json");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) => return Err(place.unavailable(format!("{}: {error}", path.display()))),
        };
        let bytes = read_bounded(place, file, &path, self.max_manifest)?;
        serde_json::from_slice(&bytes).map_err(|error| place.bad(format!("{}: {error}", path.display())))
    }

    fn open(&self, place: &Place, digest: &Digest) -> Result<(File, PathBuf), UpstreamError> {
        let path = self.folder.join("blobs").join("sha256").join(digest.hex());
        match File::open(&path) {
            Ok(file) => Ok((file, path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A folder that is gone as a whole is an upstream that is down, not a blob that never was.
                self.index(place)?;
                Err(place.not_found(format!("no file {}", path.display())))
            }
            Err(error) => Err(place.unavailable(format!("{}: {error}", path.display()))),
        }
    }

    fn checked(&self, place: &Place, digest: &Digest, max: u64) -> Result<Bytes, UpstreamError> {
        let (file, path) = self.open(place, digest)?;
        let bytes = read_bounded(place, file, &path, max)?;
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(place.bad(format!("{} has digest {found}", path.display())));
        }
        Ok(bytes)
    }

    pub fn tags(&self, place: &Place) -> Result<Vec<String>, UpstreamError> {
        let index = self.index(place)?;
        let tag = |entry: &Descriptor| tag_in(entry, &place.repository).map(str::to_owned);
        let mut tags: Vec<String> = index.manifests.iter().filter_map(tag).collect();
        if tags.is_empty() {
            return Err(place.not_found("index.json names no tag of this repository"));
        }
        tags.sort();
        tags.dedup();
        Ok(tags)
    }

    pub fn manifest(&self, place: &Place, reference: &Reference) -> Result<Manifest, UpstreamError> {
        let (digest, media_type) = match reference {
            Reference::Digest(digest) => (*digest, None),
            Reference::Tag(tag) => {
                let index = self.index(place)?;
                // The last entry wins: it is the one that a tool appended.
                let entry =
                    index.manifests.into_iter().rev().find(|entry| tag_in(entry, &place.repository) == Some(tag));
                let entry = entry.ok_or_else(|| place.not_found("index.json names no such tag"))?;
                (entry.digest, Some(entry.media_type))
            }
        };
        let bytes = self.checked(place, &digest, self.max_manifest)?;
        Manifest::parse(bytes, media_type.as_deref()).map_err(|error| place.bad(error.to_string()))
    }

    /// Every manifest of `index.json` whose `subject` is `digest`, and what the fallback tag lists.
    pub fn referrers(&self, place: &Place, digest: &Digest) -> Result<Vec<Descriptor>, UpstreamError> {
        let mut found: Vec<Descriptor> = Vec::new();
        let fallback = format!("sha256-{}", digest.hex());
        for entry in self.index(place)?.manifests {
            let Some(manifest) = self.entry(place, &entry) else { continue };
            if manifest.subject().is_some_and(|subject| subject.digest == *digest) {
                found.push(manifest.descriptor());
            }
            if let Content::Index(index) = manifest.content
                && tag_in(&entry, &place.repository) == Some(&fallback)
            {
                found.extend(index.manifests);
            }
        }
        found.sort_by_key(|descriptor| descriptor.digest);
        found.dedup_by_key(|descriptor| descriptor.digest);
        Ok(found)
    }

    /// The manifest of an entry; one that cannot be read refers to nothing.
    fn entry(&self, place: &Place, entry: &Descriptor) -> Option<Manifest> {
        let bytes = self.checked(place, &entry.digest, self.max_manifest);
        let manifest = bytes.and_then(|bytes| {
            Manifest::parse(bytes, Some(&entry.media_type)).map_err(|error| place.bad(error.to_string()))
        });
        manifest.inspect_err(|error| tracing::debug!(digest = %entry.digest, %error, "skipped among referrers")).ok()
    }

    pub fn small_blob(&self, place: &Place, digest: &Digest, max: u64) -> Result<Bytes, UpstreamError> {
        self.checked(place, digest, max)
    }

    pub fn blob(
        &self,
        place: &Place,
        digest: &Digest,
        size: Option<u64>,
        max: u64,
        mut writer: Box<dyn BlobWrite>,
    ) -> Result<(Digest, u64), UpstreamError> {
        let (mut file, path) = self.open(place, digest)?;
        let length = file.metadata().map_err(|error| broken(place, &path, &error))?.len();
        if let Some(size) = size.filter(|size| *size != length) {
            return Err(place.bad(format!("{} has {length} bytes; the manifest says {size}", path.display())));
        }
        if length > max {
            return Err(place.bad(format!("{} has {length} bytes; at most {max} are accepted", path.display())));
        }
        let mut buffer = vec![0; 1 << 18];
        let mut left = length;
        while left > 0 {
            let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let n = match file.read(&mut buffer[..want]) {
                Ok(0) => return Err(place.bad(format!("{} was cut while it was read", path.display()))),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken(place, &path, &error)),
            };
            left -= n as u64;
            let doing = || "writing a fetched blob".to_owned();
            writer.write_all(&buffer[..n]).map_err(|source| StoreError::Io { doing: doing(), source })?;
        }
        match writer.commit(Some(digest)) {
            Err(StoreError::Mismatch { found, .. }) => Err(place.bad(format!("{} has digest {found}", path.display()))),
            done => Ok(done?),
        }
    }
}

fn broken(place: &Place, path: &Path, error: &io::Error) -> UpstreamError {
    place.unavailable(format!("{}: {error}", path.display()))
}

fn read_bounded(place: &Place, file: File, path: &Path, max: u64) -> Result<Bytes, UpstreamError> {
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| broken(place, path, &error))?;
    if bytes.len() as u64 > max {
        return Err(place.bad(format!("{} is larger than {max} bytes", path.display())));
    }
    Ok(bytes.into())
}

/// The tag that an entry of the index has in `repository`.
fn tag_in<'a>(entry: &'a Descriptor, repository: &str) -> Option<&'a str> {
    let tag = entry.annotations.get(REF_NAME)?.strip_prefix(repository)?.strip_prefix(':')?;
    is_tag(tag).then_some(tag)
}
