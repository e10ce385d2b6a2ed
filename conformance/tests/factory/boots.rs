//! What is served boots: every medium, by every firmware that it is made for.

use conformance::demo;
use conformance::qemu::{Firmware, Medium};

use super::booted::{Model, SCHEMATIC};
use super::world::World;

/// The command line of Talos 1.13 on metal, changed as the schematic says.
const CMDLINE: &str = "talos.platform=metal console=ttyS0 init_on_alloc=1 pti=on consoleblank=0 \
    nvme_core.io_timeout=4294967295 printk.devkmsg=on selinux=1 module.sig_enforce=1 proc_mem.force_override=never";

/// The same on an ISO image.
const ISO_CMDLINE: &str = "talos.platform=metal console=ttyS0 talos.halt_if_installed=1 init_on_alloc=1 pti=on \
    consoleblank=0 nvme_core.io_timeout=4294967295 printk.devkmsg=on selinux=1 module.sig_enforce=1 \
    proc_mem.force_override=never";

/// GRUB says first what it loaded.
fn by_grub(cmdline: &str) -> String {
    format!("BOOT_IMAGE=/boot/vmlinuz {cmdline}")
}

#[test]
fn ukis_boot() {
    let world = World::start().unwrap();
    let model = Model::post(&world, SCHEMATIC, "v1.13.2", "amd64").unwrap();
    let image = format!("{}/installer/{}:v1.13.2", world.factory.address(), model.id);
    demo::pull(&image, "amd64", &world.at("pulled")).unwrap();
    let pulled = world.at("pulled/root/usr/install/amd64/vmlinuz.efi");
    model.boots(Firmware::Uefi, Medium::Uki(&pulled), CMDLINE).unwrap();
    let uki = model.download("metal-amd64-uki.efi").unwrap();
    model.boots(Firmware::Uefi, Medium::Uki(&uki), CMDLINE).unwrap();
}

#[test]
fn the_iso_boots_by_bios() {
    let world = World::start().unwrap();
    let model = Model::post(&world, SCHEMATIC, "v1.13.2", "amd64").unwrap();
    let iso = model.download("metal-amd64.iso").unwrap();
    model.boots(Firmware::Bios, Medium::Cd(&iso), &by_grub(ISO_CMDLINE)).unwrap();
    model.boots(Firmware::Bios, Medium::Stick(&iso, 64 << 20), &by_grub(ISO_CMDLINE)).unwrap();
}

#[test]
fn the_iso_boots_by_uefi() {
    let world = World::start().unwrap();
    let model = Model::post(&world, SCHEMATIC, "v1.13.2", "amd64").unwrap();
    let iso = model.download("metal-amd64.iso").unwrap();
    model.boots(Firmware::Uefi, Medium::Cd(&iso), ISO_CMDLINE).unwrap();
    model.boots(Firmware::Uefi, Medium::Stick(&iso, 64 << 20), ISO_CMDLINE).unwrap();
}

#[test]
fn the_iso_boots_on_arm64() {
    let world = World::start().unwrap();
    let yaml = SCHEMATIC.replace("ttyS0", "ttyAMA0");
    let model = Model::post(&world, &yaml, "v1.13.2", "arm64").unwrap();
    let iso = model.download("metal-arm64.iso").unwrap();
    model.boots(Firmware::Uefi, Medium::Cd(&iso), &ISO_CMDLINE.replace("ttyS0", "ttyAMA0")).unwrap();
}
