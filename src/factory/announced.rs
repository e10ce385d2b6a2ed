//! What has been announced in generated repositories: it stays served, after a restart too.
//!
//! One record a schematic. Small documents stand in it as text; layers are announced to the store as virtual blobs.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::FactoryError;
use crate::schematic::SchematicId;
use crate::store::{BlobStore, RecordKind};
use crate::types::Digest;

/// A JSON document that is served by its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Digest of `bytes`.
    pub digest: Digest,
    /// Media type.
    pub media_type: String,
    /// The document.
    #[serde(with = "text")]
    pub bytes: Bytes,
}

impl Document {
    /// A document with its digest computed.
    pub fn new(media_type: impl Into<String>, text: impl Into<Bytes>) -> Self {
        let bytes = text.into();
        Self { digest: Digest::of(&bytes), media_type: media_type.into(), bytes }
    }

    /// The descriptor that other documents name it by (OCI image-spec, "descriptor").
    pub fn descriptor(&self) -> serde_json::Value {
        serde_json::json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len() })
    }
}

/// Documents are JSON, so their bytes are text.
mod text {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(bytes).map_err(serde::ser::Error::custom)?)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        String::deserialize(deserializer).map(Bytes::from)
    }
}

/// A layer of the base image that a generated manifest names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseLayer {
    /// Repository of the base image.
    pub repository: String,
    /// The layer.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// One installer image: everything that is served for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installer {
    /// `installer` or `<platform>-installer`.
    pub image: String,
    /// The Talos version, with its `v`.
    pub version: String,
    /// Digest of the recipe that it was made from.
    pub recipe: Digest,
    /// Digest of the index.
    pub index: Digest,
    /// Index, manifests, configs and all objects of their signatures.
    pub documents: Vec<Document>,
    /// Layers that were made; their extent lists are in the store.
    pub layers: Vec<Digest>,
    /// Layers of the base images.
    pub base_layers: Vec<BaseLayer>,
    /// Tags besides the version: those of signatures.
    pub tags: Vec<(String, Digest)>,
    /// Descriptors of referrers by their subject.
    pub referrers: Vec<(Digest, serde_json::Value)>,
}

impl Installer {
    /// The document with this digest.
    pub fn document(&self, digest: &Digest) -> Option<&Document> {
        self.documents.iter().find(|document| document.digest == *digest)
    }
}

/// All installers of a schematic.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Announced {
    /// In the order in which they were made.
    pub installers: Vec<Installer>,
}

/// Where announcements are kept.
pub struct Announcements {
    store: Arc<dyn BlobStore>,
    memory: moka::sync::Cache<SchematicId, Arc<Announced>>,
    /// Held while a record is read, changed and written; by the schematic's first byte.
    writing: Vec<Mutex<()>>,
}

/// Bytes of documents kept in memory.
const MEMORY: u64 = 16 << 20;

impl Announcements {
    /// Announcements kept in `store`.
    pub fn new(store: Arc<dyn BlobStore>) -> Self {
        let memory = moka::sync::Cache::builder()
            .max_capacity(MEMORY)
            .weigher(|_, announced: &Arc<Announced>| {
                let documents = announced.installers.iter().flat_map(|installer| &installer.documents);
                documents.map(|document| document.bytes.len() as u32 + 200).sum::<u32>() + 200
            })
            .build();
        Self { store, memory, writing: (0..64).map(|_| Mutex::new(())).collect() }
    }

    /// What has been announced for a schematic.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn of(&self, id: &SchematicId) -> Result<Arc<Announced>, FactoryError> {
        match self.memory.get(id) {
            Some(found) => Ok(found),
            None => self.reread(id).await,
        }
    }

    /// The same, read from the store: another replica may have added something.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn reread(&self, id: &SchematicId) -> Result<Arc<Announced>, FactoryError> {
        let (store, key) = (self.store.clone(), id.to_string());
        let record = super::blocking(move || store.record(RecordKind::Announced, &key)).await?;
        let announced: Announced = match record {
            // A record of another layout is as good as none: what it announced is made again on demand.
            Some(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            None => Announced::default(),
        };
        let announced = Arc::new(announced);
        self.memory.insert(*id, announced.clone());
        Ok(announced)
    }

    /// Adds an installer, or replaces one of the same name and version that another recipe made; what that one announced
    /// stays served.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn add(&self, id: &SchematicId, installer: Installer) -> Result<(), FactoryError> {
        let _guard = self.writing[usize::from(id.digest().raw()[0]) % self.writing.len()].lock().await;
        let mut announced = (*self.reread(id).await?).clone();
        let same = |other: &Installer| {
            other.image == installer.image && other.version == installer.version && other.recipe == installer.recipe
        };
        announced.installers.retain(|other| !same(other));
        announced.installers.push(installer);
        let bytes = serde_json::to_vec(&announced).map_err(|error| FactoryError::Internal(error.to_string()))?;
        let (store, key) = (self.store.clone(), id.to_string());
        super::blocking(move || store.put_record(RecordKind::Announced, &key, &bytes)).await?;
        self.memory.insert(*id, Arc::new(announced));
        Ok(())
    }
}
