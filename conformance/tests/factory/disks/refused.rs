//! Disk images that cannot be made: each is refused in words that say what to change, and nothing else is.

use reqwest::blocking::Client;

use crate::world::World;

/// Bytes that META has for values, of which each takes eight more than its length.
const META: usize = 262_104;

fn meta(len: usize) -> String {
    format!("customization:\n    meta:\n        - key: 10\n          value: {}\n", "v".repeat(len - 8))
}

#[test]
fn what_cannot_be_made_is_refused_in_clear_words() {
    let world = World::start().unwrap();
    let post = |yaml: &str| world.factory.post_schematic(yaml).unwrap();
    let loader = |name: &str| post(&format!("customization:\n    bootloader: {name}\n"));
    let (dual, sd, full) = (loader("dual-boot"), loader("sd-boot"), post(&meta(META)));
    let key = "META values take 262121 bytes (8 more than its length for each), 262104 are possible";
    for (id, path, text) in [
        (
            &dual,
            "v1.13.2/metal-arm64.raw",
            "bootloader \"dual-boot\" is for amd64: a disk of arm64 boots by \"sd-boot\" or \"grub\"",
        ),
        (&dual, "v1.13.2/metal-arm64.qcow2.xz", "bootloader \"dual-boot\" is for amd64"),
        (&dual, "v1.2.0/metal-amd64.raw", "bootloader \"dual-boot\" is not supported for Talos version v1.2.0"),
        (
            &sd,
            "v1.2.0/metal-amd64.raw",
            "bootloader \"sd-boot\" is not supported for Talos version v1.2.0: it came with v1.5.0",
        ),
        (&full, "v1.13.2/metal-amd64.raw", key),
        (&full, "v1.13.2/metal-amd64.ova", key),
        (&full, "v1.13.2/metal-amd64.raw.sha256", key),
    ] {
        let answer = world.get(&format!("/image/{id}/{path}")).unwrap();
        let (status, said) = (answer.status().as_u16(), answer.text().unwrap());
        assert!(status == 400 && said.contains(text) && said.lines().count() == 1, "{path}: {status} {said}");
    }
    // The same schematics where they can be met: other media, other boot loaders, versions without a key of their own.
    let client = Client::new();
    for (id, path) in [
        (&dual, "v1.13.2/metal-arm64.iso"),
        (&dual, "v1.13.2/metal-amd64.raw"),
        (&sd, "v1.9.5/metal-amd64.raw"),
        (&sd, "v1.13.2/metal-arm64.vhd"),
        (&full, "v1.13.2/metal-arm64.raw"),
        (&full, "v1.9.5/metal-amd64.qcow2"),
        (&full, "v1.13.2/kernel-amd64"),
    ] {
        let answer = client.head(world.factory.url(&format!("/image/{id}/{path}"))).send().unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
    let answer = client.post(world.factory.url("/schematics")).body(meta(META + 1)).send().unwrap();
    let (status, said) = (answer.status().as_u16(), answer.text().unwrap());
    assert!(status == 400 && said.contains("customization.meta: META values take 262105 bytes"), "{status} {said}");
}
