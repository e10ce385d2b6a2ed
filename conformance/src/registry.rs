//! Debian's `docker-registry` on a loopback port, stopped when dropped.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::release::Release;

/// A running registry.
pub struct Registry {
    address: String,
    child: Child,
    storage: PathBuf,
    // Holds the configuration, and the storage when it is a copy.
    _scratch: TempDir,
}

impl Registry {
    /// Serves a storage folder that nobody may write to.
    pub fn read_only(release: &Release) -> Result<Self> {
        Self::start(&release.storage(), true, tempfile::tempdir()?, None)
    }

    /// As [`Registry::read_only`], on a port of the caller's choice.
    pub fn read_only_on(release: &Release, port: u16) -> Result<Self> {
        Self::start(&release.storage(), true, tempfile::tempdir()?, Some(port))
    }

    /// Serves a copy of a release's storage, which the caller may change or break.
    pub fn scratch(release: &Release) -> Result<Self> {
        let scratch = tempfile::tempdir()?;
        let copy = scratch.path().join("storage");
        crate::run::output(Command::new("cp").args(["-a", "--reflink=auto"]).arg(release.storage()).arg(&copy))?;
        Self::start(&copy, false, scratch, None)
    }

    /// Serves a folder for writing; it may be empty.
    pub fn writable(storage: &Path) -> Result<Self> {
        Self::start(storage, false, tempfile::tempdir()?, None)
    }

    fn start(storage: &Path, read_only: bool, scratch: TempDir, port: Option<u16>) -> Result<Self> {
        // A port that was free a moment ago may be taken by the time the registry wants it.
        let mut last = None;
        for _ in 0..5 {
            match Self::start_once(storage, read_only, &scratch, port) {
                Ok((address, child)) => {
                    let storage = storage.to_owned();
                    return Ok(Self { address, child, storage, _scratch: scratch });
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("never tried")?).context("docker-registry does not start")
    }

    fn start_once(storage: &Path, read_only: bool, scratch: &TempDir, port: Option<u16>) -> Result<(String, Child)> {
        let port = match port {
            Some(port) => port,
            None => free_port()?,
        };
        let address = format!("127.0.0.1:{port}");
        let config = scratch.path().join("registry.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n    maxthreads: 100\n  \
             delete:\n    enabled: true\n  maintenance:\n    uploadpurging:\n      enabled: false\n    readonly:\n      \
             enabled: {read_only}\nhttp:\n  addr: {address}\n",
            storage.display()
        );
        fs::write(&config, text)?;
        let log = fs::File::create(scratch.path().join("registry.log"))?;
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start docker-registry")?;
        let client = reqwest::blocking::Client::new();
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait()? {
                let log = fs::read_to_string(scratch.path().join("registry.log"))?;
                bail!("docker-registry on {address} ended with {status}: {log}");
            }
            if client.get(format!("http://{address}/v2/")).send().is_ok_and(|r| r.status().is_success()) {
                return Ok((address, child));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill()?;
        child.wait()?;
        bail!("docker-registry on {address} did not answer in time")
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The storage folder: `docker/registry/v2/…` inside it.
    pub fn storage(&self) -> &Path {
        &self.storage
    }

    /// Where the storage keeps the bytes of a digest.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let blobs = self.storage.join("docker/registry/v2/blobs/sha256");
        blobs.join(hex.get(..2).unwrap_or_default()).join(hex).join("data")
    }

    /// Waits until the registry ends by itself (or by a signal to the group).
    pub fn wait(mut self) -> Result<()> {
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended already; there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A loopback port that is free now.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
