//! Foreign initramfs files: every segment, every entry, all contents.
#![no_main]

use std::io::Read;

use image_factory::format::cpio::{Limits, Reader};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut reader = Reader::new(data, Limits { bytes: 1 << 20, entries: 1000 });
    while let Ok(Some(entry)) = reader.next_entry() {
        let mut contents = Vec::new();
        if reader.read_to_end(&mut contents).is_ok() {
            assert_eq!(contents.len(), entry.size as usize);
        }
    }
});
