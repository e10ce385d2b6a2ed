//! Kernel modules: facts about each, prepared with its image, and the index over those of a model.

use std::io::{self, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::extension::{PreparedExtension, Rules};
use super::{Model, Prepared, Preparer, StoredFile, blobs};
use crate::assemble::extension;
use crate::assemble::initramfs::Extension;
use crate::factory::{FactoryError, blocking};
use crate::format::cpio;
use crate::format::depmod::{self, Kmod, ModuleFacts, ModuleTree, TreeFacts};
use crate::format::squashfs::{self, FoundKind, Squashfs};
use crate::format::tree::{FileTree, Kind, Node};
use crate::store::BlobStore;
use crate::types::Digest;
use crate::virtual_file::{NoBlobs, ReadBlob, VirtualFile};

/// The root file system inside a release's initramfs.
const ROOTFS: &[u8] = b"rootfs.sqsh";

/// Changes when the image of an index does.
const REVISION: u32 = 2;

/// Bytes of one module, or of one of the lists beside them, at most.
const MAX_FILE: u64 = 256 << 20;

/// Facts of modules, as a blob in the store.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Facts(StoredFile);

impl Prepared for Facts {
    fn blobs(&self) -> Vec<StoredFile> {
        vec![self.0]
    }
}

/// An index over modules, as an image of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Index {
    kernel: String,
    image: StoredFile,
}

impl Prepared for Index {
    fn blobs(&self) -> Vec<StoredFile> {
        vec![self.image]
    }
}

/// Gathers what depmod reads below one kernel's folder.
#[derive(Default)]
struct Gatherer {
    facts: Option<TreeFacts>,
}

impl Gatherer {
    /// Takes in a file at `path` below the folder of all kernels.
    fn add(&mut self, path: &str, bytes: Vec<u8>) -> Result<(), String> {
        let Some((kernel, path)) = path.split_once('/') else { return Ok(()) };
        let facts = self.facts.get_or_insert_with(|| TreeFacts { kernel: kernel.to_owned(), ..TreeFacts::default() });
        if facts.kernel != kernel {
            return Err(format!("it holds modules of two kernels, {} and {kernel}", facts.kernel));
        }
        match path {
            "modules.order" => facts.order = Some(bytes),
            "modules.builtin" => facts.builtin = Some(bytes),
            "modules.builtin.modinfo" => facts.builtin_modinfo = Some(bytes),
            _ => facts.modules.push(ModuleFacts::read(path, &bytes)),
        }
        Ok(())
    }

    /// Whether depmod reads a file at `path`.
    fn wants(path: &str) -> bool {
        let Some((_, path)) = path.split_once('/') else { return false };
        matches!(path, "modules.order" | "modules.builtin" | "modules.builtin.modinfo") || depmod::is_module(path)
    }

    fn store(self, store: &dyn BlobStore) -> Result<Option<StoredFile>, FactoryError> {
        match self.facts {
            Some(facts) if !facts.modules.is_empty() => blobs::put(store, &facts.encode()).map(Some),
            _ => Ok(None),
        }
    }
}

/// The facts of an extension's modules, which lie below `folder` in its tree; `None` if it has none.
pub fn of_tree(
    store: &dyn BlobStore,
    rootfs: &FileTree,
    folder: &str,
    contents: &dyn ReadBlob,
) -> Result<Option<StoredFile>, FactoryError> {
    let mut gatherer = Gatherer::default();
    for (path, node) in rootfs.iter_under(folder) {
        let Some(path) = std::str::from_utf8(path).ok().and_then(|path| path.strip_prefix(folder)?.strip_prefix('/'))
        else {
            continue;
        };
        if let Kind::File(file) = &node.kind
            && Gatherer::wants(path)
            && file.len() <= MAX_FILE
        {
            let bytes = file.read_all(contents)?.to_vec();
            gatherer.add(path, bytes).map_err(FactoryError::Invalid)?;
        }
    }
    gatherer.store(store)
}

/// The facts of the modules in a release's initramfs.
fn of_initramfs(store: &dyn BlobStore, initramfs: StoredFile, folder: &str) -> Result<Facts, FactoryError> {
    let bad = |reason: String| FactoryError::BadSource { image: format!("initramfs {}", initramfs.digest), reason };
    let mut rootfs = rootfs(store, initramfs).map_err(|error| bad(error.to_string()))?;
    rootfs.flush().map_err(|error| bad(error.to_string()))?;
    let mut image = Squashfs::open(rootfs, squashfs::Limits::default()).map_err(|error| bad(error.to_string()))?;
    let found = image.walk(folder).map_err(|error| bad(error.to_string()))?;
    let mut gatherer = Gatherer::default();
    for entry in found {
        let path = std::str::from_utf8(&entry.path).ok().and_then(|path| path.strip_prefix(folder)?.strip_prefix('/'));
        if let (Some(path), FoundKind::File(contents)) = (path, &entry.kind)
            && Gatherer::wants(path)
            && contents.size() <= MAX_FILE
        {
            let mut bytes = Vec::with_capacity(contents.size() as usize);
            image.copy(contents, &mut bytes).map_err(|error| bad(error.to_string()))?;
            gatherer.add(path, bytes).map_err(bad)?;
        }
    }
    gatherer.store(store)?.map(Facts).ok_or_else(|| bad(format!("its root file system has no modules in {folder}")))
}

