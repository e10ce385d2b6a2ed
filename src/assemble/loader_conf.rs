//! `loader/loader.conf`, the configuration of systemd-boot.
//!
//! Specification: `loader.conf(5)`. Golden data: `tests/golden/grub/loader-conf.jsonl`.

use crate::schematic::EnrollKeys;

/// The file. An ISO image always says when keys are enrolled, a disk only with secure boot, and then not `off`.
pub fn loader_conf(enroll: Option<EnrollKeys>) -> String {
    let mut text = "# systemd-boot configuration\n\ntimeout 10\n".to_owned();
    if let Some(enroll) = enroll {
        text += &format!("\nsecure-boot-enroll {}\n", enroll.as_str());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_golden_one() {
        #[derive(serde::Deserialize)]
        struct Golden {
            enroll: String,
            text: String,
        }
        let lines: Vec<&str> = include_str!("../../tests/golden/grub/loader-conf.jsonl").lines().collect();
        for line in &lines {
            let golden: Golden = serde_json::from_str(line).unwrap();
            let all = [EnrollKeys::Off, EnrollKeys::Manual, EnrollKeys::IfSafe, EnrollKeys::Force];
            let enroll = all.into_iter().find(|keys| keys.as_str() == golden.enroll);
            assert_eq!(enroll.is_none(), golden.enroll.is_empty());
            assert_eq!(golden.text, loader_conf(enroll));
        }
        assert_eq!(lines.len(), 8);
    }
}
