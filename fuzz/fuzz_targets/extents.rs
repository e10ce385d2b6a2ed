//! Stored extent lists.
#![no_main]

use image_factory::virtual_file::VirtualFile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(file) = VirtualFile::decode(data.to_vec()) {
        assert_eq!(VirtualFile::decode(file.encode()).as_ref(), Ok(&file));
    }
});
