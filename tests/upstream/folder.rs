//! An OCI image layout as the upstream.

use std::fs;

use image_factory::types::{Arch, Digest};
use image_factory::upstream::{Content, Reference, Upstream, UpstreamConfig, UpstreamError};
use serde_json::json;

use crate::support::layout::{INDEX, LAYER, LayoutMaker, MANIFEST, digest};
use crate::support::{Memory, client, config, noise};

fn tag(tag: &str) -> Reference {
    Reference::Tag(tag.to_owned())
}

fn bad(error: &UpstreamError, reason: &str) {
    assert!(matches!(error, UpstreamError::BadAnswer { .. }) && error.to_string().contains(reason), "{error}");
}

#[tokio::test]
async fn a_folder_serves_tags_manifests_and_blobs() {
    let folder = tempfile::tempdir().unwrap();
    let mut layout = LayoutMaker::new(folder.path());
    let content = noise(600_000);
    let images = [layout.image("amd64", &content, &json!({})), layout.image("arm64", b"arm", &json!({}))];
    let index = layout.index(&images);
    layout.list(images[1].clone(), Some("ns/a/b:v1.0.0"));
    let expected = layout.list(index, Some("ns/a/b:v1.0.0"));
    layout.list(images[0].clone(), Some("ns/a/b:single"));
    layout.list(images[0].clone(), Some("ns/a/b-c:other"));
    layout.list(images[0].clone(), None);
    let upstream = Upstream::new(UpstreamConfig { namespace: "ns".to_owned(), ..config(&layout.registry()) }).unwrap();
    assert_eq!(upstream.tags("a/b").await.unwrap(), ["single", "v1.0.0"]);
    // A tool that pushes a tag anew appends an entry.
    let found = upstream.manifest("a/b", &tag("v1.0.0")).await.unwrap();
    assert_eq!(found.digest, expected);
    let Content::Index(list) = &found.content else { panic!("not an index") };
    let amd64 = list.platform_manifest(Arch::Amd64).unwrap().digest;
    let Content::Image(image) = upstream.manifest("a/b", &amd64.into()).await.unwrap().content else {
        panic!("not an image")
    };
    let memory = Memory::default();
    let layer = &image.layers[0];
    assert_eq!(memory.fetch(&upstream, &layer.digest, Some(layer.size)).await.unwrap(), (layer.digest, layer.size));
    assert_eq!(Digest::of(&memory.only()), layer.digest);
    assert_eq!(upstream.small_blob("a/b", &image.config.digest, 4096).await.unwrap().len() as u64, image.config.size);
}

#[tokio::test]
async fn referrers_are_manifests_with_that_subject() {
    let folder = tempfile::tempdir().unwrap();
    let mut layout = LayoutMaker::new(folder.path());
    let image = layout.image("amd64", b"x", &json!({}));
    let annotations = json!({"k": "v"});
    let extra = json!({"subject": image, "artifactType": "application/x.sig", "annotations": annotations});
    let signature = layout.image("amd64", b"sig", &extra);
    let other = layout.image("amd64", b"other", &json!({"subject": signature}));
    let old = layout.image("amd64", b"old", &json!({}));
    let fallback = layout.index(std::slice::from_ref(&old));
    let subject = layout.list(image, Some("a/b:x"));
    layout.list(signature.clone(), None);
    layout.list(other, None);
    layout.list(fallback, Some(&format!("a/b:sha256-{}", subject.hex())));
    layout.list(json!({"mediaType": MANIFEST, "digest": Digest::of(b"gone"), "size": 1}), None);
    let mut found = client(&layout.registry()).referrers("a/b", &subject).await.unwrap();
    found.retain(|entry| entry.digest != digest(&old));
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].digest, found[0].artifact_type.as_deref()), (digest(&signature), Some("application/x.sig")));
    assert_eq!(found[0].annotations["k"], "v");
    assert!(client(&layout.registry()).referrers("a/b", &digest(&old)).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_missing_or_damaged_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let mut layout = LayoutMaker::new(folder.path());
    let image = layout.image("amd64", b"x", &json!({}));
    let listed = layout.list(image, Some("a/b:x"));
    let blob = digest(&layout.blob(LAYER, b"content"));
    let upstream = client(&layout.registry());
    let nothing = Digest::of(b"nothing");
    let errors = [
        upstream.tags("a").await.unwrap_err(),
        upstream.manifest("a/b", &tag("y")).await.unwrap_err(),
        upstream.manifest("a/b", &nothing.into()).await.unwrap_err(),
        upstream.small_blob("a/b", &nothing, 10).await.unwrap_err(),
        Memory::default().fetch(&upstream, &nothing, None).await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, UpstreamError::NotFound { .. }), "{error}");
    }
    let fetch = async |size| {
        let memory = Memory::default();
        let error = memory.fetch(&upstream, &blob, Some(size)).await.unwrap_err();
        assert!(memory.is_empty());
        error
    };
    bad(&fetch(8).await, "has 7 bytes; the manifest says 8");
    bad(&upstream.small_blob("a/b", &blob, 6).await.unwrap_err(), "larger than 6");
    fs::write(layout.path(&blob), b"CONTENT").unwrap();
    bad(&fetch(7).await, "has digest");
    bad(&upstream.small_blob("a/b", &blob, 10).await.unwrap_err(), "has digest");
    fs::write(layout.path(&listed), b"{}").unwrap();
    bad(&upstream.manifest("a/b", &tag("x")).await.unwrap_err(), "has digest");
    fs::write(folder.path().join("index.json"), "<html>").unwrap();
    bad(&upstream.tags("a/b").await.unwrap_err(), "index.json");
    fs::write(folder.path().join("index.json"), vec![b' '; (4 << 20) + 1]).unwrap();
    bad(&upstream.tags("a/b").await.unwrap_err(), "larger than");
    // A folder that is gone is an upstream that is down.
    fs::remove_file(folder.path().join("index.json")).unwrap();
    for error in [upstream.tags("a/b").await.unwrap_err(), upstream.manifest("a/b", &nothing.into()).await.unwrap_err()]
    {
        assert!(matches!(error, UpstreamError::Unavailable { .. }), "{error}");
    }
}

#[tokio::test]
async fn what_skopeo_writes_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut source = LayoutMaker::new(&folder.path().join("source"));
    let image = source.image("amd64", b"x", &json!({}));
    let index = source.index(&[image]);
    let expected = source.list(index, Some("one"));
    let target = folder.path().join("target");
    crate::support::registry::copy_layout(&source.folder, "one", &target, "siderolabs/imager:v1.13.2");
    let upstream = client(&format!("oci:{}", target.display()));
    assert_eq!(upstream.tags("siderolabs/imager").await.unwrap(), ["v1.13.2"]);
    let found = upstream.manifest("siderolabs/imager", &tag("v1.13.2")).await.unwrap();
    assert_eq!((found.digest, found.media_type.as_str()), (expected, INDEX));
}
