//! Foreign squashfs images: walked whole, and all contents read.
#![no_main]

use std::io::Cursor;

use image_factory::format::squashfs::{Limits, Squashfs};
use image_factory::virtual_file::VirtualFile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let limits = Limits { entries: 1000, bytes: 1 << 20 };
    let Ok(mut image) = Squashfs::open(Cursor::new(data), limits) else { return };
    let _ = image.read_file("usr/lib/modules/modules.order", 1 << 16);
    let _ = image.tree("", &mut |_, size, copy| {
        let mut bytes = Vec::new();
        copy(&mut bytes)?;
        assert_eq!(bytes.len() as u64, size);
        Ok(VirtualFile::inline(bytes))
    });
});
