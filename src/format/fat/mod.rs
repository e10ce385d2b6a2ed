//! FAT32 and FAT16 volumes as pure layouts: EFI system partitions.
//!
//! Specification: Microsoft, "FAT: General Overview of On-Disk Format" 1.03; UEFI, "File System Format". All integers are
//! little-endian. A volume is a boot sector, two equal allocation tables and clusters; which of the two formats it has is
//! told from the number of clusters alone. FAT32: below 65525 clusters firmware of EDK2 refuses it as damaged.
//!
//! Every file is one run of clusters, so its chain in the allocation tables counts up: a volume of gigabytes is laid out
//! in a few hundred bytes beside its directories and files. The same tree and options give the same bytes.

mod boot;
mod directory;
mod geometry;
mod layout;
mod name;
mod table;

use std::collections::BTreeMap;
use std::fmt;

use crate::virtual_file::VirtualFile;

pub use geometry::{ISO_SLACK, iso_image_size};
pub use layout::lay_out;

/// Length of an entry of a directory in bytes.
const ENTRY: usize = 32;
/// Cluster numbers start here.
const FIRST_CLUSTER: u64 = 2;

/// Which of the formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// 4085 to 65524 clusters, a root directory of 512 entries.
    Fat16,
    /// 65525 clusters and more, a root directory like any other.
    Fat32,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fat16 => "FAT16",
            Self::Fat32 => "FAT32",
        })
    }
}

/// How a volume is to be laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options<'a> {
    /// Length of the volume in bytes, whole sectors.
    pub size: u64,
    /// Bytes a sector: 512, 1024, 2048 or 4096.
    pub sector_size: u32,
    /// The format; `None`: FAT32 where the volume has clusters enough, else FAT16.
    pub format: Option<Format>,
    /// Sectors a cluster, a power of two, 32 KiB at most; `None`: for FAT32 the most that leave clusters enough and no
    /// more than 4 KiB, for FAT16 the fewest that are possible.
    pub sectors_per_cluster: Option<u32>,
    /// Every file starts at a multiple of as many bytes of the volume: a power of two, 1 MiB at most.
    pub alignment: u32,
    /// The volume's label, 1 to 11 upper-case letters, digits and signs.
    pub label: &'a str,
    /// The volume's serial number.
    pub serial: u32,
    /// The time that all entries bear, in seconds since 1970; before 1980 the format has none.
    pub mtime: u32,
}

/// A volume, laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its bytes, as many as were asked for.
    pub image: VirtualFile,
    /// Where in it each file starts, by path, in bytes. A file of no bytes is nowhere.
    pub offsets: BTreeMap<String, u64>,
    /// The format that it has.
    pub format: Format,
    /// Bytes a cluster.
    pub cluster_size: u32,
    /// How many clusters it has.
    pub clusters: u64,
}

/// Why a volume cannot be laid out.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FatError {
    /// A sector size that the format does not have.
    #[error("FAT: sectors of {0} bytes (512, 1024, 2048 and 4096 are possible)")]
    SectorSize(u32),
    /// A cluster size that the format does not have.
    #[error("FAT: clusters of {sectors} sectors of {sector_size} bytes (powers of two up to 32 KiB are possible)")]
    ClusterSize {
        /// Sectors a cluster.
        sectors: u32,
        /// Bytes a sector.
        sector_size: u32,
    },
    /// Files cannot be made to start at multiples of it.
    #[error("FAT: an alignment of {0} bytes is no power of two up to 1 MiB")]
    Alignment(u32),
    /// A volume of broken sectors, or of more than the format counts.
    #[error("FAT: {size} bytes are not 1 to {} whole sectors of {sector_size} bytes", u32::MAX)]
    Size {
        /// Bytes of the volume.
        size: u64,
        /// Bytes a sector.
        sector_size: u32,
    },
    /// The number of clusters says a format other than the one that is wanted.
    #[error("{format}: {size} bytes make {clusters} clusters of {cluster_size} bytes ({least} to {most} are possible)")]
    Clusters {
        /// The format.
        format: Format,
        /// Bytes of the volume.
        size: u64,
        /// Clusters that it would have.
        clusters: u64,
        /// Bytes a cluster.
        cluster_size: u32,
        /// The fewest clusters of the format.
        least: u64,
        /// The most clusters of the format.
        most: u64,
    },
    /// The files need more room than there is.
    #[error("FAT: files and directories need {needed} bytes, a volume of {size} bytes has {available} for them")]
    Full {
        /// Bytes of the volume.
        size: u64,
        /// Bytes that whole clusters of all files take, with what alignment leaves free.
        needed: u64,
        /// Bytes of all clusters.
        available: u64,
    },
    /// A file of 4 GiB or more.
    #[error("FAT: {path:?} has {len} bytes; the format ends at {}", u32::MAX)]
    TooLong {
        /// The file's path.
        path: String,
        /// Its length in bytes.
        len: u64,
    },
    /// Something that is neither file nor directory.
    #[error("FAT: {path:?} is neither a file nor a directory")]
    Kind {
        /// Its path.
        path: String,
    },
    /// A name that the format cannot hold.
    #[error("FAT: the name of {path:?} {what}")]
    Name {
        /// The path.
        path: String,
        /// What is wrong with its last component.
        what: &'static str,
    },
    /// Two names that are one where case is not told apart.
    #[error("FAT: {path:?} and {other:?} differ in case only")]
    Clash {
        /// The second.
        path: String,
        /// The first.
        other: String,
    },
    /// More entries than a directory can hold.
    #[error("FAT: directory {path:?} needs {entries} entries ({most} are possible)")]
    Entries {
        /// The directory; empty for the root.
        path: String,
        /// Entries that it needs, those of long names included.
        entries: usize,
        /// Entries that it can have.
        most: usize,
    },
    /// A label that the format cannot hold.
    #[error("FAT: label {0:?} is not 1 to 11 upper-case letters, digits and signs")]
    Label(String),
}

#[cfg(test)]
mod tests;
