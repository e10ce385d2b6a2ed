//! Overlays: their own programs, run on the factory's machine.

mod hostile;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use conformance::factory::{Settings, program};
use conformance::{cache, run};
use serde_json::Value;

use super::world::World;

/// A board of the miniature release's overlay, with an option.
const BOARD: &str = "overlay:
    image: siderolabs/sbc-mini
    name: sbc-mini
    options:
        console: ttyS2
";

/// What the overlay says that it needs.
const ARGUMENTS: &str = "console=tty0 console=ttyS2 sysctl.kernel.kexec_load_disabled=1";

/// The command lines in a UKI, wherever it lies in a file: that of the main profile first.
fn command_lines(file: &Path) -> Result<Vec<String>> {
    let text =
        run::text(Command::new("grep").env("LC_ALL", "C").args(["-a", "-o", "talos\\.platform=[ -~]*"]).arg(file))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// `image-factory overlay` for a schematic, its words behind those of a wrapper.
fn explain(world: &World, settings: &Settings, schematic: &str, wrapper: &[&str]) -> Result<Output> {
    explain_by(&program()?, world, settings, schematic, wrapper)
}

/// The same by another copy of the program.
fn explain_by(program: &Path, world: &World, settings: &Settings, schematic: &str, wrapper: &[&str]) -> Result<Output> {
    let file = world.at("schematic.yaml");
    fs::write(&file, schematic)?;
    let program = program.to_str().context("no text")?;
    let mut words = wrapper.iter().copied().chain([program, "overlay"]);
    let mut command = Command::new(words.next().unwrap_or(program));
    command.args(words).arg(&file).arg("v1.13.2").envs(&settings.variables);
    Ok(command.output()?)
}

#[test]
fn an_overlays_arguments_reach_the_assets_that_boot() {
    let world = World::start().unwrap();
    let with = world.factory.post_schematic(BOARD).unwrap();
    let without = world.factory.post_schematic("{}").unwrap();
    let get = |id: &str, path: &str| world.download(&format!("/image/{id}/{path}"), "asset").unwrap();
    for (version, path) in [
        ("v1.13.2", "metal-arm64-uki.efi"),
        ("v1.13.2", "metal-arm64.iso"),
        ("v1.13.2", "metal-amd64-uki.efi"),
        ("v1.9.5", "metal-arm64-uki.efi"),
    ] {
        let plain = command_lines(&get(&without, &format!("{version}/{path}"))).unwrap();
        let lines = command_lines(&get(&with, &format!("{version}/{path}"))).unwrap();
        assert_eq!(plain.len(), lines.len(), "{path}");
        assert!(!lines.is_empty(), "{path}");
        for (plain, line) in plain.iter().zip(&lines) {
            // The overlay's consoles replace the platform's where these stand; its other arguments come before the version's.
            let consoles = |word: &&str| !word.starts_with("console=");
            let mut expected: Vec<&str> = plain.split(' ').filter(consoles).collect();
            let words: Vec<&str> = ARGUMENTS.split(' ').collect();
            let halts = usize::from(path.ends_with(".iso"));
            expected.splice(1..1, words[..2].iter().copied());
            expected.insert(3 + halts, words[2]);
            assert_eq!(*line, expected.join(" "), "{version} {path}");
        }
    }
    // A command line by itself never has them.
    let line = |id: &str| fs::read_to_string(get(id, "v1.13.2/cmdline-metal-arm64")).unwrap();
    assert_eq!(line(&with), line(&without));
}

#[test]
fn an_installer_brings_its_overlay() {
    let world = World::start().unwrap();
    let id = world.factory.post_schematic(BOARD).unwrap();
    for version in ["v1.13.2", "v1.9.5"] {
        let tar = world.download(&format!("/image/{id}/{version}/installer-arm64.tar"), "installer.tar").unwrap();
        let folder = world.at(version);
        fs::create_dir(&folder).unwrap();
        run::output(Command::new("tar").arg("-xf").arg(tar).arg("-C").arg(&folder)).unwrap();
        let manifest: Value = serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
        let layers = manifest[0]["Layers"].as_array().unwrap();
        assert_eq!(layers.len(), 3, "{version}");
        let layer = folder.join(layers[2].as_str().unwrap());
        check_layer(&world, &layer).unwrap();
        // The same image comes from the registry.
        let [_, _, arm64] = world.digests(&format!("installer/{id}"), version).unwrap();
        let served = world.json(&format!("/v2/installer/{id}/manifests/{arm64}")).unwrap();
        let name = layers[2].as_str().unwrap().split('.').next().unwrap();
        assert_eq!(served["layers"][2]["digest"], format!("sha256:{name}"), "{version}");
        let blob = world.get(&format!("/v2/installer/{id}/blobs/sha256:{name}")).unwrap().bytes().unwrap();
        assert_eq!(blob, fs::read(&layer).unwrap());
    }
}

/// The layer holds what the recorded one does, with the contents of the overlay's image.
fn check_layer(world: &World, layer: &Path) -> Result<()> {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/layouts/installer");
    let golden = format!("{golden}/OV-v1.13.2-installer-arm64.tar.json");
    let golden: Value = serde_json::from_slice(&fs::read(golden)?)?;
    let image = world.at("overlay-image");
    if !image.exists() {
        world.release.unpack("siderolabs/sbc-mini", "v0.1.0", "arm64", &image)?;
    }
    let mut archive = tar::Archive::new(fs::File::open(layer)?);
    let mut found = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let (path, header) = (entry.path()?.to_str().context("no text")?.to_owned(), entry.header().clone());
        let kind = String::from_utf8(vec![header.entry_type().as_byte()])?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes)?;
        let source = match path.strip_prefix("overlay/") {
            Some("extra-options") => None,
            Some("installers/default") => Some("installers/sbc-mini"),
            other => other,
        };
        if let Some(source) = source.filter(|_| kind == "0") {
            ensure!(fs::read(image.join(source))? == bytes, "{path} has other contents");
        } else {
            ensure!(kind == "5" || bytes == b"console: ttyS2\n", "{path}");
        }
        // The program depends on the compiler.
        let size = if path.starts_with("overlay/installers/") { 0 } else { header.size()? };
        found.push((path, kind, format!("{:#o}", header.mode()?), size));
    }
    let entries = golden["layers"][2]["entries"].as_array().context("no entries")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let expected: Vec<_> = entries
        .iter()
        .map(|entry| {
            let path = text(&entry["name"]);
            let size = if path.starts_with("overlay/installers/") { 0 } else { entry["size"].as_u64().unwrap_or(0) };
            (path, text(&entry["type"]), text(&entry["mode"]), size)
        })
        .collect();
    ensure!(found == expected, "{found:?} is not {expected:?}");
    Ok(())
}

