//! QEMU's disk images, version 3 (`compat=1.1`) in clusters of 8 KiB, as the platforms' profiles ask for.
//!
//! Specification: QEMU's `docs/interop/qcow2.txt`. All integers are big-endian.
//!
//! ```text
//! header, refcount table, refcount blocks, L1 table, L2 tables, data: each from a cluster's start
//! ```
//! Clusters of zeros are not allocated, nor are L2 tables without any cluster.

use std::ops::Range;

use crate::virtual_file::{Endian, Outline, Parts, VirtualFile, Width};

/// Bytes a cluster.
const CLUSTER: u64 = 1 << CLUSTER_BITS;
const CLUSTER_BITS: u32 = 13;
/// Entries of eight bytes in a cluster of a table.
const ENTRIES: u64 = CLUSTER / 8;
/// Refcounts of two bytes in a cluster.
const REFCOUNTS: u64 = CLUSTER / 2;
/// The entry's cluster is referred to once: it may be written where it is.
const COPIED: u64 = 1 << 63;
/// QEMU opens no L1 table of more bytes.
const MAX_L1: u64 = 32 << 20;
/// The longest disk in bytes.
const MAX_LEN: u64 = MAX_L1 / 8 * ENTRIES * CLUSTER;

/// Why a disk cannot be laid out.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Qcow2Error {
    /// No whole sectors of 512 bytes, or more than the tables hold.
    #[error("qcow2: a disk of {0} bytes; whole sectors up to {MAX_LEN} bytes are possible")]
    Len(u64),
}

/// The image of a disk whose parts `outline` names, and what the image's parts are.
///
/// # Errors
/// [`Qcow2Error`]
pub fn lay_out(disk: &VirtualFile, outline: &Outline) -> Result<(VirtualFile, Outline), Qcow2Error> {
    if !disk.len().is_multiple_of(512) || disk.len() > MAX_LEN {
        return Err(Qcow2Error::Len(disk.len()));
    }
    // Clusters with data, and the L2 tables that they need.
    let data = clusters(disk, CLUSTER);
    let tables = clusters(disk, CLUSTER * ENTRIES);
    let count = |ranges: &[Range<u64>]| ranges.iter().map(|range| range.end - range.start).sum::<u64>();
    let l1_entries = disk.len().div_ceil(CLUSTER * ENTRIES);
    let l1 = l1_entries.div_ceil(ENTRIES).max(1);
    let others = 1 + l1 + count(&tables) + count(&data);
    // Refcounts count the clusters that they stand in, too.
    let (mut refcount_table, mut refcounts) = (1, 1);
    while refcounts * REFCOUNTS < others + refcount_table + refcounts {
        refcounts += 1;
        refcount_table = refcounts.div_ceil(ENTRIES);
    }
    let total = others + refcount_table + refcounts;
    let refcounts_at = 1 + refcount_table;
    let l1_at = refcounts_at + refcounts;
    let l2_at = l1_at + l1;
    let data_at = l2_at + count(&tables);

    let mut parts = Parts::default();
    parts.push(padded(header(disk.len(), l1_entries, l1_at, refcount_table), 1), "header");
    parts.push(padded(offsets(0, refcounts_at, refcounts), refcount_table), "refcount table");
    parts.push(padded(VirtualFile::repeat(vec![0, 1], total), refcounts), "refcounts");
    parts.push(padded(entries(&tables, 0..l1_entries, l2_at), l1), "L1 table");
    let table_entries = |index: u64| index * ENTRIES..(index + 1) * ENTRIES;
    let (mut rest, mut at) = (&data[..], data_at);
    for range in &tables {
        let covered = table_entries(range.start).start..table_entries(range.end - 1).end;
        let (inside, behind) = rest.split_at(rest.partition_point(|run| run.start < covered.end));
        // A run of clusters may begin in one table and end in another, but never in one that is not there.
        parts.push(entries(inside, covered, at), "L2 tables");
        at += count(inside);
        rest = behind;
    }
    for range in &data {
        let place = range.start * CLUSTER..range.end * CLUSTER;
        parts.push_as_it_is(padded(disk.slice(place.clone()), range.end - range.start), outline, &place);
    }
    Ok(parts.finish())
}

