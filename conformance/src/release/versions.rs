//! The versions of the miniature release and what each of them publishes.

/// A tag of the imager. What else exists under the tag follows from the fields.
#[derive(Clone, Copy, Debug)]
pub struct Version {
    /// The imager's tag.
    pub tag: &'static str,
    /// How its boot assets are made.
    pub era: Era,
    /// Has `installer-base` under the tag.
    pub installer_base: bool,
    /// Has `installer` under the tag.
    pub installer: bool,
    /// Has the extensions catalog (and the overlays catalog, if the era knows overlays).
    pub catalogs: bool,
    /// Has `talosctl-all`.
    pub talosctl: bool,
}

/// Ranges of versions with the same boot assets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Era {
    /// Before 1.5: xz, `/lib/modules`, no systemd-boot and no stub.
    Xz,
    /// 1.8 and 1.9: zstd, `/lib/modules`.
    Lib,
    /// 1.10: `/usr/lib/modules`.
    UsrLib,
    /// Since 1.11: also an SPDX document.
    Spdx,
}

impl Era {
    /// All, oldest first.
    pub const ALL: [Era; 4] = [Era::Xz, Era::Lib, Era::UsrLib, Era::Spdx];

    /// Where modules and firmware live: `lib` or `usr/lib`.
    pub fn lib(self) -> &'static str {
        if self <= Era::Lib { "lib" } else { "usr/lib" }
    }
}

const fn version(tag: &'static str, era: Era) -> Version {
    Version { tag, era, installer_base: false, installer: false, catalogs: false, talosctl: false }
}

/// Every imager tag, in the order of publishing. `1.12.5` (no `v`), `latest` and `edge` are no versions, v1.12.9 is
/// broken by configuration, v1.1.0 is below the minimum, and the two last prereleases are no official ones.
pub const VERSIONS: &[Version] = &[
    Version { installer: true, ..version("v1.1.0", Era::Xz) },
    Version { installer: true, ..version("v1.2.0", Era::Xz) },
    Version { installer: true, catalogs: true, ..version("v1.9.5", Era::Lib) },
    Version { installer_base: true, installer: true, catalogs: true, ..version("v1.10.7", Era::UsrLib) },
    since_spdx("v1.11.2", true, true),
    since_spdx("v1.12.1", true, true),
    version("1.12.5", Era::Spdx),
    since_spdx("v1.12.9", false, true),
    since_spdx("v1.13.0", true, true),
    since_spdx("v1.13.0-beta.1", false, true),
    since_spdx("v1.13.2", true, true),
    since_spdx("v1.14.0-alpha.0", false, false),
    since_spdx("v1.14.0-beta.0", true, false),
    version("v1.14.0-dev.1", Era::Spdx),
    version("v1.14.0-alpha.0-12-gabcdef0", Era::Spdx),
    version("latest", Era::Spdx),
    version("edge", Era::Spdx),
];

const fn since_spdx(tag: &'static str, catalogs: bool, installer: bool) -> Version {
    Version { tag, era: Era::Spdx, installer_base: true, installer, catalogs, talosctl: catalogs }
}
