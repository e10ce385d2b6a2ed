//! Schematics: made, kept for ever, found again.

use std::sync::Arc;

use bytes::Bytes;

use super::{Factory, FactoryError, blocking};
use crate::schematic::{Schematic, SchematicId};
use crate::store::{BlobStore, RecordKind};

/// The answer to a posted schematic.
#[derive(Clone, Debug)]
pub struct Created {
    /// Its ID.
    pub id: SchematicId,
    /// Its canonical YAML.
    pub canonical: String,
    /// Names in it that no listed version has.
    pub warnings: Vec<String>,
}

/// A schematic with its canonical text.
#[derive(Debug)]
pub struct Stored {
    /// The ID.
    pub id: SchematicId,
    /// What it says.
    pub schematic: Schematic,
    /// Its canonical YAML.
    pub canonical: String,
}

/// Where schematics are kept. What is unknown is looked for each time: another replica may have kept it a moment ago.
pub struct Schematics {
    store: Arc<dyn BlobStore>,
    known: moka::sync::Cache<SchematicId, Arc<Stored>>,
}

impl Schematics {
    /// Schematics in `store`, `capacity` of them in memory.
    pub fn new(store: Arc<dyn BlobStore>, capacity: usize) -> Self {
        Self { store, known: moka::sync::Cache::new(capacity as u64) }
    }

    /// Keeps a schematic: it is durable when this returns.
    async fn put(&self, schematic: Schematic) -> Result<Arc<Stored>, FactoryError> {
        let canonical = schematic.canonical();
        let id = SchematicId::of(&canonical);
        if let Some(known) = self.known.get(&id) {
            return Ok(known);
        }
        let (store, text) = (self.store.clone(), canonical.clone());
        blocking(move || store.put_record(RecordKind::Schematic, &id.to_string(), text.as_bytes())).await?;
        let stored = Arc::new(Stored { id, schematic, canonical });
        self.known.insert(id, stored.clone());
        Ok(stored)
    }

    /// Finds a schematic; the empty one always exists.
    async fn get(&self, text: &str) -> Result<Arc<Stored>, FactoryError> {
        let missing = || FactoryError::NoSuchSchematic(text.to_owned());
        let id: SchematicId = text.parse().map_err(|_| missing())?;
        if let Some(known) = self.known.get(&id) {
            return Ok(known);
        }
        let store = self.store.clone();
        let record = blocking(move || store.record(RecordKind::Schematic, &id.to_string())).await?;
        let stored = match record {
            Some(bytes) => {
                let damaged = |reason: String| FactoryError::Internal(format!("stored schematic {id}: {reason}"));
                let canonical = String::from_utf8(bytes.to_vec()).map_err(|error| damaged(error.to_string()))?;
                let schematic = Schematic::from_stored(&canonical).map_err(|error| damaged(error.to_string()))?;
                Stored { id, schematic, canonical }
            }
            None => {
                let schematic = Schematic::default();
                let canonical = schematic.canonical();
                if SchematicId::of(&canonical) != id {
                    return Err(missing());
                }
                Stored { id, schematic, canonical }
            }
        };
        let stored = Arc::new(stored);
        self.known.insert(id, stored.clone());
        Ok(stored)
    }
}

impl Factory {
    /// Keeps the schematic in `body` (YAML or JSON).
    ///
    /// # Errors
    /// [`FactoryError::Invalid`] naming what is wrong and where; [`FactoryError::NoRoom`] when it cannot be kept.
    pub async fn create_schematic(&self, body: Bytes) -> Result<Created, FactoryError> {
        let invalid = |error: crate::schematic::SchematicError| FactoryError::Invalid(error.to_string());
        let schematic = Schematic::parse(&body).map_err(invalid)?;
        schematic.validate(false).map_err(invalid)?;
        let stored = self.schematics.put(schematic).await?;
        let warnings = self.catalogs.unknown_names(&stored.schematic);
        Ok(Created { id: stored.id, canonical: stored.canonical.clone(), warnings })
    }

    /// The canonical YAML of a schematic.
    ///
    /// # Errors
    /// [`FactoryError::NoSuchSchematic`]
    pub async fn schematic_text(&self, id: &str) -> Result<String, FactoryError> {
        match self.schematics.get(id).await {
            Ok(stored) => Ok(stored.canonical.clone()),
            // The words that clients of the public factory know.
            Err(FactoryError::NoSuchSchematic(_)) => Err(FactoryError::SchematicNotFound),
            Err(error) => Err(error),
        }
    }

    /// A schematic by its ID.
    ///
    /// # Errors
    /// [`FactoryError::NoSuchSchematic`]
    pub(super) async fn schematic(&self, id: &str) -> Result<Arc<Stored>, FactoryError> {
        self.schematics.get(id).await
    }
}