/// The units of the disk that hold data, as ranges of their numbers.
fn clusters(disk: &VirtualFile, unit: u64) -> Vec<Range<u64>> {
    disk.data(unit).into_iter().map(|range| range.start / unit..range.end.div_ceil(unit)).collect()
}

/// The entries `covered` of a table: those in `runs` refer to clusters one after another from `at` on, others to none.
fn entries(runs: &[Range<u64>], covered: Range<u64>, mut at: u64) -> VirtualFile {
    let (mut parts, mut next) = (Vec::new(), covered.start);
    for run in runs {
        parts.push(VirtualFile::zeros((run.start - next) * 8));
        parts.push(offsets(COPIED, at, run.end - run.start));
        at += run.end - run.start;
        next = run.end;
    }
    parts.push(VirtualFile::zeros((covered.end - next) * 8));
    VirtualFile::concat(parts)
}

/// `times` entries for clusters one after another.
fn offsets(flags: u64, cluster: u64, times: u64) -> VirtualFile {
    VirtualFile::count(flags | (cluster * CLUSTER), CLUSTER, Width::U64, Endian::Big, times)
}

fn padded(part: VirtualFile, clusters: u64) -> VirtualFile {
    let padding = clusters * CLUSTER - part.len();
    VirtualFile::concat([part, VirtualFile::zeros(padding)])
}

/// Header of version 3 with no feature bit set, and the end of extensions.
fn header(len: u64, l1_entries: u64, l1_at: u64, refcount_table: u64) -> VirtualFile {
    let mut header = b"QFI\xFB".to_vec();
    header.extend(3u32.to_be_bytes());
    header.extend([0; 12]); // no backing file
    header.extend(CLUSTER_BITS.to_be_bytes());
    header.extend(len.to_be_bytes());
    header.extend([0; 4]); // not encrypted
    header.extend((l1_entries as u32).to_be_bytes());
    header.extend((l1_at * CLUSTER).to_be_bytes());
    header.extend(CLUSTER.to_be_bytes());
    header.extend((refcount_table as u32).to_be_bytes());
    header.extend([0; 12]); // no snapshots
    header.extend([0; 24]); // no features
    header.extend(4u32.to_be_bytes()); // refcounts of 2^4 bits
    header.extend(104u32.to_be_bytes());
    header.extend([0; 8]);
    VirtualFile::inline(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Digest;

    #[test]
    fn a_great_disk_is_a_short_list() {
        let blob = VirtualFile::blob(Digest::of(b"kernel"), 100_000_001);
        let disk = [VirtualFile::inline("mbr"), VirtualFile::zeros((1 << 20) - 3), blob, VirtualFile::zeros(10 << 30)];
        let disk = VirtualFile::concat(disk).slice(0..10 << 30);
        let image = lay_out(&disk, &Outline::default()).unwrap().0;
        // Header, two tables of refcounts, two of L1, 12 of L2, one cluster of the MBR, those of the blob.
        assert_eq!(image.len() / CLUSTER, 1 + 1 + 4 + 2 + 12 + 1 + 100_000_001_u64.div_ceil(CLUSTER));
        assert!(image.encode().len() < 1000, "{:?}", image);
    }

    #[test]
    fn disks_that_cannot_be() {
        assert_eq!(lay_out(&VirtualFile::zeros(513), &Outline::default()), Err(Qcow2Error::Len(513)));
        assert_eq!(
            lay_out(&VirtualFile::zeros(MAX_LEN + 512), &Outline::default()),
            Err(Qcow2Error::Len(MAX_LEN + 512))
        );
        assert!(lay_out(&VirtualFile::zeros(MAX_LEN), &Outline::default()).is_ok());
    }
}
