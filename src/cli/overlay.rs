//! `overlay`: what a schematic's overlay does.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::config::Config;
use crate::factory::Factory;
use crate::telemetry::Metrics;
use crate::types::Arch;
use crate::virtual_file::VirtualFile;

/// Prints what the overlay of the schematic in a file needs and puts on a disk: a line each.
pub async fn overlay(config: &Config, schematic: &Path, version: &str, arch: Arch) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::default());
    let (factory, _) = super::serve::factory(config, super::serve::open_store(config)?, &metrics)?;
    factory.list_versions().await?;
    let created = factory.create_schematic(super::asset::read_schematic(schematic)?.into()).await?;
    let plan = factory.overlay_plan(&created.id.to_string(), version, arch).await?;
    let plan = plan.ok_or_else(|| anyhow::anyhow!("the schematic has no overlay"))?;
    let (source, options) = (&plan.overlay.source, &plan.overlay.options);
    let mut lines = vec![format!("image {}@{}", source.repository, source.digest), format!("name {}", options.name)];
    lines.extend(options.kernel_args.iter().map(|argument| format!("argument {argument}")));
    lines.push(format!("offset {}", options.partition_offset));
    for (path, file) in plan.install.efi_files() {
        lines.push(format!("file {} {:>10} {path}", sha256(&factory, &file)?, file.len()));
    }
    for (offset, file) in plan.install.disk_writes() {
        lines.push(format!("boot {} {:>10} at {offset}", sha256(&factory, &file)?, file.len()));
    }
    match writeln!(io::stdout().lock(), "{}", lines.join("\n")) {
        // Whoever read it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

fn sha256(factory: &Factory, file: &VirtualFile) -> anyhow::Result<String> {
    let (blobs, mut hasher) = (factory.blobs(), Sha256::new());
    for piece in file.pieces(0..file.len(), blobs.as_ref(), 1 << 20) {
        hasher.update(&piece?);
    }
    Ok(hex::encode(hasher.finalize()))
}
