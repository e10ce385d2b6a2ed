//! The release of a kernel, out of a bzImage.
//!
//! Specification: the kernel's documentation, "The Linux/x86 Boot Protocol": `setup_sects` at 0x1F1, `header` at 0x202,
//! `kernel_version` at 0x20E.

/// How far from the start of a file its release can stand.
pub const HEAD_LEN: u64 = 0x200 + 0x1_0000 + MAX as u64;

/// Bytes of the text that begins with the release, at most.
const MAX: usize = 256;

/// Why a kernel's release cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BzImageError {
    /// Not a bzImage; kernels for arm64 are none.
    #[error("invalid kernel image")]
    NotBzImage,
    /// It does not say.
    #[error("no kernel version")]
    NoVersion,
    /// It says that its release stands behind its setup code.
    #[error("invalid kernel version offset")]
    Offset,
    /// No text stands where its release should.
    #[error("invalid kernel version")]
    Text,
}

/// The release, such as `6.12.9-talos`: the first word of the kernel's version. `head` are the first [`HEAD_LEN`] bytes
/// of the kernel, or all if it has fewer.
///
/// # Errors
/// [`BzImageError`]
pub fn release(head: &[u8]) -> Result<String, BzImageError> {
    let u16_at = |at: usize| Some(u16::from_le_bytes(head.get(at..at + 2)?.try_into().ok()?));
    if head.get(0x202..0x206) != Some(b"HdrS") {
        return Err(BzImageError::NotBzImage);
    }
    let offset = usize::from(u16_at(0x20E).ok_or(BzImageError::NotBzImage)?);
    if offset == 0 {
        return Err(BzImageError::NoVersion);
    }
    let setup_sectors = usize::from(head[0x1F1]);
    if offset >= setup_sectors * 0x200 {
        return Err(BzImageError::Offset);
    }
    let text = head.get(offset + 0x200..).ok_or(BzImageError::Text)?;
    let text = &text[..text.len().min(MAX)];
    let end = text.iter().position(|byte| *byte == 0).ok_or(BzImageError::Text)?;
    let text = std::str::from_utf8(&text[..end]).map_err(|_| BzImageError::Text)?;
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use base64::Engine as _;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn releases_are_the_golden_ones() {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/uki/kernel-version.jsonl");
        let mut checked = 0;
        for line in std::fs::read_to_string(golden).unwrap().lines() {
            let case: serde_json::Value = serde_json::from_str(line).unwrap();
            let Some(packed) = case.get("first_2048_bytes_gzip_base64") else { continue };
            let packed = base64::engine::general_purpose::STANDARD.decode(packed.as_str().unwrap()).unwrap();
            let mut head = Vec::new();
            flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut head).unwrap();
            let name = case["name"].as_str().unwrap();
            match (release(&head), case.get("error").and_then(|error| error.as_str())) {
                (Ok(found), None) => assert_eq!(found, case["version"].as_str().unwrap(), "{name}"),
                (Err(found), Some(golden)) => assert_eq!(found.to_string(), golden, "{name}"),
                (ours, golden) => panic!("{name}: ours {ours:?}, golden {golden:?}"),
            }
            checked += 1;
        }
        assert_eq!(checked, 7);
    }

    proptest! {
        #[test]
        fn other_bytes_do_no_harm(mut head in prop::collection::vec(any::<u8>(), 0..2000), magic in any::<bool>()) {
            if magic && head.len() > 0x210 {
                head[0x202..0x206].copy_from_slice(b"HdrS");
            }
            let _ = release(&head);
        }
    }
}
