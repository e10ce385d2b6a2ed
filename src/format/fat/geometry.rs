//! Where what is, by sizes alone: cluster size, length of the allocation tables, first data sector.

use super::{ENTRY, FIRST_CLUSTER, FatError, Format, Options};

/// Reserved sectors before the first table.
const RESERVED_FAT32: u64 = 32;
const RESERVED_FAT16: u64 = 1;
/// Entries of FAT16's root directory.
pub(super) const ROOT_ENTRIES_FAT16: usize = 512;
/// The largest cluster that all readers take, in bytes.
const CLUSTER_MAX: u32 = 32 << 10;
/// The largest alignment, in bytes: the field for reserved sectors has 16 bits.
const ALIGNMENT_MAX: u32 = 1 << 20;
/// The largest cluster that is chosen for FAT32, in bytes.
const CLUSTER_CHOSEN: u64 = 4096;
/// Where FAT16 ends and FAT32 begins, in clusters.
const FAT32_CLUSTERS: u64 = 65525;
const FAT16_CLUSTERS: u64 = 4085;
/// The most clusters of FAT32: numbers have 28 bits, the last nine of which are marks.
const CLUSTERS_MAX: u64 = 0x0fff_fff5;
/// Clusters that a chosen cluster size leaves beyond the format's fewest, as room for the tables.
const FAT32_MARGIN: u64 = 2048;

const MIB: u64 = 1 << 20;
/// Room beside the files in the FAT image of an ISO, in bytes, as the reference implementation has it.
pub const ISO_SLACK: u64 = 10 * MIB;
/// The least whole mebibytes, in bytes, that are FAT32 at 512 bytes a sector.
const ISO_LEAST: u64 = 33 * MIB;

/// Length in bytes of the FAT image of an ISO: each file's length in whole mebibytes and `slack`, and never so small that
/// it would not be FAT32.
pub fn iso_image_size(files: impl IntoIterator<Item = u64>, slack: u64) -> u64 {
    let files: u64 = files.into_iter().map(|len| len.next_multiple_of(MIB)).sum();
    (files + slack).next_multiple_of(MIB).max(ISO_LEAST)
}

/// Sectors a cluster of a FAT32 volume of `size` bytes: the most that leave clusters enough, and no more than 4 KiB.
pub(super) fn fat32_sectors_per_cluster(size: u64, sector_size: u32) -> u32 {
    let (sector, mut sectors) = (u64::from(sector_size), 1);
    while sectors * 2 * sector <= CLUSTER_CHOSEN && size / sector / (sectors * 2) >= FAT32_CLUSTERS + FAT32_MARGIN {
        sectors *= 2;
    }
    sectors as u32
}

/// Where what is; in sectors where nothing else is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub format: Format,
    /// Bytes a sector.
    pub sector_size: u32,
    /// All sectors of the volume.
    pub sectors: u32,
    pub sectors_per_cluster: u32,
    /// Sectors before the first table.
    pub reserved: u32,
    /// Length of each of the two tables.
    pub table: u32,
    /// Length of FAT16's root directory.
    pub root: u32,
    /// The number of clusters.
    pub clusters: u64,
}

impl Geometry {
    /// Finds format, cluster size and all lengths.
    ///
    /// # Errors
    /// Sizes that the format does not have, or no format for the number of clusters.
    pub fn new(options: &Options<'_>) -> Result<Self, FatError> {
        let Options { size, sector_size, alignment, .. } = *options;
        if !(512..=4096).contains(&sector_size) || !sector_size.is_power_of_two() {
            return Err(FatError::SectorSize(sector_size));
        }
        if !alignment.is_power_of_two() || alignment > ALIGNMENT_MAX {
            return Err(FatError::Alignment(alignment));
        }
        let sectors = u32::try_from(size / u64::from(sector_size)).ok().filter(|sectors| *sectors > 0);
        let sectors = sectors.filter(|_| size % u64::from(sector_size) == 0);
        let sectors = sectors.ok_or(FatError::Size { size, sector_size })?;
        match options.format {
            Some(format) => Self::of(format, sectors, options),
            None => Self::of(Format::Fat32, sectors, options).or_else(|error| match error {
                FatError::Clusters { clusters, least, .. } if clusters < least => {
                    Self::of(Format::Fat16, sectors, options)
                }
                other => Err(other),
            }),
        }
    }

    fn of(format: Format, sectors: u32, options: &Options<'_>) -> Result<Self, FatError> {
        let Options { size, sector_size, .. } = *options;
        let chosen = match format {
            Format::Fat32 => fat32_sectors_per_cluster(size, sector_size),
            Format::Fat16 => {
                let fits = |count: &u32| u64::from(sectors / count) < FAT32_CLUSTERS;
                let most = CLUSTER_MAX / sector_size;
                std::iter::successors(Some(1), |count: &u32| Some(count * 2))
                    .take_while(|c| *c <= most)
                    .find(fits)
                    .unwrap_or(most)
            }
        };
        let per_cluster = options.sectors_per_cluster.unwrap_or(chosen);
        if !per_cluster.is_power_of_two() || per_cluster > CLUSTER_MAX / sector_size {
            return Err(FatError::ClusterSize { sectors: per_cluster, sector_size });
        }
        let root = match format {
            Format::Fat16 => (ROOT_ENTRIES_FAT16 * ENTRY) as u64 / u64::from(sector_size),
            Format::Fat32 => 0,
        };
        let mut reserved = match format {
            Format::Fat16 => RESERVED_FAT16,
            Format::Fat32 => RESERVED_FAT32,
        };
        let per_entry = match format {
            Format::Fat16 => 2,
            Format::Fat32 => 4,
        };
        let clusters = |reserved: u64, table: u64| {
            u64::from(sectors).saturating_sub(reserved + 2 * table + root) / u64::from(per_cluster)
        };
        // As long as if the tables took no room themselves: a little longer than they need be, and for whole mebibytes
        // such that the first cluster starts at a multiple of 2048 bytes.
        let table = ((clusters(reserved, 0) + FIRST_CLUSTER) * per_entry).div_ceil(sector_size.into());
        // More reserved sectors put the first cluster, and so each file, on a multiple of the alignment.
        let step = u64::from(options.alignment.div_ceil(sector_size));
        reserved += (reserved + 2 * table + root).next_multiple_of(step) - (reserved + 2 * table + root);
        let clusters = clusters(reserved, table);
        let (least, most) = match format {
            Format::Fat16 => (FAT16_CLUSTERS, FAT32_CLUSTERS - 1),
            Format::Fat32 => (FAT32_CLUSTERS, CLUSTERS_MAX),
        };
        let cluster_size = per_cluster * sector_size;
        if !(least..=most).contains(&clusters) {
            return Err(FatError::Clusters { format, size, clusters, cluster_size, least, most });
        }
        Ok(Self {
            format,
            sector_size,
            sectors,
            sectors_per_cluster: per_cluster,
            reserved: reserved as u32,
            table: table as u32,
            root: root as u32,
            clusters,
        })
    }

    /// Bytes a cluster.
    pub fn cluster_size(&self) -> u32 {
        self.sectors_per_cluster * self.sector_size
    }

    /// Where cluster 2 starts, in bytes.
    pub fn data_offset(&self) -> u64 {
        (u64::from(self.reserved) + 2 * u64::from(self.table) + u64::from(self.root)) * u64::from(self.sector_size)
    }

    /// Where a cluster starts, in bytes.
    pub fn offset(&self, cluster: u64) -> u64 {
        self.data_offset() + (cluster - FIRST_CLUSTER) * u64::from(self.cluster_size())
    }
}
