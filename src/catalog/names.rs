//! Names of extensions that changed, and hints for names that do not exist.

/// Old and new names, without the organization in front.
const RENAMED: &[(&str, &str)] = &[
    ("v4l-uvc", "v4l-uvc-drivers"),
    ("usb-modem", "usb-modem-drivers"),
    ("gasket", "gasket-driver"),
    ("talos-vmtoolsd", "vmtoolsd-guest-agent"),
    ("xe-guest-utilities", "xen-guest-agent"),
    ("nvidia-container-toolkit", "nvidia-container-toolkit-lts"),
    ("nvidia-open-gpu-kernel-modules", "nvidia-open-gpu-kernel-modules-lts"),
    ("nonfree-kmod-nvidia", "nonfree-kmod-nvidia-lts"),
    ("nvidia-fabricmanager", "nvidia-fabric-manager-lts"),
    ("i915-ucode", "i915"),
    ("amdgpu-firmware", "amdgpu"),
];

const ORGANIZATION: &str = "siderolabs/";

/// The newer name of an extension that was renamed.
pub fn alias(name: &str) -> Option<String> {
    let short = name.strip_prefix(ORGANIZATION)?;
    RENAMED.iter().find(|(old, _)| *old == short).map(|(_, new)| format!("{ORGANIZATION}{new}"))
}

/// The existing name that is closest to one that does not exist, if any is close.
pub fn nearest<'a>(name: &str, existing: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    existing
        .map(|candidate| (strsim::normalized_damerau_levenshtein(short(name), short(candidate)), candidate))
        .filter(|(likeness, _)| *likeness > 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)))
        .map(|(_, candidate)| candidate)
}

/// A name without the organization in front, which says nothing about likeness.
fn short(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_names_lead_to_new_ones_and_typos_to_neighbours() {
        assert_eq!(alias("siderolabs/v4l-uvc").as_deref(), Some("siderolabs/v4l-uvc-drivers"));
        assert_eq!(alias("siderolabs/hello"), None);
        let names = ["siderolabs/hello", "siderolabs/qemu-guest-agent"];
        assert_eq!(nearest("siderolabs/helo", names.into_iter()), Some("siderolabs/hello"));
        assert_eq!(nearest("siderolabs/xyz", names.into_iter()), None);
    }
}
