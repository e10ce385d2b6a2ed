//! Labels of an ISO image. Golden data: `tests/golden/grub/iso-labels.jsonl`.

use crate::types::TalosVersion;

/// Length of a volume id at most, in bytes (ECMA-119, 8.4.7).
const VOLUME_ID_MAX: usize = 32;

/// What the primary volume descriptor calls the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsoLabel {
    /// The volume id: upper-case letters, digits and underscores only.
    pub volume_id: String,
    /// The volume set id: the same, not yet cut and coded.
    pub volume_set_id: String,
}

/// The labels of a version's image; secure boot makes no difference. None where it has none (before 1.8).
pub fn iso_label(version: &TalosVersion) -> Option<IsoLabel> {
    version.labels_iso().then(|| {
        let volume_set_id = format!("Talos-{version}");
        let code = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        IsoLabel { volume_id: volume_set_id.chars().map(code).take(VOLUME_ID_MAX).collect(), volume_set_id }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_the_golden_ones() {
        #[derive(serde::Deserialize)]
        struct Golden {
            secureboot_argument: bool,
            version: String,
            label: String,
            volume_id: String,
        }
        let mut seen = 0;
        for line in include_str!("../../tests/golden/grub/iso-labels.jsonl").lines() {
            let golden: Golden = serde_json::from_str(line).unwrap();
            let version = TalosVersion::parse(&golden.version).unwrap();
            let wanted = IsoLabel { volume_id: golden.volume_id, volume_set_id: golden.label };
            if golden.secureboot_argument {
                continue; // no ISO image is made with it
            }
            assert_eq!(iso_label(&version), version.at_least(1, 8, 0).then_some(wanted));
            seen += 1;
        }
        assert_eq!(seen, 8);
    }
}
