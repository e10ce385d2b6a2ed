//! Foreign image layers: the bytes are applied twice, as a lower and as an upper layer.
#![no_main]

use image_factory::format::layers::{Layers, Limits};
use image_factory::virtual_file::VirtualFile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut layers = Layers::new(Limits { bytes: 1 << 20, entries: 1000 }, &|path| !path.starts_with(b"skip"));
    for _ in 0..2 {
        let applied = layers.apply(data, &mut |_, size, contents| {
            let mut bytes = Vec::new();
            contents.read_to_end(&mut bytes)?;
            assert_eq!(bytes.len() as u64, size);
            Ok(VirtualFile::inline(bytes))
        });
        if applied.is_err() {
            return;
        }
    }
    let _ = layers.into_tree();
});
