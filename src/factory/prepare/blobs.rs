//! Writing what was prepared into the store.

use std::io::{self, Write};

use super::StoredFile;
use crate::factory::FactoryError;
use crate::format::squashfs;
use crate::store::{BlobStore, StoreError};

/// Stores bytes as a blob.
pub fn put(store: &dyn BlobStore, bytes: &[u8]) -> Result<StoredFile, FactoryError> {
    write(store, |out| out.write_all(bytes))
}

/// Stores what `fill` writes as a blob.
pub fn write<E>(
    store: &dyn BlobStore,
    fill: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<StoredFile, FactoryError>
where
    E: Into<FillError>,
{
    let mut writer = store.writer()?;
    fill(&mut writer).map_err(|error| match error.into() {
        FillError::Io(source) => StoreError::Io { doing: "writing what was prepared".to_owned(), source }.into(),
        FillError::Other(reason) => FactoryError::Internal(reason),
    })?;
    let (digest, size) = writer.place()?;
    Ok(StoredFile { digest, size })
}

/// Why something could not be prepared.
pub enum FillError {
    /// The store did not take the bytes.
    Io(io::Error),
    /// Anything else.
    Other(String),
}

impl From<io::Error> for FillError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<squashfs::WriteError> for FillError {
    fn from(error: squashfs::WriteError) -> Self {
        match error {
            squashfs::WriteError::Io { source, .. } => Self::Io(source),
            other @ squashfs::WriteError::BlockSize(_) => Self::Other(other.to_string()),
        }
    }
}
