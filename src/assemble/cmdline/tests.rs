use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _};

use super::*;

const VECTORS: &[u8] = include_bytes!("../../../tests/golden/cmdlines/vectors.jsonl.gz");

#[derive(serde::Deserialize)]
struct Vector {
    version: String,
    platform: String,
    arch: String,
    secureboot: bool,
    asset: String,
    schematic: String,
    #[serde(default)]
    overlay_args: Vec<String>,
    cmdline: Option<String>,
    error: Option<String>,
    uki: bool,
    #[serde(default)]
    uki_profiles: Vec<VectorProfile>,
    grub_disk_cmdline: Option<String>,
}

#[derive(serde::Deserialize)]
struct VectorProfile {
    id: String,
    title: String,
    cmdline: String,
}

#[derive(Clone, Default, serde::Deserialize)]
struct Schematic {
    overlay: Option<Overlay>,
    customization: Customization,
}

#[derive(Clone, Default, serde::Deserialize)]
struct Overlay {
    name: String,
}

#[derive(Clone, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Customization {
    extra_kernel_args: Vec<String>,
    meta: Vec<Meta>,
}

#[derive(Clone, serde::Deserialize)]
struct Meta {
    key: u8,
    value: String,
}

fn asset(name: &str) -> CmdlineAsset {
    match name {
        "cmdline" => CmdlineAsset::Cmdline,
        "iso" => CmdlineAsset::Iso,
        "image" => CmdlineAsset::Image,
        "uki" => CmdlineAsset::Uki,
        "installer" => CmdlineAsset::Installer,
        other => panic!("asset {other}"),
    }
}

/// META values that were compressed, decompressed: encoders differ in bytes.
fn decode_meta(cmdline: &str) -> String {
    let mut words: Vec<String> = cmdline.split(' ').map(str::to_owned).collect();
    for word in &mut words {
        let Some(encoded) = word.strip_prefix("talos.environment=INSTALLER_META_BASE64=") else { continue };
        let bytes = STANDARD.decode(encoded).unwrap();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let mut plain = String::new();
            flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut plain).unwrap();
            *word = format!("META {plain:?}");
        }
    }
    words.join(" ")
}

/// Errors of the reference that are not about the command line: rooms above resolve the schematic first.
const ELSEWHERE: [&str; 4] = [
    "error enhancing profile from schematic: embedding configuration is not supported",
    "error enhancing profile from schematic: official extension ",
    "error enhancing profile from schematic: official overlay ",
    "error enhancing profile from schematic: invalid secureboot enrollKeys",
];

