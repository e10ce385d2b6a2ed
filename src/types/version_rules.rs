//! The one place that knows what changed with which Talos version.
//!
//! Every rule counts prereleases as their release (see [`TalosVersion::at_least`]), unless it says otherwise.

use super::TalosVersion;

impl TalosVersion {
    /// Whether GRUB's menus offer to reset the installation (1.4), whatever else is on the medium.
    pub const fn has_reset_entry(&self) -> bool {
        self.at_least(1, 4, 0)
    }

    /// Whether secure boot and unified kernel images exist (1.5).
    pub const fn has_uki(&self) -> bool {
        self.at_least(1, 5, 0)
    }

    /// Whether META values of more than 256 bytes are compressed on the command line (1.6.3).
    pub const fn compresses_meta(&self) -> bool {
        self.at_least(1, 6, 3)
    }

    /// Whether overlays exist (1.7).
    pub const fn has_overlays(&self) -> bool {
        self.at_least(1, 7, 0)
    }

    /// Whether the `schematic` extension tells the whole schematic (1.7); before, only its ID.
    pub const fn tells_schematic(&self) -> bool {
        self.at_least(1, 7, 0)
    }

    /// Whether initramfs and squashfs are compressed with zstd (1.8); xz before.
    pub const fn uses_zstd(&self) -> bool {
        self.at_least(1, 8, 0)
    }

    /// Whether ISO images are labelled with their version (1.8).
    pub const fn labels_iso(&self) -> bool {
        self.at_least(1, 8, 0)
    }

    /// Whether ISO images halt on a machine that has Talos installed (1.8).
    pub const fn halts_if_installed(&self) -> bool {
        self.at_least(1, 8, 0)
    }

    /// Whether disk images hold the STATE and EPHEMERAL partitions (before 1.8); later, Talos makes them itself.
    pub const fn has_data_partitions(&self) -> bool {
        !self.at_least(1, 8, 0)
    }

    /// Whether the serial console is one of bare metal's on amd64 (before 1.8).
    pub const fn has_metal_serial_console(&self) -> bool {
        !self.at_least(1, 8, 0)
    }

    /// Whether `/lib` is `/usr/lib` (1.10): where firmware and kernel modules lie.
    pub const fn usr_merged(&self) -> bool {
        self.at_least(1, 10, 0)
    }

