//! Stored extent lists: what can be read is stored again as it was, and can be read in ranges.
#![no_main]

use fuzz::{Input, hold_ranges};
use image_factory::virtual_file::VirtualFile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(file) = VirtualFile::decode(data.to_vec()) {
        hold_ranges(&file, &mut Input::new(data));
    }
});