/// Copies the root file system out of an initramfs into a temporary file.
fn rootfs(store: &dyn BlobStore, initramfs: StoredFile) -> Result<std::fs::File, Box<dyn std::error::Error>> {
    let file = initramfs.file();
    let source = io::BufReader::with_capacity(256 << 10, file.reader(super::unpack::Readable(store)));
    let mut archive = cpio::Reader::new(source, cpio::Limits::default());
    while let Some(entry) = archive.next_entry()? {
        if entry.name == ROOTFS && entry.is_file() {
            let mut out = tempfile::tempfile()?;
            io::copy(&mut archive, &mut out)?;
            return Ok(out);
        }
    }
    Err("it holds no rootfs.sqsh".into())
}

impl Preparer {
    /// The index over all modules, if any of the extensions holds some.
    pub(super) async fn modules_dep(
        self: &Arc<Self>,
        model: &Model<'_>,
        initramfs: StoredFile,
        extensions: &[Arc<PreparedExtension>],
    ) -> Result<Option<Extension>, FactoryError> {
        let extras: Vec<StoredFile> = extensions.iter().filter_map(|extension| extension.modules).collect();
        if extras.is_empty() {
            return Ok(None);
        }
        let rules = Rules::of(model.version);
        let base = self.base_modules(initramfs, rules).await?;
        let kmod = Kmod::of(model.version);
        let inputs: String = extras.iter().map(|facts| facts.digest.hex()).collect();
        let key = format!(
            "modules-dep/{REVISION}/{}/{}/{kmod:?}-{}",
            base.0.digest.hex(),
            Digest::of(inputs.as_bytes()).hex(),
            rules.name()
        );
        let preparer = self.clone();
        let index = self
            .indexes
            .run(key.clone(), move || async move {
                if let Some(found) = preparer.recall::<Index>(&key).await? {
                    return Ok(Arc::new(found));
                }
                let base = preparer.facts_of(base.0).await?;
                let extras = extras.into_iter().map(|extra| preparer.facts_of(extra));
                let extras = futures::future::try_join_all(extras).await?;
                let made = preparer.prepare(&key, "modules.dep", move |store| make(store, &base, &extras, kmod, rules));
                Ok(Arc::new(made.await?))
            })
            .await?;
        Ok(Some(Extension::plain(extension::modules_dep(&index.kernel), index.image.file())))
    }

    /// Facts of the modules of a release, prepared.
    async fn base_modules(self: &Arc<Self>, initramfs: StoredFile, rules: Rules) -> Result<Facts, FactoryError> {
        let key = format!("modules/{}/{}", initramfs.digest.hex(), rules.modules.replace('/', "-"));
        let preparer = self.clone();
        self.modules
            .run(key.clone(), move || async move {
                if let Some(found) = preparer.recall::<Facts>(&key).await? {
                    return Ok(found);
                }
                preparer.prepare(&key, "modules", move |store| of_initramfs(store, initramfs, rules.modules)).await
            })
            .await
    }

    /// Facts read from the store and worked up, or remembered.
    async fn facts_of(&self, stored: StoredFile) -> Result<Arc<ModuleTree>, FactoryError> {
        if let Some(facts) = self.facts.get(&stored.digest) {
            return Ok(facts);
        }
        let store = self.store.clone();
        let facts = blocking(move || {
            let bytes = stored.file().read_all(store.as_ref())?;
            TreeFacts::decode(&bytes)
                .map(ModuleTree::new)
                .map_err(|error| FactoryError::Internal(format!("facts {}: {error}", stored.digest)))
        })
        .await?;
        let facts = Arc::new(facts);
        self.facts.insert(stored.digest, facts.clone());
        Ok(facts)
    }
}

/// Makes the index's image.
fn make(
    store: &dyn BlobStore,
    base: &ModuleTree,
    extras: &[Arc<ModuleTree>],
    kmod: Kmod,
    rules: Rules,
) -> Result<Index, FactoryError> {
    if let Some(other) = extras.iter().find(|extra| extra.kernel != base.kernel) {
        return Err(FactoryError::Invalid(format!(
            "an extension holds modules for kernel {}, but this version's is {}",
            other.kernel, base.kernel
        )));
    }
    let extras: Vec<&ModuleTree> = extras.iter().map(AsRef::as_ref).collect();
    let mut tree = FileTree::new();
    for (name, bytes) in depmod::index(base, &extras, kmod) {
        let path = format!("{}/{}/{name}", rules.modules, base.kernel);
        let inserted = tree.insert(path, Node::file(0o644, VirtualFile::inline(bytes)));
        inserted.map_err(|error| FactoryError::Internal(error.to_string()))?;
    }
    let image = blobs::write(store, |out| squashfs::write(&tree, &rules.quick_squashfs(), &NoBlobs, out).map(drop))?;
    Ok(Index { kernel: base.kernel.clone(), image })
}
