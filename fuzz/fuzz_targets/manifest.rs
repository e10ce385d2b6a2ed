//! Manifests, indexes and configs as an upstream sends them.
#![no_main]

use image_factory::types::{Arch, Digest};
use image_factory::upstream::{Content, Manifest, ManifestType, config_platform};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = config_platform(data);
    let announced = ManifestType::ALL.map(|media_type| Some(media_type.as_str()));
    for announced in announced.into_iter().chain([None, Some("application/json")]) {
        let Ok(manifest) = Manifest::parse(data.to_vec().into(), announced) else { continue };
        assert_eq!(manifest.digest, Digest::of(data));
        assert_eq!(manifest.descriptor().size, data.len() as u64);
        let is_index = match &manifest.content {
            Content::Index(index) => {
                for arch in Arch::ALL {
                    if let Some(entry) = index.platform_manifest(arch) {
                        assert!(entry.platform.as_ref().is_some_and(|platform| platform.is(arch)));
                    }
                }
                true
            }
            Content::Image(_) => false,
        };
        assert_eq!(is_index, manifest.media_type.is_index());
    }
});
