//! Building Go programs of one file, so that every architecture comes from one compiler.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::run;

/// Builds a static program for Linux on `arch` from its source; the same source gives the same bytes.
pub fn build(source: &str, arch: &str, to: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("main.go"), source)?;
    fs::write(folder.path().join("go.mod"), "module overlay\n\ngo 1.22\n")?;
    let mut command = Command::new("go");
    command.args(["build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o"]).arg(to).arg(".");
    command.current_dir(&folder).envs([("CGO_ENABLED", "0"), ("GOOS", "linux"), ("GOARCH", arch), ("GOFLAGS", "")]);
    run::output(&mut command)?;
    Ok(())
}
