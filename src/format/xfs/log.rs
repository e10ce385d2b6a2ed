//! The log of a file system that was unmounted cleanly.

use super::structure::Structure;

/// Begins a record.
const MAGIC: u32 = 0xfeed_babe;
const VERSION: u32 = 2;
/// How often the log was written through; each of its 512 bytes begins with it.
const CYCLE: u32 = 1;
/// Bytes that a cycle's number stands before.
const BASIC_BLOCK: usize = 512;
/// What the record is written by: Linux on a little-endian machine, in buffers of 32 KiB.
const FORMAT: u32 = 1;
const BUFFER: u32 = 32_768;
/// The number that unmounting has for a transaction.
const TRANSACTION: u32 = 0xb0c0_d0d0;
/// Who writes the operation, and what it is.
const CLIENT: u8 = 0xaa;
const UNMOUNT: u8 = 0x20;

/// The one record that begins the log, whose rest is zero: the file system was unmounted. It has no checksum.
pub(super) fn clean(sector_size: u32, uuid: &[u8; 16]) -> Vec<u8> {
    // Header and operation, each padded to basic blocks; the record to sectors.
    let len = (sector_size as usize).max(2 * BASIC_BLOCK);
    let lsn = u64::from(CYCLE) << 32;
    let record = Structure::new(len)
        .u32s(0x00, &[MAGIC, CYCLE, VERSION, (len - BASIC_BLOCK) as u32])
        .u64s(0x10, &[lsn, lsn])
        .u32s(0x20, &[0, u32::MAX, 1]) // checksum (none), block of the record before, operations
        .u32s(0x2c, &[TRANSACTION]) // what the cycle displaced
        .u32s(0x12c, &[FORMAT])
        .bytes(0x130, uuid)
        .u32s(0x140, &[BUFFER])
        .u32s(0x200, &[CYCLE, 8])
        .bytes(0x208, &[CLIENT, UNMOUNT])
        .bytes(0x20c, b"nU");
    (2..len / BASIC_BLOCK).fold(record, |record, block| record.u32s(block * BASIC_BLOCK, &[CYCLE])).unsealed()
}
