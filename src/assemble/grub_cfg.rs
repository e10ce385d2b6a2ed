//! What GRUB is told: its core images' modules and first commands, and its menus.
//!
//! Specification: GNU GRUB Manual, "Writing full configuration files directly". Golden data: `tests/golden/grub`.

use crate::format::grub::Core;
use crate::schematic::Bootloader;
use crate::types::TalosVersion;

/// The core on an ISO image for BIOS. It finds its menu on the medium that it was started from.
pub const ISO_BIOS: Core<'static> = Core {
    modules: &[
        "biosdisk",
        "iso9660",
        "part_msdos",
        "part_gpt",
        "normal",
        "linux",
        "all_video",
        "search",
        "echo",
        "test",
        "ls",
        "cat",
        "reboot",
        "halt",
        "help",
        "configfile",
    ],
    prefix: "/boot/grub",
    config: None,
};

/// The core on an ISO image for UEFI. The firmware starts it from a FAT image, so it looks for the ISO's kernel.
pub const ISO_EFI: Core<'static> = Core {
    modules: &[
        "iso9660",
        "fat",
        "part_gpt",
        "part_msdos",
        "normal",
        "linux",
        "all_video",
        "search",
        "echo",
        "test",
        "ls",
        "cat",
        "reboot",
        "halt",
        "help",
        "configfile",
    ],
    prefix: "/boot/grub",
    config: Some("search --file /boot/vmlinuz --set=root\nset prefix=($root)/boot/grub\n"),
};

/// The modules of the core on a disk. The last two are for BIOS alone.
const ON_DISK: &[&str] = &[
    "part_gpt",
    "ext2",
    "fat",
    "xfs",
    "normal",
    "configfile",
    "linux",
    "boot",
    "search",
    "search_fs_uuid",
    "search_fs_file",
    "ls",
    "cat",
    "echo",
    "test",
    "help",
    "reboot",
    "halt",
    "all_video",
    "biosdisk",
    "part_msdos",
];

/// The core on a disk for BIOS: the menu is on the third partition of the disk that it was started from.
pub const DISK_BIOS: Core<'static> = Core { modules: ON_DISK, prefix: "(,gpt3)/grub", config: None };

/// The core on a disk for UEFI.
pub const DISK_EFI: Core<'static> = Core { modules: ON_DISK.split_at(ON_DISK.len() - 2).0, ..DISK_BIOS };

/// What both menus say before their entries.
const CONSOLE: &str = "set timeout=3\n\ninsmod all_video\n\nterminal_input console\nterminal_output console\n\n";

/// `/boot/grub/grub.cfg` of an ISO image.
pub fn iso_grub_cfg(version: &TalosVersion, cmdline: &str) -> String {
    let entry = |title: &str, cmdline: &str| menu_entry(title, "\t", "/boot", cmdline);
    let start = entry("Talos ISO", cmdline);
    let reset = if version.has_reset_entry() {
        entry("Reset Talos installation", &format!("{cmdline} talos.experimental.wipe=system"))
    } else {
        String::new()
    };
    format!("set default=0\n{CONSOLE}{start}\n{reset}")
}

/// `/grub/grub.cfg` on the BOOT partition of a disk; the boot loader is GRUB, alone or beside systemd-boot.
pub fn disk_grub_cfg(version: &TalosVersion, bootloader: Bootloader, cmdline: &str) -> String {
    let title = format!("A - Talos {version}");
    let entry = |title: &str, cmdline: &str| menu_entry(title, "  ", "/A", cmdline);
    let mut text = format!("set default=\"{title}\"\n\n{CONSOLE}{}", entry(&title, cmdline));
    if version.has_reset_entry() || bootloader == Bootloader::DualBoot {
        let title = "Reset Talos installation and return to maintenance mode";
        text += &entry(title, &format!("{cmdline} talos.experimental.wipe=system:EPHEMERAL,STATE"));
    }
    text
}

fn menu_entry(title: &str, indent: &str, folder: &str, cmdline: &str) -> String {
    let cmdline = quote(cmdline);
    format!(
        "menuentry \"{title}\" {{\n{indent}set gfxmode=auto\n{indent}set gfxpayload=text\n\
         {indent}linux {folder}/vmlinuz {cmdline}\n{indent}initrd {folder}/initramfs.xz\n}}\n"
    )
}

/// A command line as words of GRUB's language: what has a meaning there is taken literally.
pub fn quote(cmdline: &str) -> String {
    let mut out = String::with_capacity(cmdline.len());
    for character in cmdline.chars() {
        if r#"\{}&$|;<>""#.contains(character) {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Menu {
        file: String,
        version: String,
        bootloader: Option<String>,
        cmdline: String,
        text: String,
    }

    #[test]
    fn menus_are_the_golden_ones() {
        let mut seen = 0;
        for line in include_str!("../../tests/golden/grub/grub.jsonl").lines() {
            let golden: Menu = serde_json::from_str(line).unwrap();
            let Ok(version) = TalosVersion::parse(&golden.version) else {
                assert_eq!(golden.version, "garbage");
                continue;
            };
            let text = match golden.bootloader.as_deref() {
                None => iso_grub_cfg(&version, &golden.cmdline),
                Some("dual-boot") => disk_grub_cfg(&version, Bootloader::DualBoot, &golden.cmdline),
                Some("grub") => disk_grub_cfg(&version, Bootloader::Grub, &golden.cmdline),
                Some(other) => panic!("boot loader {other}"),
            };
            assert_eq!(golden.text, text, "{} of {}", golden.file, golden.version);
            seen += 1;
        }
        assert_eq!(seen, 120);
    }

    #[test]
    fn quoting_is_the_golden_one() {
        #[derive(serde::Deserialize)]
        struct Quoted {
            input: String,
            quoted: String,
        }
        let lines: Vec<&str> = include_str!("../../tests/golden/grub/quote.jsonl").lines().collect();
        for line in &lines {
            let golden: Quoted = serde_json::from_str(line).unwrap();
            assert_eq!(golden.quoted, quote(&golden.input));
        }
        assert_eq!(lines.len(), 26);
    }
}
