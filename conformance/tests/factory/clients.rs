//! Container tools pull both architectures and agree on digests; signatures verify, also of copies.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use conformance::factory::program;
use conformance::registry::Registry;
use conformance::{run, tools};
use sha2::{Digest as _, Sha256};

use super::world::{THREE, World};

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Every blob that a layout holds is what its name says.
fn check_layout(layout: &Path) -> Result<usize> {
    let mut blobs = 0;
    for entry in std::fs::read_dir(layout.join("blobs/sha256"))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        ensure!(sha256(&std::fs::read(&path)?) == format!("sha256:{name}"), "{name}");
        blobs += 1;
    }
    Ok(blobs)
}

#[test]
fn skopeo_crane_and_oras_agree_on_digests() {
    let world = World::start().unwrap();
    let id = world.factory.post_schematic(THREE).unwrap();
    let host = world.factory.address();
    for (image, tag) in [("installer", "v1.13.2"), ("aws-installer", "v1.9.5"), ("installer", "1.14.0-beta.0")] {
        let name = format!("{image}/{id}");
        let [index, amd64, arm64] = world.digests(&name, tag).unwrap();
        let reference = format!("{host}/{name}:{tag}");

        let layout = world.at(&format!("skopeo-{image}-{tag}"));
        run::output(
            Command::new("skopeo")
                .args(["copy", "--all", "--quiet", "--preserve-digests", "--src-tls-verify=false"])
                .arg(format!("docker://{reference}"))
                .arg(format!("oci:{}:x", layout.display())),
        )
        .unwrap();
        let pulled: serde_json::Value =
            serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
        assert_eq!(pulled["manifests"][0]["digest"], index, "{reference}");
        assert!(check_layout(&layout).unwrap() >= 7, "index, manifests, configs, layers");

        let crane_program = tools::CRANE.path().unwrap();
        let crane = |args: &[&str]| run::text(Command::new(&crane_program).args(args).args(["--insecure", &reference]));
        assert_eq!(crane(&["digest"]).unwrap().trim(), index);
        assert_eq!(crane(&["digest", "--platform=linux/amd64"]).unwrap().trim(), amd64);
        assert_eq!(crane(&["digest", "--platform=linux/arm64"]).unwrap().trim(), arm64);
        let oras = tools::ORAS.path().unwrap();
        let fetched = run::text(Command::new(&oras).args(["resolve", "--plain-http", &reference])).unwrap();
        assert_eq!(fetched.trim(), index);
        let tree = run::text(Command::new(&oras).args(["discover", "--plain-http", &reference])).unwrap();
        assert!(tree.contains("application/vnd.dev.sigstore.bundle.v0.3+json"), "{tree}");
        for arch in ["amd64", "arm64"] {
            let to = world.at(&format!("oras-{image}-{tag}-{arch}"));
            let mut copy = Command::new(&oras);
            copy.args(["copy", "--from-plain-http", "--to-oci-layout", "--platform", &format!("linux/{arch}")]);
            run::output(copy.arg(&reference).arg(format!("{}:x", to.display()))).unwrap();
            check_layout(&to).unwrap();
        }
    }
}

/// Whether cosign accepts an image by a key, in the form that its flag says.
fn accepts(key: &Path, reference: &str, bundle: bool) -> Result<bool> {
    let mut command = Command::new(tools::COSIGN.path()?);
    command.args(["verify", "--insecure-ignore-tlog=true", "--allow-http-registry"]);
    command.arg(format!("--new-bundle-format={bundle}")).arg("--key").arg(key).arg(reference);
    Ok(command.output()?.status.success())
}

/// Whether cosign and we ourselves accept a bundle over a file by a key; both must say the same.
fn accept_file(key: &Path, bundle: &Path, file: &Path) -> Result<bool> {
    let mut cosign = Command::new(tools::COSIGN.path()?);
    cosign.args(["verify-blob", "--insecure-ignore-tlog=true", "--key"]).arg(key).arg("--bundle").arg(bundle).arg(file);
    let mut ours = Command::new(program()?);
    ours.args(["verify", "bundle"]).arg(bundle).arg(file).env("IF_CONTAINERSIGNATURE_PUBLICKEYFILE", key);
    let [cosign, ours] = [cosign.output()?, ours.output()?];
    let said = [&cosign.stderr, &ours.stdout, &ours.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    ensure!(cosign.status.success() == ours.status.success(), "{said:?}");
    Ok(cosign.status.success())
}

#[test]
fn cosign_accepts_the_signature_beside_an_asset() {
    let world = World::start().unwrap();
    let id = world.factory.post_schematic(THREE).unwrap();
    let key = world.download("/oci/cosign/signing-key.pub", "key.pub").unwrap();
    for name in ["metal-amd64.iso", "cmdline-metal-arm64", "metal-arm64.raw.zst"] {
        let path = format!("/image/{id}/v1.13.2/{name}");
        let file = world.download(&path, name).unwrap();
        let bundle = world.download(&format!("{path}.sigstore.json"), &format!("{name}.sigstore.json")).unwrap();
        assert!(accept_file(&key, &bundle, &file).unwrap(), "{name}");
        assert!(!accept_file(&world.release.public_key(), &bundle, &file).unwrap(), "{name}: another key");
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        assert!(!accept_file(&key, &bundle, &file).unwrap(), "{name}: another file");
    }
}

#[test]
fn cosign_accepts_what_we_signed_and_a_copy_of_it() {
    let world = World::start().unwrap();
    let id = world.factory.post_schematic(THREE).unwrap();
    let name = format!("installer/{id}");
    let [index, amd64, arm64] = world.digests(&name, "v1.13.2").unwrap();
    let key = world.at("key.pub");
    std::fs::write(&key, world.get("/oci/cosign/signing-key.pub").unwrap().bytes().unwrap()).unwrap();
    let host = world.factory.address();
    for digest in [&index, &amd64, &arm64] {
        for bundle in [true, false] {
            assert!(accepts(&key, &format!("{host}/{name}@{digest}"), bundle).unwrap(), "{digest} {bundle}");
        }
    }
    let foreign = accepts(&world.release.public_key(), &format!("{host}/{name}@{index}"), true);
    assert!(!foreign.unwrap(), "another key");

    let storage = world.at("copy");
    std::fs::create_dir_all(&storage).unwrap();
    let copy = Registry::writable(&storage).unwrap();
    let from = |tag: &str| format!("docker://{host}/{name}:{tag}");
    let to = |tag: &str| format!("docker://{}/copied:{tag}", copy.address());
    let hex = index.trim_start_matches("sha256:");
    for tag in ["v1.13.2".to_owned(), format!("sha256-{hex}.sig")] {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["copy", "--all", "--quiet", "--preserve-digests"]);
        skopeo.args(["--src-tls-verify=false", "--dest-tls-verify=false"]);
        run::output(skopeo.arg(from(&tag)).arg(to(&tag))).unwrap();
    }
    let copied = format!("{}/copied@{index}", copy.address());
    assert!(accepts(&key, &copied, false).unwrap(), "the older form, in a copy");
}
