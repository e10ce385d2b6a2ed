//! What is served boots: every medium, by every firmware that it is made for.

use conformance::demo;
use conformance::qemu::{self, Firmware, Medium};

use super::booted::{Model, SCHEMATIC};
use super::world::World;

/// The command line of Talos 1.13 on metal, changed as the schematic says.
const CMDLINE: &str = "talos.platform=metal console=ttyS0 init_on_alloc=1 pti=on consoleblank=0 \
    nvme_core.io_timeout=4294967295 printk.devkmsg=on selinux=1 module.sig_enforce=1 proc_mem.force_override=never";

/// The same on an ISO image.
const ISO_CMDLINE: &str = "talos.platform=metal console=ttyS0 talos.halt_if_installed=1 init_on_alloc=1 pti=on \
    consoleblank=0 nvme_core.io_timeout=4294967295 printk.devkmsg=on selinux=1 module.sig_enforce=1 \
    proc_mem.force_override=never";

/// That of Talos 1.9 on an ISO image.
const OLD_ISO_CMDLINE: &str = "talos.platform=metal console=ttyS0 talos.halt_if_installed=1 init_on_alloc=1 pti=on \
    consoleblank=0 nvme_core.io_timeout=4294967295 printk.devkmsg=on ima_template=ima-ng ima_appraise=fix \
    ima_hash=sha512";

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

#[test]
fn isos_with_one_boot_loader_boot() {
    let world = World::start().unwrap();
    // What means something to GRUB means nothing to a kernel.
    let odd = "odd=a$b;c{d}&e|f<g>";
    let loader = |name: &str| {
        let yaml = SCHEMATIC.replace("- console=ttyS0", &format!("- console=ttyS0\n        - {odd}"));
        let model = Model::post(&world, &format!("{yaml}    bootloader: {name}\n"), "v1.13.2", "amd64").unwrap();
        let iso = model.download("metal-amd64.iso").unwrap();
        (model, iso)
    };
    let cmdline = format!("{ISO_CMDLINE} {odd}");
    let (model, iso) = loader("sd-boot");
    model.boots(Firmware::Uefi, Medium::Cd(&iso), &cmdline).unwrap();
    let (model, iso) = loader("grub");
    model.boots(Firmware::Uefi, Medium::Stick(&iso, 0), &by_grub(&cmdline)).unwrap();
    model.boots(Firmware::Bios, Medium::Cd(&iso), &by_grub(&cmdline)).unwrap();
}

#[test]
fn the_iso_of_an_old_version_boots() {
    let world = World::start().unwrap();
    let model = Model::post(&world, SCHEMATIC, "v1.9.5", "amd64").unwrap();
    let iso = model.download("metal-amd64.iso").unwrap();
    model.boots(Firmware::Bios, Medium::Stick(&iso, 0), &by_grub(OLD_ISO_CMDLINE)).unwrap();
    model.boots(Firmware::Uefi, Medium::Cd(&iso), &by_grub(OLD_ISO_CMDLINE)).unwrap();
}

#[test]
fn kernel_and_initramfs_boot_over_ipxe() {
    let pxe_url = format!("http://{}:{{port}}/", qemu::HOST);
    let world = World::start_with(|settings| settings.with("IF_HTTP_EXTERNALPXEURL", pxe_url)).unwrap();
    let model = Model::post(&world, SCHEMATIC, "v1.13.2", "amd64").unwrap();
    let (_, port) = world.factory.address().rsplit_once(':').unwrap();
    let script = format!("http://{}:{port}/pxe/{}/v1.13.2/metal-amd64", qemu::HOST, model.id);
    model.boots(Firmware::Bios, Medium::Network(&script), CMDLINE).unwrap();
}
