//! Trees that nobody asked for: refused, or laid out in the length that the volume descriptor tells with every file where it is said to be.
#![no_main]

use std::collections::BTreeMap;

use fuzz::{Input, bytes, hold_ranges, iso_files};
use image_factory::format::iso9660::{BiosBoot, Content, GptGuids, Image, PartitionTable, SECTOR};
use image_factory::types::Digest;
use image_factory::virtual_file::VirtualFile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((head, rest)) = data.split_at_checked(16) else { return };
    let number = |bytes: &[u8]| bytes.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let blob = |len: u64| VirtualFile::blob(Digest::of(b"fuzz"), len);
    let uefi = (head[0] & 1 != 0).then(|| blob(number(&head[8..16]) >> (head[1] & 63)));
    let mut files = BTreeMap::new();
    for line in rest.split(|byte| *byte == b'\n') {
        // A kind, eight bytes of numbers, and a path.
        let Some((numbers, path)) = line.split_at_checked(9) else { continue };
        let path = String::from_utf8_lossy(path).into_owned();
        let big = number(&numbers[1..9]) >> (numbers[0] >> 2);
        let content = match numbers[0] & 3 {
            0 => Content::Directory,
            1 => Content::File(blob(big)),
            2 => Content::Shared { offset: big / SECTOR * SECTOR, len: number(&numbers[6..9]) },
            _ => Content::Shared { offset: number(&numbers[1..5]), len: number(&numbers[5..9]) },
        };
        files.insert(path, content);
    }
    let bios_image = blob(number(&head[4..8]) >> (head[2] & 31));
    let patches = |lba: u32| vec![(number(&head[6..8]), lba.to_le_bytes().to_vec().into())];
    let boot_code = |lba: u32| [lba as u8; 440];
    let bios = BiosBoot { path: "boot/bios.img", image: &bios_image, patches: &patches, boot_code: &boot_code };
    let image = Image {
        volume_id: "FUZZ",
        volume_set_id: "",
        mtime: number(&head[4..8]) as u32,
        files: &files,
        bios: (head[0] & 2 != 0).then_some(bios),
        uefi: uefi.as_ref(),
        partitions: if head[0] & 4 != 0 { PartitionTable::Mbr } else { PartitionTable::Gpt(GptGuids::of("fuzz")) },
    };
    let Ok(iso) = image.layout() else { return };
    let start = bytes(&iso.slice(16 * SECTOR..16 * SECTOR + 84));
    assert_eq!(u64::from(u32::from_le_bytes([start[80], start[81], start[82], start[83]])) * SECTOR, iso.len());
    let found = iso_files(&iso);
    for (path, content) in &files {
        match content {
            Content::Directory => {}
            Content::File(file) => assert_eq!(found[path], *file, "{path}"),
            Content::Shared { offset, len } => {
                let uefi = uefi.as_ref().expect("what files are shared with");
                assert_eq!(found[path], uefi.slice(*offset..offset + len), "{path}");
            }
        }
    }
    hold_ranges(&iso, &mut Input::new(data));
});
