//! Disk images of every format over any list of extents: found again through their tables, ranges are slices of the whole.
#![no_main]

use std::io::Read;
use std::ops::Range;

use bytes::Bytes;
use image_factory::format::{ova, qcow2, vhd, vmdk};
use image_factory::types::Digest;
use image_factory::virtual_file::{Endian, Outline, ReadBlob, ReadError, VirtualFile, Width};

/// Each blob is its digest over and over.
struct Blobs;

impl ReadBlob for Blobs {
    fn read(&self, digest: &Digest, range: Range<u64>) -> Result<Bytes, ReadError> {
        Ok(range.map(|at| digest.raw()[(at % 31) as usize]).collect())
    }
}

/// A number from the front of the data; 0 when it is used up.
fn take(data: &mut &[u8], len: usize) -> u64 {
    let (front, rest) = data.split_at(len.min(data.len()));
    *data = rest;
    front.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn part(data: &mut &[u8]) -> VirtualFile {
    let (kind, len) = (take(data, 1), take(data, 3));
    match kind % 5 {
        0 => VirtualFile::zeros(len),
        1 => VirtualFile::repeat(vec![kind as u8, 0], len % 9000),
        2 => VirtualFile::count(len, kind, Width::U16, Endian::Big, len % 9000),
        3 => VirtualFile::inline(vec![kind as u8; len as usize % 600]),
        _ => VirtualFile::blob(Digest::of(&[kind as u8]), len % 200_000),
    }
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// The same, the highest byte first.
fn big(bytes: &[u8], at: usize) -> usize {
    number(bytes, at, 8).swap_bytes() as usize & (usize::MAX >> 1)
}

fn read_qcow2(image: &[u8], len: usize) -> Vec<u8> {
    let (l1, mut disk) = (big(image, 40), vec![0; len]);
    for (index, cluster) in disk.chunks_mut(8192).enumerate() {
        let l2 = big(image, l1 + index / 1024 * 8);
        if l2 > 0 {
            let at = big(image, l2 + index % 1024 * 8);
            if at > 0 {
                cluster.copy_from_slice(&image[at..at + cluster.len()]);
            }
        }
    }
    disk
}

fn read_vmdk(image: &[u8], len: usize) -> Vec<u8> {
    let footer = image.len() - 1024;
    let (directory, mut disk) = (number(image, footer + 56, 8) as usize * 512, vec![0; len]);
    for (index, raw) in disk.chunks_mut(65_536).enumerate() {
        let table = number(image, directory + index / 512 * 4, 4) as usize * 512;
        let grain = if table > 0 { number(image, table + index % 512 * 4, 4) as usize * 512 } else { 0 };
        if grain > 0 {
            assert_eq!(number(image, grain, 8), index as u64 * 128);
            let zlib = &image[grain + 12..grain + 12 + number(image, grain + 8, 4) as usize];
            flate2::read::ZlibDecoder::new(zlib).read_exact(raw).expect("a grain of zlib");
        }
    }
    disk
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (mut data, mut parts) = (data, Vec::new());
    let (from, len) = (take(&mut data, 3), take(&mut data, 2));
    while !data.is_empty() && parts.len() < 6 {
        parts.push(part(&mut data));
    }
    let disk = VirtualFile::concat(parts);
    let padding = disk.len().next_multiple_of(64 << 10) - disk.len();
    let disk = VirtualFile::concat([disk, VirtualFile::zeros(padding)]);
    let raw = disk.read_all(&Blobs).expect("blobs are made up");
    let none = Outline::default();
    let images = [
        qcow2::lay_out(&disk, &none).expect("a disk of whole sectors").0,
        vmdk::lay_out(&disk, &none, "disk.vmdk").expect("a disk of whole grains").0,
        vhd::lay_out(&disk, 0).expect("a disk of whole sectors"),
        ova::lay_out(&disk, &none, 0).expect("a disk of whole grains").0,
    ];
    for (index, image) in images.iter().enumerate() {
        let all = image.read_all(&Blobs).expect("blobs are made up");
        assert_eq!(all.len() as u64, image.len());
        match index {
            0 => assert!(read_qcow2(&all, raw.len()) == raw),
            1 => assert!(read_vmdk(&all, raw.len()) == raw),
            _ => assert!(index == 3 || all[..raw.len()] == raw),
        }
        let from = from % image.len();
        let to = (from + len).min(image.len());
        let part = image.slice(from..to).read_all(&Blobs).expect("blobs are made up");
        assert!(part == all[from as usize..to as usize], "{index} {from} {to}");
        assert_eq!(VirtualFile::decode(image.encode()).as_ref(), Ok(image));
    }
});
