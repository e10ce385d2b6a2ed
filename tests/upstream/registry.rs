//! Against Debian's docker-registry, filled by skopeo.

use std::io::Read as _;

use flate2::read::GzDecoder;
use image_factory::types::{Arch, Digest};
use image_factory::upstream::{
    Content, ManifestType, Reference, Upstream, UpstreamConfig, UpstreamError, config_platform,
};
use serde_json::json;

use crate::support::layout::{LayoutMaker, MANIFEST, digest};
use crate::support::registry::{DockerRegistry, USER};
use crate::support::{Memory, client, config, noise};

fn tag(tag: &str) -> Reference {
    Reference::Tag(tag.to_owned())
}

#[tokio::test]
async fn an_image_of_both_families_is_fetched_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut layout = LayoutMaker::new(folder.path());
    let content = noise(300_000);
    let images = [layout.image("amd64", &content, &json!({})), layout.image("arm64", b"arm", &json!({}))];
    let index = layout.index(&images);
    let index = layout.list(index, Some("both"));
    layout.list(images[0].clone(), Some("single"));
    let registry = DockerRegistry::start();
    registry.push(&layout.folder, "both", "prefix/a/b:v1.0.0", &["--all"]);
    registry.push(&layout.folder, "single", "prefix/a/b:docker", &["--format", "v2s2"]);

    let upstream =
        Upstream::new(UpstreamConfig { namespace: "prefix".to_owned(), ..config(&registry.host()) }).unwrap();
    let mut tags = upstream.tags("a/b").await.unwrap();
    tags.sort();
    assert_eq!(tags, ["docker", "v1.0.0"]);

    let found = upstream.manifest("a/b", &tag("v1.0.0")).await.unwrap();
    assert_eq!((found.digest, found.media_type), (index, ManifestType::OciIndex));
    let Content::Index(list) = &found.content else { panic!("not an index") };
    let amd64 = list.platform_manifest(Arch::Amd64).unwrap();
    assert_eq!(amd64.digest, digest(&images[0]));
    assert_eq!(list.platform_manifest(Arch::Arm64).unwrap().digest, digest(&images[1]));

    let manifest = upstream.manifest("a/b", &amd64.digest.into()).await.unwrap();
    assert_eq!((manifest.digest, manifest.media_type), (amd64.digest, ManifestType::OciManifest));
    let Content::Image(image) = &manifest.content else { panic!("not an image") };
    let memory = Memory::default();
    let layer = &image.layers[0];
    let got = memory.fetch(&upstream, &layer.digest, Some(layer.size)).await.unwrap();
    assert_eq!(got, (layer.digest, layer.size));
    let mut tar = Vec::new();
    GzDecoder::new(&memory.only()[..]).read_to_end(&mut tar).unwrap();
    assert_eq!(tar[512..][..content.len()], content);
    let bytes = upstream.small_blob("a/b", &image.config.digest, 4096).await.unwrap();
    assert!(config_platform(&bytes).unwrap().is(Arch::Amd64));

    let docker = upstream.manifest("a/b", &tag("docker")).await.unwrap();
    assert_eq!(docker.media_type, ManifestType::DockerManifest);
    let Content::Image(image) = &docker.content else { panic!("not an image") };
    assert_eq!(image.layers.len(), 1);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let mut layout = LayoutMaker::new(folder.path());
    let image = layout.image("amd64", b"x", &json!({}));
    let known = layout.list(image, Some("x"));
    let registry = DockerRegistry::start();
    registry.push(&layout.folder, "x", "a/b:x", &[]);
    let upstream = client(&registry.host());
    let nothing = Digest::of(b"nothing");
    let errors = [
        upstream.tags("no/such").await.err().unwrap(),
        upstream.manifest("a/b", &tag("y")).await.err().unwrap(),
        upstream.manifest("a/b", &nothing.into()).await.err().unwrap(),
        upstream.small_blob("a/b", &nothing, 10).await.err().unwrap(),
        Memory::default().fetch(&upstream, &nothing, None).await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, UpstreamError::NotFound { .. }), "{error}");
        assert!(error.to_string().contains(&registry.host()), "{error}");
    }
    assert!(upstream.referrers("a/b", &known).await.unwrap().is_empty());
    let error = upstream.manifest("a/b", &tag("y")).await.err().unwrap().to_string();
    assert!(error.contains("a/b:y") && error.contains("MANIFEST_UNKNOWN"), "{error}");
    for (repository, reference) in [("a/../b", tag("x")), ("A", tag("x")), ("a", tag("x/y")), ("a", tag("x?y"))] {
        let error = upstream.manifest(repository, &reference).await.err().unwrap();
        assert!(matches!(error, UpstreamError::Name { .. }), "{error}");
    }
}

