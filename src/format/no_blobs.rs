//! For tests whose contents are all inline.

use std::ops::Range;

use bytes::Bytes;

use crate::types::Digest;
use crate::virtual_file::{ReadBlob, ReadError};

/// No blob at all.
pub(crate) struct NoBlobs;

impl ReadBlob for NoBlobs {
    fn read(&self, digest: &Digest, _: Range<u64>) -> Result<Bytes, ReadError> {
        Err(ReadError::Missing(*digest))
    }
}
