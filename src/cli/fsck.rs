//! `fsck`: checks the store.

use crate::config::Config;

/// Hashes everything again; drops what is bad if `repair`.
pub fn fsck(config: &Config, repair: bool) -> anyhow::Result<()> {
    let report = super::serve::open_store(config)?.fsck(repair)?;
    print!("{report}");
    if report.lost > 0 {
        anyhow::bail!("{} records are damaged that cannot be made again", report.lost)
    } else if report.is_clean() || repair {
        Ok(())
    } else {
        anyhow::bail!("the store is damaged; run without --dry-run to repair it")
    }
}
