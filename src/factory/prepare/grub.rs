//! GRUB, linked once from the modules in an imager image.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Prepared, Preparer, StoredFile, blobs, unpack};
use crate::assemble::disk::{BIOS_LEN, DiskGrubBios};
use crate::assemble::grub_cfg::{DISK_BIOS, DISK_EFI, ISO_BIOS, ISO_EFI};
use crate::assemble::iso::GrubBios;
use crate::factory::FactoryError;
use crate::factory::sources::PlatformImage;
use crate::format::grub::{
    BOOT_CODE_LEN, BootCode, BootFile, GrubError, GrubFolder, GrubPlatform, core_image, disk_boot_code,
    efi_application, el_torito_image, hybrid_boot_code, protect,
};
use crate::store::BlobStore;
use crate::types::{Arch, Digest};
use crate::virtual_file::{ReadBlob, VirtualFile};

/// Where an imager keeps GRUB's platform folders.
const FOLDER: &str = "usr/lib/grub/";
/// Changes with the modules that are linked.
const REVISION: u32 = 2;

/// The boot images of a release's GRUB; none for platforms that the release lacks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Grub {
    bios: Option<Bios>,
    efi: BTreeMap<Arch, Efi>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Bios {
    image: StoredFile,
    /// Length and sum of the boot file: [`BootFile`].
    facts: (u32, u32),
    /// Code for the first sector of an ISO image, in base64.
    boot_code: String,
    /// The core image on disks.
    disk_core: StoredFile,
    /// Code for the first sector of a disk, in base64.
    disk_boot_code: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Efi {
    iso: StoredFile,
    disk: StoredFile,
}

impl Prepared for Grub {
    fn blobs(&self) -> Vec<StoredFile> {
        let bios = self.bios.iter().flat_map(|bios| [bios.image, bios.disk_core]);
        bios.chain(self.efi.values().flat_map(|efi| [efi.iso, efi.disk])).collect()
    }
}

impl Grub {
    /// That for BIOS on ISO images.
    pub fn bios(&self) -> Result<Option<GrubBios>, FactoryError> {
        let Some(bios) = &self.bios else { return Ok(None) };
        let (len, sum) = bios.facts;
        let boot_code = boot_code(&bios.boot_code)?;
        Ok(Some(GrubBios { image: bios.image.file(), facts: BootFile { len, sum }, boot_code }))
    }

    /// That for UEFI on ISO images.
    pub fn efi(&self, arch: Arch) -> Option<VirtualFile> {
        self.efi.get(&arch).map(|efi| efi.iso.file())
    }

    /// That for BIOS on disks.
    pub fn disk_bios(&self) -> Result<Option<DiskGrubBios>, FactoryError> {
        let Some(bios) = &self.bios else { return Ok(None) };
        Ok(Some(DiskGrubBios { core: bios.disk_core.file(), boot_code: boot_code(&bios.disk_boot_code)? }))
    }

    /// That for UEFI on disks.
    pub fn disk_efi(&self, arch: Arch) -> Option<VirtualFile> {
        self.efi.get(&arch).map(|efi| efi.disk.file())
    }
}

/// Boot code out of a record.
fn boot_code(base64: &str) -> Result<BootCode, FactoryError> {
    let bad = |reason: String| FactoryError::Internal(format!("prepared GRUB: its boot code {reason}"));
    let code = STANDARD.decode(base64).map_err(|error| bad(error.to_string()))?;
    code.try_into().map_err(|code: Vec<u8>| bad(format!("has {} bytes, not {BOOT_CODE_LEN}", code.len())))
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
                let core = core_image(&folder, &DISK_BIOS).and_then(|core| protect(core, BIOS_LEN as usize / 512));
                let disk_core = blobs::put(store, &core.map_err(bad)?)?;
                let disk_boot_code = STANDARD.encode(disk_boot_code(&folder).map_err(bad)?);
                grub.bios = Some(Bios { image, facts: (len, sum), boot_code, disk_core, disk_boot_code });
                continue;
            }
            GrubPlatform::X86_64Efi => Arch::Amd64,
            GrubPlatform::Arm64Efi => Arch::Arm64,
        };
        let link = |core| efi_application(&folder, core).map_err(bad);
        let (iso, disk) = (link(&ISO_EFI)?, link(&DISK_EFI)?);
        grub.efi.insert(arch, Efi { iso: blobs::put(store, &iso)?, disk: blobs::put(store, &disk)? });
    }
    Ok(grub)
}
