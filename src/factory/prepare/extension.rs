//! Extensions: their layers become a squashfs image, archives of firmware, and facts of modules.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::spool::Spool;
use super::{Prepared, Preparer, StoredFile, blobs, unpack};
use crate::assemble::extension::{ExtensionError, Metadata};
use crate::assemble::initramfs::{Extension, FirmwareEntry, MTIME};
use crate::factory::FactoryError;
use crate::factory::sources::PlatformImage;
use crate::format::cpio::Archive;
use crate::format::squashfs;
use crate::format::tree::{FileTree, Kind, Node};
use crate::store::BlobStore;
use crate::types::{Arch, Digest, TalosVersion};
use crate::virtual_file::{NoBlobs, ReadBlob, ReadError, VirtualFile};

/// Paths with where each one's part ends, in bytes.
type Ends = Vec<(String, u64)>;

/// An extension as the store holds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PreparedExtension {
    /// What it says of itself.
    pub metadata: Metadata,
    /// Its squashfs image.
    pub image: StoredFile,
    /// Archives of its firmware, one behind the other.
    firmware: Option<StoredFile>,
    /// Path of each archive, and where it ends in bytes.
    firmware_ends: Ends,
    /// Microcode for Intel's CPUs.
    pub intel_microcode: Option<StoredFile>,
    /// Microcode for AMD's CPUs.
    pub amd_microcode: Option<StoredFile>,
    /// Facts of its kernel modules.
    pub modules: Option<StoredFile>,
}

impl Prepared for PreparedExtension {
    fn blobs(&self) -> Vec<StoredFile> {
        let optional = [self.firmware, self.intel_microcode, self.amd_microcode, self.modules];
        optional.into_iter().flatten().chain([self.image]).collect()
    }
}

impl PreparedExtension {
    /// As the initramfs takes it.
    pub fn assembled(&self) -> Extension {
        let optional = |file: &Option<StoredFile>| file.map_or_else(VirtualFile::empty, |file| file.file());
        Extension {
            metadata: self.metadata.clone(),
            image: self.image.file(),
            firmware: self.firmware_entries(),
            intel_microcode: optional(&self.intel_microcode),
            amd_microcode: optional(&self.amd_microcode),
        }
    }

    /// Its firmware, an archive a path.
    fn firmware_entries(&self) -> Vec<FirmwareEntry> {
        let Some(all) = self.firmware else { return Vec::new() };
        let mut start = 0;
        let entry = |(path, end): &(String, u64)| {
            let archive = all.file().slice(start..*end);
            start = *end;
            FirmwareEntry { path: path.clone(), archive }
        };
        self.firmware_ends.iter().map(entry).collect()
    }
}

/// What of a version decides how an extension is prepared.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// zstd, or xz for older versions.
    zstd: bool,
    /// Where firmware lies, without a leading slash.
    firmware: &'static str,
    /// Where kernel modules lie, without a leading slash.
    pub modules: &'static str,
}

impl Rules {
    /// The rules of a version.
    pub fn of(version: &TalosVersion) -> Self {
        let relative = |path: &'static str| path.trim_start_matches('/');
        Self {
            zstd: version.uses_zstd(),
            firmware: relative(version.firmware_path()),
            modules: relative(version.kernel_modules_path()),
        }
    }

    /// Their name in records.
    pub fn name(self) -> String {
        format!("{}-{}", if self.zstd { "zstd" } else { "xz" }, self.firmware.replace('/', "-"))
    }

    /// How images are compressed.
    pub fn squashfs(self) -> squashfs::Options {
        let compression = if self.zstd { squashfs::Compression::DEFAULT } else { squashfs::Compression::Xz };
        squashfs::Options { compression, ..squashfs::Options::default() }
    }

