//! What was pulled boots.

use std::time::Duration;

use conformance::{demo, qemu};

use super::world::{THREE, World};

/// The command line of Talos 1.13 on metal, changed as the schematic says.
const CMDLINE: &str = "talos.platform=metal console=ttyS0 init_on_alloc=1 pti=on consoleblank=0 \
    nvme_core.io_timeout=4294967295 printk.devkmsg=on selinux=1 module.sig_enforce=1 proc_mem.force_override=never";

#[test]
fn the_uki_of_a_pulled_installer_boots_with_all_extensions() {
    let world = World::start().unwrap();
    let id = world.factory.post_schematic(THREE).unwrap();
    let image = format!("{}/installer/{id}:v1.13.2", world.factory.address());
    demo::pull(&image, "amd64", &world.at("pulled")).unwrap();
    let uki = world.at("pulled/root/usr/install/amd64/vmlinuz.efi");
    let console = qemu::boot_uki(&uki, "amd64", Duration::from_secs(600)).unwrap();
    assert_eq!(console.cmdline, CMDLINE);
    assert!(!console.cmdline.contains("wipe"));
    assert!(console.failures.is_empty(), "{:?}", console.failures);
    for name in ["hello", "qemu-guest-agent", "dummy-driver", "schematic", "modules.dep"] {
        assert!(console.extensions_yaml.contains(&format!("name: {name}\n")), "{name} in {}", console.extensions_yaml);
    }
    assert!(console.extensions_yaml.contains(&format!("version: {id}")), "{}", console.extensions_yaml);
    let images: Vec<&str> = console.extensions.iter().map(|(image, _)| image.as_str()).collect();
    assert_eq!(images, ["0.sqsh", "1.sqsh", "2.sqsh", "3.sqsh", "modules.dep.sqsh"]);
    let schematic = &console.extensions[3].1;
    assert!(schematic.iter().any(|file| file.ends_with(&format!("usr/local/share/schematic/{id}"))), "{schematic:?}");
    assert!(!console.modules.is_empty(), "modules of the extension load by the index");
}
