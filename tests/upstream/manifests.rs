//! Parsing manifests and indexes, right and mutated.

use bytes::Bytes;
use image_factory::types::{Arch, Digest};
use image_factory::upstream::{Content, Descriptor, Manifest, ManifestError, ManifestType, config_platform};
use proptest::prelude::*;
use serde_json::{Value, json};

fn descriptor(media_type: &str, platform: Option<Value>) -> Value {
    let mut descriptor =
        json!({"mediaType": media_type, "digest": Digest::of(b"x"), "size": 7, "urls": [], "new": {"x": 1}});
    if let Some(platform) = platform {
        descriptor["platform"] = platform;
    }
    descriptor
}

fn image(media_type: &str) -> Value {
    json!({
        "schemaVersion": 2, "mediaType": media_type, "annotations": null, "unknown": [1, 2],
        "config": descriptor("application/vnd.oci.image.config.v1+json", None),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+zstd", None)],
    })
}

fn index(media_type: &str) -> Value {
    let entry = |os: &str, arch: &str, variant: Value| {
        let platform = json!({"os": os, "architecture": arch, "variant": variant, "os.version": "1"});
        descriptor(ManifestType::OciManifest.as_str(), Some(platform))
    };
    json!({
        "schemaVersion": 2, "mediaType": media_type,
        "manifests": [
            descriptor(ManifestType::OciManifest.as_str(), None),
            entry("unknown", "amd64", Value::Null), entry("linux", "arm64", json!("v9")),
            entry("linux", "arm64", json!("v8")), entry("linux", "amd64", Value::Null),
        ],
    })
}

fn parse(document: &Value, announced: Option<&str>) -> Result<Manifest, ManifestError> {
    Manifest::parse(Bytes::from(document.to_string()), announced)
}

#[test]
fn both_families_are_read_with_and_without_an_announced_type() {
    for media_type in ManifestType::ALL {
        let text = media_type.as_str();
        let document = if media_type.is_index() { index(text) } else { image(text) };
        for announced in [None, Some(text), Some("application/json"), Some("text/plain; charset=utf-8"), Some("")] {
            let manifest = parse(&document, announced).unwrap();
            assert_eq!(manifest.media_type, media_type);
            assert_eq!(manifest.digest, Digest::of(document.to_string().as_bytes()));
            assert_eq!(matches!(manifest.content, Content::Index(_)), media_type.is_index());
        }
        let mut silent = document.clone();
        silent.as_object_mut().unwrap().remove("mediaType");
        assert_eq!(parse(&silent, Some(&format!("{text}; charset=utf-8"))).unwrap().media_type, media_type);
        assert_eq!(parse(&silent, None).unwrap().media_type.is_index(), media_type.is_index());
    }
}

#[test]
fn a_platform_is_found_by_system_architecture_and_variant() {
    let Content::Index(list) = parse(&index(ManifestType::OciIndex.as_str()), None).unwrap().content else {
        panic!("not an index")
    };
    let place =
        |arch| list.manifests.iter().position(|entry| std::ptr::eq(entry, list.platform_manifest(arch).unwrap()));
    assert_eq!((place(Arch::Arm64), place(Arch::Amd64)), (Some(3), Some(4)));
    assert!(config_platform(br#"{"architecture":"arm64","os":"linux","rootfs":{}}"#).unwrap().is(Arch::Arm64));
    assert!(config_platform(br#"{"os":"linux"}"#).unwrap_err().to_string().contains("architecture"));
}

#[test]
fn a_descriptor_is_written_as_it_is_read() {
    let manifest = parse(&image(ManifestType::OciManifest.as_str()), None).unwrap();
    let Content::Image(content) = &manifest.content else { panic!("not an image") };
    let layer = serde_json::to_value(&content.layers[0]).unwrap();
    let expected = json!({"mediaType": content.layers[0].media_type, "digest": Digest::of(b"x"), "size": 7});
    assert_eq!(layer, expected);
    let platform = json!({"architecture": "arm64", "os": "linux", "variant": "v8"});
    let mut full = json!({"mediaType": "a/b", "digest": Digest::of(b"x"), "size": 1, "annotations": {"k": "v"}});
    full["platform"] = platform;
    full["artifactType"] = json!("c/d");
    let read: Descriptor = serde_json::from_value(full.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), full);
    assert_eq!(manifest.descriptor().artifact_type.as_deref(), Some("application/vnd.oci.image.config.v1+json"));
}

#[test]
fn what_contradicts_itself_or_its_announcement_is_refused() {
    let (oci, list) = (ManifestType::OciManifest.as_str(), ManifestType::OciIndex.as_str());
    let with = |key: &str, value: Value| {
        let mut document = image(oci);
        document[key] = value;
        document
    };
    let cases = [
        (image(oci), Some(ManifestType::DockerManifest.as_str()), "announced as"),
        (image(list), None, "announced as"),
        (index(oci), None, "announced as"),
        (with("manifests", json!([])), None, "both manifests and layers"),
        (with("schemaVersion", json!(3)), None, "schemaVersion is 3"),
        (with("schemaVersion", json!(1)), None, "schema 1"),
        (with("mediaType", json!("text/plain")), None, "text/plain"),
        (with("config", json!({})), None, "mediaType"),
        (with("layers", json!([{"mediaType": "x", "digest": "sha512:00", "size": 1}])), None, "sha256"),
        (with("layers", json!([{"mediaType": "x", "digest": Digest::of(b""), "size": -1}])), None, "-1"),
        (json!([]), None, "not a manifest"),
        (json!({"schemaVersion": 2}), None, "config"),
    ];
    for (document, announced, reason) in cases {
        let error = parse(&document, announced).unwrap_err().to_string();
        assert!(error.contains(reason), "{document}: {error}");
    }
    let deep = "[".repeat(100_000);
    assert!(Manifest::parse(Bytes::from(deep), None).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn mutated_documents_are_parsed_or_refused(
        which in 0..4_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        truncate in any::<bool>(),
    ) {
        let media_type = ManifestType::ALL[which];
        let document = if media_type.is_index() { index(media_type.as_str()) } else { image(media_type.as_str()) };
        let mut bytes = document.to_string().into_bytes();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if truncate {
            bytes.truncate(cut.index(bytes.len()));
        }
        let digest = Digest::of(&bytes);
        if let Ok(manifest) = Manifest::parse(bytes.into(), Some(media_type.as_str())) {
            prop_assert_eq!((manifest.digest, manifest.media_type), (digest, media_type));
            prop_assert_eq!(matches!(manifest.content, Content::Index(_)), media_type.is_index());
        }
    }

    #[test]
    fn random_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Manifest::parse(bytes.clone().into(), None).is_err());
        prop_assert!(config_platform(&bytes).is_err());
    }
}
