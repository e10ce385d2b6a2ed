//! Platforms: where a machine runs.

use std::fmt;

/// A platform that Talos runs on, by the name that paths and kernel command lines use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Platform {
    /// Bare metal.
    Metal,
    /// Amazon Web Services.
    Aws,
    /// Google Cloud.
    Gcp,
    /// Equinix Metal, formerly Packet.
    EquinixMetal,
    /// Microsoft Azure.
    Azure,
    /// Digital Ocean.
    DigitalOcean,
    /// Nocloud metadata, as Proxmox and others give it.
    Nocloud,
    /// OpenNebula.
    OpenNebula,
    /// OpenStack.
    OpenStack,
    /// VMware.
    Vmware,
    /// Akamai.
    Akamai,
    /// Apache CloudStack.
    CloudStack,
    /// Hetzner.
    Hcloud,
    /// Oracle Cloud.
    Oracle,
    /// UpCloud.
    UpCloud,
    /// Vultr.
    Vultr,
    /// Exoscale.
    Exoscale,
    /// Alibaba Cloud.
    AlibabaCloud,
    /// Scaleway.
    Scaleway,
    /// The former name of [`Platform::EquinixMetal`], still understood.
    Packet,
    /// A container.
    Container,
}

/// A name that is no platform's.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown platform {name:?}: known are {}", known())]
pub struct UnknownPlatform {
    /// The name that was asked for.
    pub name: String,
}

impl Platform {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::Metal,
        Self::Aws,
        Self::Gcp,
        Self::EquinixMetal,
        Self::Azure,
        Self::DigitalOcean,
        Self::Nocloud,
        Self::OpenNebula,
        Self::OpenStack,
        Self::Vmware,
        Self::Akamai,
        Self::CloudStack,
        Self::Hcloud,
        Self::Oracle,
        Self::UpCloud,
        Self::Vultr,
        Self::Exoscale,
        Self::AlibabaCloud,
        Self::Scaleway,
        Self::Packet,
        Self::Container,
    ];

    /// The name as paths and repositories have it. `digital-ocean` holds a dash, `equinixMetal` a capital.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Metal => "metal",
            Self::Aws => "aws",
            Self::Gcp => "gcp",
            Self::EquinixMetal => "equinixMetal",
            Self::Azure => "azure",
            Self::DigitalOcean => "digital-ocean",
            Self::Nocloud => "nocloud",
            Self::OpenNebula => "opennebula",
            Self::OpenStack => "openstack",
            Self::Vmware => "vmware",
            Self::Akamai => "akamai",
            Self::CloudStack => "cloudstack",
            Self::Hcloud => "hcloud",
            Self::Oracle => "oracle",
            Self::UpCloud => "upcloud",
            Self::Vultr => "vultr",
            Self::Exoscale => "exoscale",
            Self::AlibabaCloud => "alibabacloud",
            Self::Scaleway => "scaleway",
            Self::Packet => "packet",
            Self::Container => "container",
        }
    }

    /// Reads a name; upper and lower case matter.
    ///
    /// # Errors
    /// [`UnknownPlatform`], whose text lists the known ones.
    pub fn parse(name: &str) -> Result<Self, UnknownPlatform> {
        let found = Self::ALL.into_iter().find(|platform| platform.as_str() == name);
        found.ok_or_else(|| UnknownPlatform { name: name.to_owned() })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// All names, for error texts.
fn known() -> String {
    Platform::ALL.map(Platform::as_str).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names in the golden platform table, plus the two that assets know and the table does not.
    #[test]
    fn knows_the_golden_platforms() {
        let golden = include_str!("../../tests/golden/platforms/platforms.json");
        let golden: serde_json::Value = serde_json::from_str(golden).unwrap();
        let mut names: Vec<&str> =
            golden["platforms"].as_array().unwrap().iter().map(|platform| platform["name"].as_str().unwrap()).collect();
        names.extend(["packet", "container"]);
        names.sort_unstable();
        let mut ours = Platform::ALL.map(Platform::as_str);
        ours.sort_unstable();
        assert_eq!(ours[..], names[..]);
        for platform in Platform::ALL {
            assert_eq!(Platform::parse(platform.as_str()), Ok(platform));
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let text = Platform::parse("equinixmetal").unwrap_err().to_string();
        assert!(text.starts_with("unknown platform \"equinixmetal\": known are metal, aws,"), "{text}");
        assert!(text.contains("equinixMetal"), "{text}");
    }
}
