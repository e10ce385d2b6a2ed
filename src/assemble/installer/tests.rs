use std::fs;
use std::path::PathBuf;

use super::*;

fn golden(folder: &str, name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(folder).join(format!("{name}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// A base of which the golden image could have been made: its first layer, and as many more as `layers` asks for.
fn base_of(manifest: &Value, config: &Value, arch: Arch, layers: usize) -> Result<Base, InstallerError> {
    let (mut manifest, mut config) = (manifest.clone(), config.clone());
    manifest["layers"].as_array_mut().unwrap().truncate(layers);
    config["rootfs"]["diff_ids"].as_array_mut().unwrap().truncate(layers);
    config["created"] = "2026-01-01T00:00:00Z".into();
    config["history"] = json!([{ "created_by": "COPY" }]);
    Base::read(arch, &serde_json::from_value(manifest).unwrap(), &config)
}

/// What `spec/api.md` says is different on purpose: OCI media types and a fixed time.
fn with_deviations(mut golden: Value) -> Value {
    fn rename(value: &mut Value) {
        match value {
            Value::String(text) => {
                let renamed = match text.as_str() {
                    "application/vnd.docker.distribution.manifest.v2+json" => MANIFEST_TYPE,
                    "application/vnd.docker.container.image.v1+json" => CONFIG_TYPE,
                    "application/vnd.docker.image.rootfs.diff.tar.gzip" => {
                        "application/vnd.oci.image.layer.v1.tar+gzip"
                    }
                    "{time}" => CREATED,
                    _ => return,
                };
                *text = renamed.to_owned();
            }
            Value::Array(values) => values.iter_mut().for_each(rename),
            Value::Object(fields) => fields.values_mut().for_each(rename),
            _ => {}
        }
    }
    rename(&mut golden);
    golden
}

/// Keys of both documents come in the golden order, too.
#[test]
fn golden_images() {
    let names = [
        "installer-v1.9.5",
        "installer-v1.10.7",
        "installer-v1.13.2",
        "metal-installer-v1.13.2",
        "installer-secureboot-v1.9.5",
        "installer-secureboot-v1.13.2",
    ];
    for name in names {
        let mut entries = Vec::new();
        for arch in Arch::ALL {
            let manifest = golden("http/oci", &format!("{name}.{arch}.manifest"));
            let config = golden("http/oci", &format!("{name}.{arch}.config"));
            // Before 1.10 the base has two layers, of which the second makes room for ours.
            let base_layers = if name.contains("v1.9") { 2 } else { 1 };
            let base = base_of(&manifest, &config, arch, base_layers).unwrap();
            let ours = image(&base, &[Layer::tar(Digest::of(b"layer"), 4096)]);

            let mut expected = with_deviations(config);
            expected["rootfs"]["diff_ids"][1] = Digest::of(b"layer").to_string().into();
            assert_eq!(String::from_utf8(ours.config.clone()).unwrap(), expected.to_string(), "{name} {arch}");

            let mut expected = with_deviations(manifest);
            expected["config"] = descriptor(CONFIG_TYPE, &Digest::of(&ours.config), ours.config.len() as u64);
            expected["layers"][1] = descriptor(TAR_TYPE, &Digest::of(b"layer"), 4096);
            assert_eq!(String::from_utf8(ours.manifest.clone()).unwrap(), expected.to_string(), "{name} {arch}");
            entries.push((arch, Digest::of(&ours.manifest), ours.manifest.len() as u64));
        }
        let mut expected = with_deviations(golden("http/oci", &format!("{name}.index")));
        for ((_, digest, size), entry) in entries.iter().zip(expected["manifests"].as_array_mut().unwrap()) {
            entry["digest"] = digest.to_string().into();
            entry["size"] = (*size).into();
            // A field that tools lose when they copy an index, and with it the digest; it says nothing new.
            entry.as_object_mut().unwrap().remove("artifactType");
        }
        assert_eq!(String::from_utf8(index(&entries)).unwrap(), expected.to_string(), "{name}");
    }
}

#[test]
fn golden_layers() {
    let cases = [
        ("THREE-v1.13.2-installer-amd64", "1.13.2", Arch::Amd64, false),
        ("THREE-v1.13.2-installer-arm64", "1.13.2", Arch::Arm64, false),
        ("THREE-v1.13.2-installer-amd64-secureboot", "1.13.2", Arch::Amd64, true),
        ("THREE-v1.9.5-installer-amd64", "1.9.5", Arch::Amd64, false),
        ("THREE-v1.9.5-installer-amd64-secureboot", "1.9.5", Arch::Amd64, true),
    ];
    for (name, version, arch, secure_boot) in cases {
        let layout = golden("layouts/installer", &format!("{name}.tar"));
        let version = TalosVersion::parse(version).unwrap();
        let assets = if boots_uki(&version, secure_boot) {
            BootAssets::Uki { systemd_boot: VirtualFile::zeros(1), uki: VirtualFile::zeros(2) }
        } else {
            BootAssets::Kernel { kernel: VirtualFile::zeros(2), initramfs: VirtualFile::zeros(1) }
        };
        let files = installer_files(&version, arch, secure_boot, assets);
        let ours: Vec<&str> = files.iter().map(|(path, _, _)| path.as_str()).collect();
        let entries = layout["layers"][1]["entries"].as_array().unwrap();
        let golden: Vec<&str> = entries.iter().map(|entry| entry["name"].as_str().unwrap()).collect();
        assert_eq!(ours, golden, "{name}");
        // The boot loader or the initramfs sorts first; modes are not the reference's 0000, on purpose.
        assert_eq!(
            files.iter().map(|(_, mode, file)| (*mode, file.len())).collect::<Vec<_>>(),
            [(0o644, 1), (0o644, 2)]
        );
    }
}

#[test]
fn unknown_fields_of_the_base_survive() {
    let manifest = golden("http/oci", "installer-v1.13.2.arm64.manifest");
    let mut config = golden("http/oci", "installer-v1.13.2.arm64.config");
    config["variant"] = "v8".into();
    config["config"]["com.example/later"] = json!({ "a": [1, 2] });
    let ours = image(&base_of(&manifest, &config, Arch::Arm64, 1).unwrap(), &[]);
    let ours: Value = serde_json::from_slice(&ours.config).unwrap();
    assert_eq!(ours["variant"], "v8");
    assert_eq!(ours["config"], config["config"]);
    assert_eq!(ours["history"].as_array().unwrap().len(), 1);
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let manifest = golden("http/oci", "installer-v1.13.2.amd64.manifest");
    let config = golden("http/oci", "installer-v1.13.2.amd64.config");
    let refused = |manifest: &Value, config: &Value, text: &str| {
        let manifest = serde_json::from_value(manifest.clone()).unwrap();
        let error = Base::read(Arch::Amd64, &manifest, config).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    };
    let changed = |value: &Value, pointer: &str, new: Value| {
        let mut value = value.clone();
        *value.pointer_mut(pointer).unwrap() = new;
        value
    };
    refused(&manifest, &json!([]), "not a JSON object");
    refused(&manifest, &changed(&config, "/architecture", "arm64".into()), "linux/arm64, not for linux/amd64");
    refused(&manifest, &changed(&config, "/rootfs", json!({})), "no rootfs.diff_ids");
    refused(&manifest, &changed(&config, "/rootfs/diff_ids", json!([])), "0 diff IDs for 2 layers");
    refused(&manifest, &changed(&config, "/rootfs/diff_ids/0", 1.into()), "not a text");
    refused(&manifest, &changed(&config, "/rootfs/diff_ids/0", "sha256:1".into()), "sha256:1");
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    refused(&changed(&manifest, "/layers/0/mediaType", foreign.into()), &config, foreign);
}