#[test]
fn what_a_program_installs_is_kept() {
    let world = World::start().unwrap();
    let settings = Settings::on(&world.registry, &world.release, &world.at("other"));
    let output = explain(&world, &settings, BOARD, &[]).unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{wrong}");
    let image = world.at("image");
    world.release.unpack("siderolabs/sbc-mini", "v0.1.0", "arm64", &image).unwrap();
    let sum = |bytes: &[u8]| cache::sha256(bytes);
    let mut expected: Vec<String> = ARGUMENTS.split(' ').map(|argument| format!("argument {argument}")).collect();
    expected.extend(["name sbc-mini".to_owned(), "offset 20480".to_owned()]);
    for path in ["config.txt", "overlays/disable-bt.dtbo", "tool.sh"] {
        let bytes = fs::read(image.join("artifacts/firmware").join(path)).unwrap();
        expected.push(format!("file {} {:>10} {path}", sum(&bytes), bytes.len()));
    }
    let mut loader = fs::read(image.join("artifacts/u-boot.bin")).unwrap();
    loader.resize(loader.len().next_multiple_of(512), 0);
    expected.push(format!("boot {} {:>10} at 32768", sum(&loader), loader.len()));
    for line in expected {
        assert!(said.lines().any(|found| found == line), "{line} in\n{said}");
    }
    assert_eq!(said.lines().count(), 10, "{said}");
}

#[test]
fn unknown_overlays_are_named() {
    let world = World::start().unwrap();
    for (image, name, status, text) in [
        ("siderolabs/sbc-mini", "sbc-mni", 400, "did you mean \"sbc-mini\""),
        ("siderolabs/nosuch", "nosuch", 400, "official overlay \"nosuch\" of image \"siderolabs/nosuch\""),
        // The catalog lists it, and the image does not have it.
        ("siderolabs/sbc-mini", "board", 502, "it has no installers/board"),
    ] {
        let id = world.factory.post_schematic(&format!("overlay: {{image: {image}, name: {name}}}")).unwrap();
        let paths =
            [format!("/image/{id}/v1.13.2/metal-arm64-uki.efi"), format!("/v2/installer/{id}/manifests/v1.13.2")];
        for path in paths {
            let answer = world.get(&path).unwrap();
            assert_eq!(answer.status(), status, "{path}");
            let said = answer.text().unwrap();
            assert!(said.replace("\\\"", "\"").contains(text), "{said}");
        }
        // An overlay that came later than the version.
        let answer = world.get(&format!("/image/{id}/v1.6.7/metal-arm64.iso")).unwrap();
        assert!(matches!(answer.status().as_u16(), 400 | 404), "{}", answer.status());
    }
}
