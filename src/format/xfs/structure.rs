//! Structures whose fields are set by their offsets.

/// A structure of fixed length, zero where no field is set.
pub(super) struct Structure(Vec<u8>);

impl Structure {
    pub fn new(len: usize) -> Self {
        Self(vec![0; len])
    }

    /// Sets bytes.
    pub fn bytes(mut self, at: usize, bytes: &[u8]) -> Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Sets integers that follow one another.
    pub fn u16s(self, at: usize, values: &[u16]) -> Self {
        self.bytes(at, values.iter().map(|value| value.to_be_bytes()).collect::<Vec<_>>().as_flattened())
    }

    /// Sets integers that follow one another.
    pub fn u32s(self, at: usize, values: &[u32]) -> Self {
        self.bytes(at, values.iter().map(|value| value.to_be_bytes()).collect::<Vec<_>>().as_flattened())
    }

    /// Sets integers that follow one another.
    pub fn u64s(self, at: usize, values: &[u64]) -> Self {
        self.bytes(at, values.iter().map(|value| value.to_be_bytes()).collect::<Vec<_>>().as_flattened())
    }

    /// The bytes, with the checksum over all of them at `at`, where they are zero yet.
    pub fn sealed(self, at: usize) -> Vec<u8> {
        let checksum = crc32c::crc32c(&self.0);
        self.bytes(at, &checksum.to_le_bytes()).0
    }

    /// The bytes of a structure without a checksum.
    pub fn unsealed(self) -> Vec<u8> {
        self.0
    }
}
