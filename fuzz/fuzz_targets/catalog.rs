//! Foreign catalogs and extension manifests.
#![no_main]

use image_factory::assemble::extension::Metadata;
use image_factory::catalog;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = catalog::extensions(data, Some(data), "registry.example");
    let _ = catalog::overlays(data, "registry.example");
    let _ = Metadata::parse(data);
    let _ = image_factory::format::bzimage::release(data);
});
