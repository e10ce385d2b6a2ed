//! Go programs that the harness drives, built once at low priority and kept in the cache.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::{cache, run};

/// A program in a Go module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tool {
    /// Name of the built program.
    pub name: &'static str,
    /// Import path of its main package.
    pub package: &'static str,
    /// Module version.
    pub version: &'static str,
}

/// Signs the miniature release and verifies what the factory signs.
pub const COSIGN: Tool =
    Tool { name: "cosign", package: "github.com/sigstore/cosign/v3/cmd/cosign", version: "v3.1.3" };
/// A registry client.
pub const CRANE: Tool =
    Tool { name: "crane", package: "github.com/google/go-containerregistry/cmd/crane", version: "v0.22.1" };
/// A registry client that knows referrers.
pub const ORAS: Tool = Tool { name: "oras", package: "oras.land/oras/cmd/oras", version: "v1.3.6" };
/// A registry client of an independent library.
pub const REGCTL: Tool =
    Tool { name: "regctl", package: "github.com/regclient/regclient/cmd/regctl", version: "v0.11.7" };
/// The official conformance suite of the OCI distribution specification.
pub const OCI_CONFORMANCE: Tool = Tool {
    name: "conformance",
    package: "github.com/opencontainers/distribution-spec/conformance",
    version: "v0.0.0-20260831232431-97274622c111",
};
/// All of them.
pub const ALL: &[Tool] = &[COSIGN, CRANE, ORAS, REGCTL, OCI_CONFORMANCE];

impl Tool {
    /// The built program; builds it when the cache has none. Builds go one at a time, niced.
    pub fn path(&self) -> Result<PathBuf> {
        let folder = cache::subfolder("tools")?.join(format!("{}-{}", self.name, self.version));
        let program = folder.join(self.name);
        if program.is_file() {
            return Ok(program);
        }
        let _lock = cache::lock("tools")?;
        if program.is_file() {
            return Ok(program);
        }
        ensure!(run::on_path("go"), "a Go toolchain is needed to build {}", self.name);
        println!("building {} {}", self.name, self.version);
        let mut command = Command::new("nice");
        command
            .args(["-n", "15", "go", "install", "-p", "1", "-trimpath", "-ldflags=-s -w"])
            .arg(format!("{}@{}", self.package, self.version))
            .env("GOBIN", &folder)
            .env("GOFLAGS", "")
            .current_dir(cache::folder()?);
        run::output(&mut command)?;
        ensure!(program.is_file(), "go install left no {}", program.display());
        Ok(program)
    }
}
