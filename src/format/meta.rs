//! The META partition: small values by key that outlive upgrades, written twice.
//!
//! Golden data: `tests/golden/meta`. A copy is 256 KiB, all integers are big-endian:
//!
//! ```text
//! magic 5a4b3c2d, then for each value its key (u32), its length (u32) and its bytes; zeros up to the end:
//! SHA-256 of the copy, taken while this field is zero; magic a5b4c3d2
//! ```

use std::collections::BTreeMap;

use super::sparse::sparse;
use crate::types::Digest;
use crate::virtual_file::VirtualFile;

/// Length of the partition in bytes.
pub const PARTITION_LEN: u64 = 1 << 20;
/// Length of a copy in bytes.
const COPY_LEN: usize = 256 << 10;
const HEAD: [u8; 4] = [0x5a, 0x4b, 0x3c, 0x2d];
const TAIL: [u8; 4] = [0xa5, 0xb4, 0xc3, 0xd2];
/// Key and length before each value, in bytes.
const TAG_LEN: usize = 8;
/// Bytes that values with their tags can take.
pub const MAX: usize = COPY_LEN - HEAD.len() - 32 - TAIL.len();

/// Values that need more room than there is.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("META values take {needed} bytes ({TAG_LEN} more than its length for each), {MAX} are possible")]
pub struct MetaError {
    /// Bytes of the values with their tags.
    pub needed: usize,
}

/// The values by key; the last of equal keys counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta<'a>(BTreeMap<u8, &'a [u8]>);

impl<'a> FromIterator<(u8, &'a [u8])> for Meta<'a> {
    fn from_iter<T: IntoIterator<Item = (u8, &'a [u8])>>(values: T) -> Self {
        Self(values.into_iter().collect())
    }
}

impl Meta<'_> {
    /// Checks that the values fit.
    ///
    /// # Errors
    /// [`MetaError`]
    pub fn check(&self) -> Result<(), MetaError> {
        let needed = self.0.values().map(|value| TAG_LEN + value.len()).sum();
        if needed > MAX { Err(MetaError { needed }) } else { Ok(()) }
    }

    /// The partition, values in the order of their keys; all zeros where there is none.
    ///
    /// # Errors
    /// [`MetaError`]
    pub fn lay_out(&self) -> Result<VirtualFile, MetaError> {
        self.check()?;
        if self.0.is_empty() {
            return Ok(VirtualFile::zeros(PARTITION_LEN));
        }
        let mut copy = HEAD.to_vec();
        for (key, value) in &self.0 {
            copy.extend(u32::from(*key).to_be_bytes());
            copy.extend((value.len() as u32).to_be_bytes());
            copy.extend(*value);
        }
        copy.resize(COPY_LEN - TAIL.len(), 0);
        copy.extend(TAIL);
        let sum_at = COPY_LEN - TAIL.len() - 32;
        let sum = *Digest::of(&copy).raw();
        copy[sum_at..sum_at + 32].copy_from_slice(&sum);
        let copy = sparse(&copy);
        let rest = VirtualFile::zeros(PARTITION_LEN - 2 * COPY_LEN as u64);
        Ok(VirtualFile::concat([copy.clone(), copy, rest]))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::virtual_file::NoBlobs;

    /// A golden value; long ones are written as what is repeated how often.
    fn bytes(value: &str) -> Vec<u8> {
        match value.strip_prefix("@repeat:").and_then(|rest| rest.split_once(':')) {
            Some((unit, times)) => unit.repeat(times.parse().unwrap()).into_bytes(),
            None => value.as_bytes().to_vec(),
        }
    }

    #[test]
    fn partitions_are_the_golden_ones() {
        let golden = include_str!("../../tests/golden/meta/vectors.jsonl");
        let (mut same, mut refused, mut unordered) = (0, 0, 0);
        for line in golden.lines() {
            let golden: Value = serde_json::from_str(line).unwrap();
            let values = golden["values"].as_array().map_or(&[][..], Vec::as_slice);
            let values: Vec<(u8, Vec<u8>)> = values
                .iter()
                .map(|value| (value["key"].as_u64().unwrap() as u8, bytes(value["value"].as_str().unwrap())))
                .collect();
            let meta: Meta<'_> = values.iter().map(|(key, value)| (*key, &value[..])).collect();
            let laid = meta.lay_out();
            if golden["error"].is_string() {
                assert!(laid.unwrap_err().needed > MAX, "{}", golden["name"]);
                refused += 1;
                continue;
            }
            let image = laid.unwrap().read_all(&NoBlobs).unwrap();
            assert_eq!(image.len() as u64, PARTITION_LEN);
            let order: Vec<u64> = golden["tag_order"]
                .as_array()
                .map_or(Vec::new(), |order| order.iter().flat_map(Value::as_u64).collect());
            if order.is_sorted() {
                assert_eq!(hex::encode(Digest::of(&image).raw()), golden["image_sha256"], "{}", golden["name"]);
                same += 1;
            } else {
                unordered += 1;
            }
        }
        assert_eq!((same, refused, unordered), (23, 4, 1));
    }
}