#[test]
fn all_golden_vectors() {
    let mut schematics: HashMap<String, Schematic> = HashMap::new();
    let (mut equal, mut refused, mut elsewhere, mut grub) = (0, 0, 0, 0);
    for line in BufReader::new(flate2::read::GzDecoder::new(VECTORS)).lines() {
        let line = line.unwrap();
        let vector: Vector = serde_json::from_str(&line).unwrap();
        let schematic = schematics
            .entry(vector.schematic.clone())
            .or_insert_with(|| serde_yaml::from_str(&vector.schematic).unwrap())
            .clone();
        let version = TalosVersion::parse(&vector.version).unwrap();
        // An overlay without a name is none.
        let overlay = schematic.overlay.filter(|overlay| !overlay.name.is_empty());
        if overlay.is_some() && !version.has_overlays() {
            let error = vector.error.as_deref().unwrap_or_default();
            assert!(error.contains("overlay is not supported for Talos version"), "{line}");
            refused += 1;
            continue;
        }
        let meta: Vec<(u8, String)> = schematic.customization.meta.into_iter().map(|m| (m.key, m.value)).collect();
        let request = CmdlineRequest {
            version: &version,
            platform: Platform::parse(&vector.platform).unwrap(),
            arch: Arch::parse(&vector.arch).unwrap(),
            secure_boot: vector.secureboot,
            asset: asset(&vector.asset),
            overlay_args: if overlay.is_some() { &vector.overlay_args } else { &[] },
            extra_args: &schematic.customization.extra_kernel_args,
            meta: &meta,
        };
        if let Some(error) = &vector.error {
            if ELSEWHERE.iter().any(|start| error.starts_with(start)) {
                elsewhere += 1;
                continue;
            }
            let ours = cmdline(&request).expect_err(&line);
            let same = match ours {
                CmdlineError::SecureBoot(_) => error.contains("secureboot is not supported"),
                CmdlineError::Uki(_) => error.contains("UKI output is not supported"),
                CmdlineError::Overlay(_) | CmdlineError::Nul(_) => false,
            };
            assert!(same, "{line}: {ours}");
            refused += 1;
            continue;
        }
        let golden = vector.cmdline.as_deref().expect(&line);
        let ours = cmdline(&request).expect(&line);
        assert_eq!(decode_meta(&ours), decode_meta(golden), "{line}");
        let profile = extra_profile(&version, request.asset, &ours);
        assert_eq!(profile.is_some(), !vector.uki_profiles.is_empty(), "{line}");
        for (ours, golden) in profile.iter().zip(&vector.uki_profiles) {
            assert_eq!((ours.id, ours.title), (&*golden.id, &*golden.title), "{line}");
            assert_eq!(decode_meta(&ours.cmdline), decode_meta(&golden.cmdline), "{line}");
        }
        assert_eq!(needs_uki(&version, request.asset), vector.uki, "{line}");
        if let Some(golden) = &vector.grub_disk_cmdline {
            assert_eq!(grub_disk_cmdline(&ours), *golden, "{line}");
            grub += 1;
        }
        equal += 1;
    }
    assert_eq!((equal, refused, elsewhere, grub), (18_343, 1_894, 383, 39));
}

fn request<'a>(version: &'a TalosVersion, extra_args: &'a [String], overlay_args: &'a [String]) -> CmdlineRequest<'a> {
    CmdlineRequest {
        version,
        platform: Platform::Metal,
        arch: Arch::Amd64,
        secure_boot: false,
        asset: CmdlineAsset::Uki,
        overlay_args,
        extra_args,
        meta: &[],
    }
}

#[test]
fn errors_name_the_cause() {
    let old = TalosVersion::parse("1.4.8").unwrap();
    let overlay = ["console=ttyS0".to_owned()];
    assert_eq!(cmdline(&request(&old, &[], &overlay)), Err(CmdlineError::Overlay(old.clone())));
    let text = cmdline(&request(&old, &[], &[])).unwrap_err().to_string();
    assert!(text.contains("v1.4.8") && text.contains("v1.5.0"), "{text}");
    let new = TalosVersion::parse("1.13.2").unwrap();
    let text = cmdline(&request(&new, &["a\0b".to_owned()], &[])).unwrap_err().to_string();
    assert!(text.contains(r"a\0b"), "{text}");
}

/// The compressed form must be the same on every replica.
#[test]
fn long_meta_is_compressed_without_time() {
    let meta = [(10, "x".repeat(300))];
    let bytes = STANDARD.decode(encode_meta(&meta, true)).unwrap();
    assert_eq!(bytes[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255]);
    assert!(!encode_meta(&meta, false).starts_with("H4sI"));
}

/// A schematic of a mebibyte must not hold a thread for long: this takes minutes if a step looks through the list.
#[test]
fn very_many_arguments_take_time_in_proportion() {
    let version = TalosVersion::parse("1.13.2").unwrap();
    let mut asked: Vec<String> = (0..300_000).map(|i| format!("k{i:x}")).collect();
    asked.extend((0..300_000).map(|i| format!("console={i:x}")));
    asked.extend((0..300_000).map(|i| format!("-console={i:x}")));
    let line = cmdline(&request(&version, &asked, &[])).unwrap();
    assert!(line.ends_with(" k493df"), "{}", &line[line.len() - 40..]);
    assert!(!line.contains("console="));
}
