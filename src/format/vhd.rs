//! Fixed VHDs, which Azure takes: the disk and a footer of 512 bytes.
//!
//! Specification: Microsoft, "Virtual Hard Disk Image Format Specification", version 1.0, "Hard Disk Footer Format".
//! All integers are big-endian.

use crate::types::Digest;
use crate::virtual_file::VirtualFile;

/// Length of the footer in bytes.
const FOOTER_LEN: usize = 512;
/// 2000-01-01 in seconds since 1970: where a footer's time counts from.
const EPOCH: u32 = 946_684_800;
/// The longest disk in bytes: 2040 GiB.
const MAX_LEN: u64 = 2040 << 30;

/// Why a disk cannot be laid out.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum VhdError {
    /// No whole sectors of 512 bytes, or too many.
    #[error("vhd: a disk of {0} bytes; whole sectors up to {MAX_LEN} bytes are possible")]
    Len(u64),
}

/// The image of a disk. `mtime` in seconds since 1970; the disk's identifier follows from its extents.
///
/// # Errors
/// [`VhdError`]
pub fn lay_out(disk: &VirtualFile, mtime: u32) -> Result<VirtualFile, VhdError> {
    if !disk.len().is_multiple_of(FOOTER_LEN as u64) || disk.len() > MAX_LEN {
        return Err(VhdError::Len(disk.len()));
    }
    let id = Digest::of(&disk.encode());
    let footer = footer(disk.len(), mtime.saturating_sub(EPOCH), &id.raw()[..16]);
    Ok(VirtualFile::concat([disk.clone(), VirtualFile::inline(footer)]))
}

fn footer(len: u64, time: u32, id: &[u8]) -> Vec<u8> {
    let mut footer = b"conectix".to_vec();
    footer.extend(2u32.to_be_bytes()); // a reserved feature that is always set
    footer.extend(0x0001_0000u32.to_be_bytes());
    footer.extend(u64::MAX.to_be_bytes()); // no dynamic header
    footer.extend(time.to_be_bytes());
    // The creator's name by which QEMU knows that the length below counts, not the geometry.
    footer.extend(b"qem2\x00\x05\x00\x03Wi2k");
    footer.extend(len.to_be_bytes());
    footer.extend(len.to_be_bytes());
    footer.extend([0xFF, 0xFF, 16, 255]); // cylinders, heads, sectors: the most, for all lengths
    footer.extend(2u32.to_be_bytes()); // fixed
    let sum_at = footer.len();
    footer.extend([0; 4]);
    footer.extend(id);
    let sum: u32 = footer.iter().map(|byte| u32::from(*byte)).sum();
    footer[sum_at..sum_at + 4].copy_from_slice(&(!sum).to_be_bytes());
    footer.resize(FOOTER_LEN, 0);
    footer
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference's footer for azure, with its own time and identifier.
    #[test]
    fn the_golden_footer() {
        let id = hex::decode("c77561936f3c442e9fb9c572ff50b703").unwrap();
        let expected = concat!(
            "636f6e6563746978000000020001000",
            "0ffffffffffffffff32971f1271656d32000500035769326b",
            "00000002000000000000000200000000ffff10ff00000002ffffe5db",
            "c77561936f3c442e9fb9c572ff50b703",
        );
        let footer = footer(8 << 30, 0x3297_1F12, &id);
        assert_eq!(hex::encode(&footer[..84]), expected);
        assert_eq!((footer.len(), footer[84..].iter().any(|byte| *byte != 0)), (512, false));
    }

    #[test]
    fn disks_that_cannot_be() {
        for len in [511, MAX_LEN + 512] {
            assert_eq!(lay_out(&VirtualFile::zeros(len), 0), Err(VhdError::Len(len)));
        }
        assert_eq!(lay_out(&VirtualFile::zeros(MAX_LEN), 0).map(|image| image.len()), Ok(MAX_LEN + 512));
    }
}
