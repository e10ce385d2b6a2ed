//! Disks of every kind of extent, blobs in memory, and programs.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use image_factory::encode::{Codec, Known, pack, shrinks};
use image_factory::types::Digest;
use image_factory::virtual_file::{Endian, ReadBlob, ReadError, VirtualFile, Width};
use proptest::prelude::*;

/// Blobs, and what is known of them.
#[derive(Default)]
pub struct Blobs {
    blobs: HashMap<Digest, Bytes>,
    packed: HashMap<(Codec, Digest, u64), VirtualFile>,
}

impl ReadBlob for Blobs {
    fn read(&self, digest: &Digest, range: Range<u64>) -> Result<Bytes, ReadError> {
        let blob = self.blobs.get(digest).ok_or(ReadError::Missing(*digest))?;
        Ok(blob.slice(range.start as usize..range.end as usize))
    }
}

impl Known for Blobs {
    fn crc32(&self, digest: &Digest, range: Range<u64>) -> Option<u32> {
        Some(crc32fast::hash(&self.blobs.get(digest)?[range.start as usize..range.end as usize]))
    }

    fn packed(&self, codec: Codec, digest: &Digest, range: Range<u64>) -> Option<VirtualFile> {
        self.packed.get(&(codec, *digest, range.end)).filter(|_| range.start == 0).cloned()
    }
}

impl Blobs {
    pub fn add(&mut self, bytes: Vec<u8>) -> VirtualFile {
        let (digest, len) = (Digest::of(&bytes), bytes.len() as u64);
        self.blobs.insert(digest, bytes.into());
        VirtualFile::blob(digest, len)
    }

    /// A blob, prepared for every codec.
    pub fn add_packed(&mut self, bytes: Vec<u8>) -> VirtualFile {
        let (digest, len) = (Digest::of(&bytes), bytes.len() as u64);
        for codec in [Codec::Gz, Codec::Xz, Codec::Zst] {
            let mut packed = Vec::new();
            pack(codec, &mut &bytes[..], len, &mut packed).unwrap();
            if shrinks(len, packed.len() as u64) {
                let packed = self.add(packed);
                self.packed.insert((codec, digest, len), packed);
            }
        }
        self.add(bytes)
    }
}

/// Bytes that do not shrink, as a kernel's and an initramfs' do not.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..len).map(next).collect()
}

/// Bytes that shrink.
pub fn text(len: usize, seed: u64) -> Vec<u8> {
    let line = |line: u64| format!("line {} of {seed}\n", line.wrapping_mul(seed) % 1000).into_bytes();
    (0..len as u64).flat_map(line).take(len).collect()
}

/// Parts of a disk: a kind, a length, a seed.
pub fn parts() -> impl Strategy<Value = Vec<(u8, u64, u64)>> {
    let length = prop_oneof![1u64..3000, 1u64..1_000_000, prop::sample::select(vec![4096, 8192, 65_536, 8 << 20])];
    prop::collection::vec((0u8..8, length, any::<u64>()), 0..8)
}

/// A disk of these parts, as many whole units of `unit` bytes as are needed, and one at least.
pub fn disk(parts: &[(u8, u64, u64)], unit: u64, blobs: &mut Blobs) -> VirtualFile {
    let part = |(kind, len, seed): &(u8, u64, u64)| match kind {
        0 => VirtualFile::inline(noise((*len).min(20_000) as usize, *seed)),
        1 => blobs.add(noise(*len as usize, *seed)),
        2 => blobs.add_packed(text((*len).min(300_000) as usize, *seed)),
        3 => VirtualFile::repeat(vec![*seed as u8], *len),
        4 => VirtualFile::count(*seed, 1, Width::U32, Endian::Little, len / 16 + 1),
        5 => VirtualFile::zeros(len * 30),
        _ => VirtualFile::zeros(*len),
    };
    let whole = VirtualFile::concat(parts.iter().map(part).collect::<Vec<_>>());
    let padding = whole.len().max(1).next_multiple_of(unit) - whole.len();
    VirtualFile::concat([whole, VirtualFile::zeros(padding)])
}

/// A disk image as releases have them: tables, a kernel that does not shrink and one that does, much room.
pub fn release(len: u64, blobs: &mut Blobs) -> VirtualFile {
    let parts = [
        (0, 512, 1),
        (6, 1 << 20, 0),
        (4, 100_000, 3),
        (1, 6_000_001, 4),
        (6, 4000, 0),
        (2, 300_000, 5),
        (5, 1 << 20, 0),
        (3, 90_000, 0xE5),
        (1, 2_000_000, 6),
    ];
    let used = disk(&parts, 1 << 20, blobs);
    let gap = len - used.len() - 512;
    VirtualFile::concat([used, VirtualFile::zeros(gap), VirtualFile::inline(noise(512, 7))])
}

/// Writes a file, zeros as holes.
pub fn write(file: &VirtualFile, blobs: &Blobs, path: &Path) {
    let mut out = File::create(path).unwrap();
    for range in file.data(4096) {
        out.seek(SeekFrom::Start(range.start)).unwrap();
        for piece in file.pieces(range, blobs as &dyn ReadBlob, 1 << 20) {
            out.write_all(&piece.unwrap()).unwrap();
        }
    }
    out.set_len(file.len()).unwrap();
}

/// Whether the file at `path` holds just what `file` says.
pub fn same(file: &VirtualFile, blobs: &Blobs, path: &Path) -> bool {
    let mut theirs = File::open(path).unwrap();
    let mut buffer = Vec::new();
    for piece in file.pieces(0..file.len(), blobs as &dyn ReadBlob, 1 << 20) {
        let piece = piece.unwrap();
        buffer.clear();
        io::copy(&mut io::Read::take(&mut theirs, piece.len() as u64), &mut buffer).unwrap();
        if buffer != piece {
            return false;
        }
    }
    theirs.metadata().unwrap().len() == file.len()
}

/// Runs a shell command in a folder; what it says. It must succeed and complain of nothing.
pub fn run(folder: &Path, command: &str) -> String {
    let output =
        Command::new("sh").args(["-ec", command]).current_dir(folder).env("LC_ALL", "C.UTF-8").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && stderr.is_empty(), "{command}: {stdout}{stderr}");
    stdout
}