    /// How images are compressed that somebody waits for. Of an index level 3 leaves 4 % less, and takes a fifth longer.
    pub fn quick_squashfs(self) -> squashfs::Options {
        let compression = if self.zstd { squashfs::Compression::Zstd { level: 1 } } else { squashfs::Compression::Xz };
        squashfs::Options { compression, ..squashfs::Options::default() }
    }

    /// Compresses an archive on its own.
    fn compress(self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        if self.zstd {
            return zstd::bulk::compress(bytes, FIRMWARE_ZSTD_LEVEL);
        }
        let stream = liblzma::stream::Stream::new_easy_encoder(6, liblzma::stream::Check::Crc32)?;
        let mut encoder = liblzma::read::XzEncoder::new_stream(bytes, stream);
        let mut out = Vec::new();
        std::io::Read::read_to_end(&mut encoder, &mut out)?;
        Ok(out)
    }
}

/// Firmware is mostly packed already: more effort buys little.
const FIRMWARE_ZSTD_LEVEL: i32 = 6;

impl Preparer {
    /// An extension of the image `repository@digest` for a version, prepared.
    pub(super) async fn extension(
        self: &Arc<Self>,
        repository: &str,
        digest: &Digest,
        arch: Arch,
        version: &TalosVersion,
    ) -> Result<Arc<PreparedExtension>, FactoryError> {
        let rules = Rules::of(version);
        let image = self.sources.platform(repository, digest, arch).await?;
        let key = format!("extension/{}/{}", image.digest.hex(), rules.name());
        let preparer = self.clone();
        self.extensions
            .run(key.clone(), move || async move {
                if let Some(found) = preparer.recall::<PreparedExtension>(&key).await? {
                    return Ok(Arc::new(found));
                }
                let extension = move |store: &dyn BlobStore, image: &PlatformImage| prepare(store, image, rules);
                Ok(Arc::new(preparer.prepare_image(&key, "extension", &image, extension).await?))
            })
            .await
    }
}

fn prepare(store: &dyn BlobStore, image: &PlatformImage, rules: Rules) -> Result<PreparedExtension, FactoryError> {
    let wanted = |path: &[u8]| path == b"manifest.yaml" || path == b"rootfs" || path.starts_with(b"rootfs/");
    let (tree, spool) = unpack::tree(store, image, wanted)?;
    prepare_tree(store, &tree, &spool, rules).map_err(|error| match error {
        PrepareError::Extension(error) => image.bad(error.to_string()),
        PrepareError::Factory(error) => error,
    })
}

/// Whose fault it is.
enum PrepareError {
    /// The image's.
    Extension(ExtensionError),
    /// Anybody else's.
    Factory(FactoryError),
}

impl From<ExtensionError> for PrepareError {
    fn from(error: ExtensionError) -> Self {
        Self::Extension(error)
    }
}

impl From<FactoryError> for PrepareError {
    fn from(error: FactoryError) -> Self {
        Self::Factory(error)
    }
}

impl From<ReadError> for PrepareError {
    fn from(error: ReadError) -> Self {
        Self::Factory(error.into())
    }
}

/// Prepares the tree of an extension image, whose files are in `spool`.
fn prepare_tree(
    store: &dyn BlobStore,
    tree: &FileTree,
    spool: &Spool,
    rules: Rules,
) -> Result<PreparedExtension, PrepareError> {
    let manifest = tree.get("manifest.yaml").and_then(Node::contents);
    let manifest = manifest.ok_or_else(|| ExtensionError::Manifest("manifest.yaml is missing".to_owned()))?;
    if manifest.len() > MAX_MANIFEST {
        return Err(ExtensionError::Manifest(format!("it has {} bytes", manifest.len())).into());
    }
    let metadata = Metadata::parse(&manifest.read_all(spool)?)?;
    let mut rootfs = tree.subtree("rootfs").ok_or(ExtensionError::NoRootfs)?;
    let modules = super::modules::of_tree(store, &rootfs, rules.modules, spool)?;
    let mut firmware = rootfs.split_off(rules.firmware);
    let intel = format!("{}/intel-ucode/", rules.firmware);
    let amd = format!("{}/amd-ucode/microcode_amd", rules.firmware);
    let intel_microcode = microcode(store, &mut firmware, spool, |path| path.starts_with(&intel))?;
    let amd_microcode =
        microcode(store, &mut firmware, spool, |path| path.starts_with(&amd) && path.ends_with(".bin"))?;
    let (firmware, firmware_ends) = archives(store, &firmware, spool, rules)?;
    let image = blobs::write(store, |out| squashfs::write(&rootfs, &rules.squashfs(), spool, out).map(drop))?;
    Ok(PreparedExtension { metadata, image, firmware, firmware_ends, intel_microcode, amd_microcode, modules })
}

