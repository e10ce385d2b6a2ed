//! GRUB, linked once from the modules in an imager image.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Prepared, Preparer, StoredFile, blobs, unpack};
use crate::assemble::grub_cfg::{ISO_BIOS, ISO_EFI};
use crate::assemble::iso::GrubBios;
use crate::factory::FactoryError;
use crate::factory::sources::PlatformImage;
use crate::format::grub::{
    BootFile, GrubError, GrubFolder, GrubPlatform, efi_application, el_torito_image, hybrid_boot_code,
};
use crate::store::BlobStore;
use crate::types::{Arch, Digest};
use crate::virtual_file::{ReadBlob, VirtualFile};

/// Where an imager keeps GRUB's platform folders.
const FOLDER: &str = "usr/lib/grub/";
/// Changes with the modules that are linked.
const REVISION: u32 = 1;

/// The boot images of a release's GRUB; none for platforms that the release lacks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Grub {
    bios: Option<Bios>,
    efi: BTreeMap<Arch, StoredFile>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Bios {
    image: StoredFile,
    /// Length and sum of the boot file: [`BootFile`].
    facts: (u32, u32),
    /// Code for the first sector of a disk, in base64.
    boot_code: String,
}

impl Prepared for Grub {
    fn blobs(&self) -> Vec<StoredFile> {
        self.bios.iter().map(|bios| bios.image).chain(self.efi.values().copied()).collect()
    }
}

impl Grub {
    /// That for BIOS.
    pub fn bios(&self) -> Result<Option<GrubBios>, FactoryError> {
        let Some(bios) = &self.bios else { return Ok(None) };
        let internal = |error: &dyn std::fmt::Display| FactoryError::Internal(format!("prepared GRUB: {error}"));
        let boot_code = STANDARD.decode(&bios.boot_code).map_err(|error| internal(&error))?;
        let boot_code = boot_code.try_into().map_err(|_| internal(&"its boot code has another length"))?;
        let (len, sum) = bios.facts;
        Ok(Some(GrubBios { image: bios.image.file(), facts: BootFile { len, sum }, boot_code }))
    }

    /// That for UEFI.
    pub fn efi(&self, arch: Arch) -> Option<VirtualFile> {
        self.efi.get(&arch).map(StoredFile::file)
    }
}

impl Preparer {
    /// The boot images of an imager's GRUB.
    pub(super) async fn grub(self: &Arc<Self>, imager: &Digest) -> Result<Arc<Grub>, FactoryError> {
        let repository = &self.sources.components().imager;
        // As with the release's other files, the amd64 image holds those of both architectures.
        let image = self.sources.platform(repository, imager, Arch::Amd64).await?;
        let key = format!("grub/{REVISION}/{}", image.digest.hex());
        let preparer = self.clone();
        self.grubs
            .run(key.clone(), move || async move {
                if let Some(found) = preparer.recall::<Grub>(&key).await? {
                    return Ok(Arc::new(found));
                }
                Ok(Arc::new(preparer.prepare_image(&key, "grub", &image, link).await?))
            })
            .await
    }
}

/// Platform and file name of a path in an imager image.
fn split(path: &str) -> Option<(GrubPlatform, &str)> {
    let (folder, name) = path.strip_prefix(FOLDER)?.split_once('/')?;
    let platform = GrubPlatform::ALL.into_iter().find(|platform| platform.folder() == folder)?;
    GrubFolder::wants(name).then_some((platform, name))
}

fn link(store: &dyn BlobStore, image: &PlatformImage) -> Result<Grub, FactoryError> {
    let wanted = |path: &[u8]| std::str::from_utf8(path).is_ok_and(|path| split(path).is_some());
    let (tree, spool) = unpack::tree(store, image, wanted)?;
    let mut folders: BTreeMap<&str, Vec<(String, Bytes)>> = BTreeMap::new();
    for (path, node) in tree.iter() {
        let found = std::str::from_utf8(path).ok().and_then(split).zip(node.contents());
        let Some(((platform, name), contents)) = found else { continue };
        let bytes = contents.read_all(&spool as &dyn ReadBlob)?;
        folders.entry(platform.folder()).or_default().push((name.to_owned(), bytes));
    }
    let bad = |error: GrubError| image.bad(error.to_string());
    let mut grub = Grub { bios: None, efi: BTreeMap::new() };
    for platform in GrubPlatform::ALL {
        let Some(files) = folders.remove(platform.folder()) else { continue };
        let folder = GrubFolder::new(platform, files).map_err(bad)?;
        let arch = match platform {
            GrubPlatform::I386Pc => {
                let linked = el_torito_image(&folder, &ISO_BIOS).map_err(bad)?;
                let BootFile { len, sum } = BootFile::of(&linked);
                let image = blobs::put(store, &linked)?;
                let boot_code = STANDARD.encode(hybrid_boot_code(&folder).map_err(bad)?);
                grub.bios = Some(Bios { image, facts: (len, sum), boot_code });
                continue;
            }
            GrubPlatform::X86_64Efi => Arch::Amd64,
            GrubPlatform::Arm64Efi => Arch::Arm64,
        };
        let linked = efi_application(&folder, &ISO_EFI).map_err(bad)?;
        grub.efi.insert(arch, blobs::put(store, &linked)?);
    }
    Ok(grub)
}