#[tokio::test]
async fn referrers_are_found_by_the_fallback_tag() {
    let folder = tempfile::tempdir().unwrap();
    let mut layout = LayoutMaker::new(folder.path());
    let image = layout.image("amd64", b"x", &json!({}));
    let signature = layout.image("amd64", b"sig", &json!({"subject": image, "artifactType": "application/x.sig"}));
    let fallback = layout.index(std::slice::from_ref(&signature));
    let subject = layout.list(image, Some("x"));
    layout.list(fallback, Some("referrers"));
    let registry = DockerRegistry::start();
    registry.push(&layout.folder, "x", "a/b:x", &[]);
    registry.push(&layout.folder, "referrers", &format!("a/b:sha256-{}", subject.hex()), &["--all"]);
    let found = client(&registry.host()).referrers("a/b", &subject).await.unwrap();
    assert_eq!(found.iter().map(|entry| entry.digest).collect::<Vec<_>>(), [digest(&signature)]);
    assert_eq!(found[0].media_type, MANIFEST);
}

#[tokio::test]
async fn a_password_is_shown_when_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut layout = LayoutMaker::new(folder.path());
    let image = layout.image("amd64", b"x", &json!({}));
    let expected = layout.list(image, Some("x"));
    let registry = DockerRegistry::with_password();
    registry.push(&layout.folder, "x", "a/b:x", &["--dest-creds", &format!("{}:{}", USER.0, USER.1)]);
    let path = folder.path().join("config.json");
    let with_file = UpstreamConfig { docker_config: Some(path.clone()), ..config(&registry.host()) };
    let upstream = Upstream::new(with_file).unwrap();

    let error = upstream.manifest("a/b", &tag("x")).await.err().unwrap();
    assert!(matches!(error, UpstreamError::Unauthorized { .. }), "{error}");
    let write = |password: &str| {
        let auths = json!({"auths": {registry.host(): {"username": USER.0, "password": password}}});
        std::fs::write(&path, auths.to_string()).unwrap();
    };
    write("wrong");
    let error = upstream.manifest("a/b", &tag("x")).await.err().unwrap();
    assert!(matches!(error, UpstreamError::Unauthorized { .. }), "{error}");
    assert!(!error.to_string().contains("wrong"), "{error}");
    // The file is read anew: no restart is needed after a password was changed.
    write(USER.1);
    assert_eq!(upstream.manifest("a/b", &tag("x")).await.unwrap().digest, expected);
}

#[tokio::test]
async fn tls_is_checked_unless_the_registry_is_insecure() {
    let folder = tempfile::tempdir().unwrap();
    let mut layout = LayoutMaker::new(folder.path());
    let image = layout.image("amd64", b"x", &json!({}));
    let expected = layout.list(image, Some("x"));
    let registry = DockerRegistry::with_tls();
    registry.push(&layout.folder, "x", "a/b:x", &[]);
    assert_eq!(client(&registry.host()).manifest("a/b", &tag("x")).await.unwrap().digest, expected);
    // The same registry by an address that does not count as loopback.
    let other = format!("0.0.0.0:{}", registry.port);
    let error = client(&other).manifest("a/b", &tag("x")).await.err().unwrap();
    assert!(matches!(error, UpstreamError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
    let insecure = Upstream::new(UpstreamConfig { insecure: true, ..config(&other) }).unwrap();
    assert_eq!(insecure.manifest("a/b", &tag("x")).await.unwrap().digest, expected);
}

#[tokio::test]
async fn a_registry_that_is_down_is_unavailable_until_it_is_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut layout = LayoutMaker::new(folder.path());
    let image = layout.image("amd64", b"x", &json!({}));
    let expected = layout.list(image, Some("x"));
    let mut registry = DockerRegistry::start();
    registry.push(&layout.folder, "x", "a/b:x", &[]);
    let upstream = client(&registry.host());
    registry.stop();
    let error = upstream.manifest("a/b", &tag("x")).await.err().unwrap();
    assert!(matches!(error, UpstreamError::Unavailable { .. }), "{error}");
    registry.restart();
    assert_eq!(upstream.manifest("a/b", &tag("x")).await.unwrap().digest, expected);
}