/// Bytes of a `manifest.yaml` at most.
const MAX_MANIFEST: u64 = 1 << 20;

/// Takes the files that `wanted` likes out of the tree, and joins them in the order of their names.
fn microcode(
    store: &dyn BlobStore,
    firmware: &mut FileTree,
    spool: &Spool,
    wanted: impl Fn(&str) -> bool,
) -> Result<Option<StoredFile>, FactoryError> {
    let mut found: Vec<(String, VirtualFile)> = firmware
        .iter()
        .filter_map(|(path, node)| Some((std::str::from_utf8(path).ok()?.to_owned(), node.contents()?.clone())))
        .filter(|(path, _)| wanted(path))
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    for (path, _) in &found {
        firmware.remove(path);
    }
    let joined = VirtualFile::concat(found.into_iter().map(|(_, file)| file));
    if joined.is_empty() {
        return Ok(None);
    }
    blobs::write(store, |out| copy(&joined, spool, out)).map(Some)
}

fn copy(file: &VirtualFile, spool: &dyn ReadBlob, out: &mut dyn std::io::Write) -> std::io::Result<()> {
    for piece in file.pieces(0..file.len(), spool, 1 << 20) {
        out.write_all(&piece?)?;
    }
    Ok(())
}

/// An archive a path of the firmware, each compressed on its own, so that those of several extensions can be merged.
fn archives(
    store: &dyn BlobStore,
    firmware: &FileTree,
    spool: &Spool,
    rules: Rules,
) -> Result<(Option<StoredFile>, Ends), FactoryError> {
    if firmware.is_empty() {
        return Ok((None, Vec::new()));
    }
    let (mut ends, mut end) = (Vec::with_capacity(firmware.len()), 0);
    let stored = blobs::write(store, |out| {
        for (path, node) in firmware.iter() {
            let mut archive = Archive::new(MTIME);
            // Each name of a hard link brings the bytes: another archive cannot be linked to.
            let node = Node { inode: None, ..node.clone() };
            if let Kind::File(contents) = &node.kind
                && contents.len() > MAX_FIRMWARE
            {
                return Err(blobs::FillError::Other(format!("firmware of {} bytes", contents.len())));
            }
            archive.add(path, node).map_err(|error| blobs::FillError::Other(error.to_string()))?;
            let bytes = archive.finish().read_all(spool).map_err(std::io::Error::from)?;
            let packed = rules.compress(&bytes)?;
            out.write_all(&packed)?;
            end += packed.len() as u64;
            ends.push((String::from_utf8_lossy(path).into_owned(), end));
        }
        Ok(())
    })?;
    Ok((Some(stored), ends))
}

/// Bytes of one firmware file at most: it is compressed in memory.
const MAX_FIRMWARE: u64 = 256 << 20;

/// The image of a small tree whose files are all inline.
pub fn squash_inline(rootfs: &FileTree, rules: Rules) -> Result<VirtualFile, FactoryError> {
    let mut image = Vec::new();
    squashfs::write(rootfs, &rules.squashfs(), &NoBlobs, &mut image)
        .map_err(|error| FactoryError::Internal(error.to_string()))?;
    Ok(VirtualFile::inline(image))
}

#[cfg(test)]
mod tests;
