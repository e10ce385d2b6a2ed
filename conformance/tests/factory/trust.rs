//! Nothing is served that was not signed by whom the policy names.

use std::fs;

use conformance::factory::{Factory, Settings};
use conformance::registry::Registry;
use conformance::release::{self, Size};

use super::world::{THREE, World, get};

#[test]
fn an_unsigned_extension_is_refused_by_name() {
    let world = World::start().unwrap();
    let yaml =
        "customization:\n    systemExtensions:\n        officialExtensions:\n            - siderolabs/unsigned\n";
    let id = world.factory.post_schematic(yaml).unwrap();
    let answer = world.get(&format!("/v2/installer/{id}/manifests/v1.13.2")).unwrap();
    assert_eq!(answer.status(), 502);
    let text = answer.text().unwrap();
    assert!(text.contains("siderolabs/unsigned@sha256:") && text.contains("not signed"), "{text}");
}

#[test]
fn another_key_refuses_everything() {
    let release = release::ensure(Size::Mini).unwrap();
    let registry = Registry::read_only(&release).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let first = World::start().unwrap();
    let key = folder.path().join("other.pub");
    fs::write(&key, first.get("/oci/cosign/signing-key.pub").unwrap().bytes().unwrap()).unwrap();
    let settings = Settings::on(&registry, &release, &folder.path().join("store"))
        .with("IF_CONTAINERSIGNATURE_PUBLICKEYFILE", key.display());
    let factory = Factory::start_unready(&settings, &folder.path().join("log")).unwrap();
    factory.wait_ready(std::time::Duration::from_secs(30)).unwrap();
    let id = factory.post_schematic(THREE).unwrap();
    let paths = [format!("/v2/installer/{id}/manifests/v1.13.2"), "/v2/siderolabs/imager/manifests/v1.13.2".to_owned()];
    for path in paths {
        let answer = get(&factory, &path).unwrap();
        assert_eq!(answer.status(), 502, "{path}");
        assert!(answer.text().unwrap().contains("siderolabs/"), "{path}");
    }
}

/// A bit of a source image, or of its signature, changed in the upstream's storage.
#[test]
fn a_changed_bit_upstream_refuses() {
    let release = release::ensure(Size::Mini).unwrap();
    let imager = release.digest("siderolabs/imager", "v1.13.2").unwrap().to_owned();
    for part in ["manifest", "layer", "signature"] {
        let registry = Registry::scratch(&release).unwrap();
        let read = |digest: &str| -> serde_json::Value {
            serde_json::from_slice(&fs::read(registry.blob(digest)).unwrap()).unwrap()
        };
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let amd64 = text(&read(&imager)["manifests"][0]["digest"]);
        let victim = match part {
            "manifest" => amd64,
            "layer" => text(&read(&amd64)["layers"][0]["digest"]),
            _ => {
                let tag = format!("sha256-{}.sig", imager.trim_start_matches("sha256:"));
                let signatures = &release.manifest().signatures;
                let found = signatures.iter().find(|found| found.repository == "siderolabs/imager" && found.tag == tag);
                text(&read(&found.unwrap().descriptor.digest)["layers"][0]["digest"])
            }
        };
        let path = registry.blob(&victim);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();

        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::on(&registry, &release, &folder.path().join("store"));
        let factory = Factory::start(&settings, &folder.path().join("log")).unwrap();
        let id = factory.post_schematic(THREE).unwrap();
        let answer = get(&factory, &format!("/v2/installer/{id}/manifests/v1.13.2")).unwrap();
        let status = answer.status();
        let text = answer.text().unwrap();
        assert_eq!(status, 502, "{part}: {text}");
        assert!(text.contains("siderolabs/imager"), "{part}: {text}");
        let served = get(&factory, &format!("/v2/siderolabs/imager/blobs/{victim}")).unwrap();
        assert_ne!(served.status(), 200, "{part}");
    }
}