    /// The folder of firmware in the root file system, absolute.
    pub const fn firmware_path(&self) -> &'static str {
        if self.usr_merged() { "/usr/lib/firmware" } else { "/lib/firmware" }
    }

    /// The folder of kernel modules in the root file system, absolute.
    pub const fn kernel_modules_path(&self) -> &'static str {
        if self.usr_merged() { "/usr/lib/modules" } else { "/lib/modules" }
    }

    /// Whether a UKI may hold several boot profiles (1.10).
    pub const fn has_uki_profiles(&self) -> bool {
        self.at_least(1, 10, 0)
    }

    /// Whether every installer boots a UKI (1.10), made on the `installer-base` image; before, only those for secure
    /// boot do, and the base is the `installer` image.
    pub const fn has_unified_installer(&self) -> bool {
        self.at_least(1, 10, 0)
    }

    /// Whether SELinux is switched on (1.10).
    pub const fn has_selinux(&self) -> bool {
        self.at_least(1, 10, 0)
    }

    /// Whether IMA measures (before 1.11).
    pub const fn has_ima(&self) -> bool {
        !self.at_least(1, 11, 0)
    }

    /// Whether the factory offers talosctl: from 1.11.0-alpha.3, the one rule that tells prereleases apart.
    pub fn has_talosctl(&self) -> bool {
        let version = self.semver();
        let before = (version.major, version.minor, version.patch) == (1, 11, 0)
            && semver::Prerelease::new("alpha.3").is_ok_and(|first| version.pre < first && !version.pre.is_empty());
        self.at_least(1, 11, 0) && !before
    }

    /// Length of a disk's BOOT partition in bytes: 1000 MiB, since 1.11 2000 MiB.
    pub const fn boot_partition_len(&self) -> u64 {
        if self.at_least(1, 11, 0) { 2000 << 20 } else { 1000 << 20 }
    }

    /// Whether a machine configuration can be embedded (1.12).
    pub const fn has_embedded_config(&self) -> bool {
        self.at_least(1, 12, 0)
    }

    /// Whether the schematic chooses the boot loader of ISO images (1.12); before, the version alone does.
    pub const fn chooses_iso_bootloader(&self) -> bool {
        self.at_least(1, 12, 0)
    }

    /// Whether systemd-boot boots by UEFI (1.10); before, GRUB does unless what it boots is signed.
    pub const fn boots_uefi_by_systemd_boot(&self) -> bool {
        self.at_least(1, 10, 0)
    }

    /// Whether module signatures are enforced by the command line (1.12).
    pub const fn enforces_module_signatures(&self) -> bool {
        self.at_least(1, 12, 0)
    }

    /// Whether writing through `/proc/<pid>/mem` is shut by the command line (1.13).
    pub const fn forbids_proc_mem_override(&self) -> bool {
        self.at_least(1, 13, 0)
    }

    /// Whether the command line asks for zeroed allocations (before 1.14, when the kernel took it over).
    pub const fn sets_init_on_alloc(&self) -> bool {
        !self.at_least(1, 14, 0)
    }

    /// Whether every platform gets the long NVMe time-out (before 1.14); from then on, only AWS.
    pub const fn sets_nvme_timeout_everywhere(&self) -> bool {
        !self.at_least(1, 14, 0)
    }

    /// Whether secure boot sets the kernel's lockdown by the command line (before 1.14).
    pub const fn forces_lockdown(&self) -> bool {
        !self.at_least(1, 14, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every rule against the golden switches of the reference, for every version there.
    #[test]
    fn rules_are_the_golden_ones() {
        let golden = include_str!("../../tests/golden/platforms/quirks.json");
        let golden: serde_json::Map<String, serde_json::Value> = serde_json::from_str(golden).unwrap();
        let mut seen = 0;
        for (text, switches) in &golden {
            let Ok(v) = TalosVersion::parse(text) else {
                assert_eq!(text, "garbage");
                continue;
            };
            let rules = [
                ("reset_grub_option", v.has_reset_entry()),
                ("uki", v.has_uki()),
                ("compressed_meta", v.compresses_meta()),
                ("overlay", v.has_overlays()),
                ("zstd_initramfs", v.uses_zstd()),
                ("iso_label", v.labels_iso()),
                ("iso_bootloader_setting", v.chooses_iso_bootloader()),
                ("sdboot_for_uefi", v.boots_uefi_by_systemd_boot()),
                ("halt_if_installed", v.halts_if_installed()),
                ("skip_data_partitions", !v.has_data_partitions()),
                ("metal_console_ttys0", v.has_metal_serial_console()),
                ("uki_profiles", v.has_uki_profiles()),
                ("unified_installer", v.has_unified_installer()),
                ("selinux", v.has_selinux()),
                ("ima", v.has_ima()),
                ("factory_talosctl", v.has_talosctl()),
                ("embedded_config", v.has_embedded_config()),
                ("disabling_modsig_verify", v.enforces_module_signatures()),
                ("proc_mem_override_never", v.forbids_proc_mem_override()),
                ("drop_init_on_alloc", !v.sets_init_on_alloc()),
                ("nvme_timeout_aws_only", !v.sets_nvme_timeout_everywhere()),
                ("force_lockdown_confidentiality", v.forces_lockdown()),
            ];
            for (name, ours) in rules {
                assert_eq!(switches[name].as_bool(), Some(ours), "{name} of {text}");
            }
            assert_eq!(switches["grub_boot_size"], v.boot_partition_len(), "{text}");
            assert_eq!(switches["firmware_path"], v.firmware_path(), "{text}");
            assert_eq!(switches["kernel_modules_path"], v.kernel_modules_path(), "{text}");
            seen += 1;
        }
        assert_eq!(seen, 16);
    }

    /// Where the golden versions leave a gap, the specification names the version.
    #[test]
    fn rules_change_at_the_version_that_the_specification_names() {
        let v = |text| TalosVersion::parse(text).unwrap();
        assert!(!v("1.6.2").compresses_meta() && v("1.6.3").compresses_meta());
        assert!(!v("1.4.99").has_uki() && v("1.5.0-alpha.0").has_uki());
        assert!(v("1.13.99").forces_lockdown() && !v("1.14.0-alpha.0").forces_lockdown());
        assert!(!v("1.11.0-alpha.2").has_talosctl() && v("1.11.0-alpha.3").has_talosctl());
        assert!(v("1.11.0").has_talosctl() && v("1.12.0-alpha.0").has_talosctl() && !v("1.10.9").has_talosctl());
    }
}
