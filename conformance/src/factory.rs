//! A running `image-factory serve`, the subject of all tests here; stopped when dropped.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::blocking::Client;
use serde_json::Value;

use crate::registry::{Registry, free_port};
use crate::release::Release;
use crate::run;

/// Builds the factory in the profile that the harness itself was built in, and gives its program.
/// `CONFORMANCE_FACTORY` names another program to use as it is.
pub fn program() -> Result<PathBuf> {
    if let Some(program) = std::env::var_os("CONFORMANCE_FACTORY") {
        return Ok(PathBuf::from(program));
    }
    let harness = std::env::current_exe()?;
    let folder = harness
        .ancestors()
        .find(|folder| folder.ends_with("debug") || folder.ends_with("release"))
        .context("the harness does not run from cargo's target folder")?;
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Of the workspace, whose features are those that everything else was built with: no dependency is built again.
    command.args(["build", "--quiet", "--workspace", "--bin", "image-factory"]);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    if folder.ends_with("release") {
        command.arg("--release");
    }
    run::output(&mut command)?;
    let program = folder.join("image-factory");
    ensure!(program.is_file(), "cargo left no {}", program.display());
    Ok(program)
}

/// How a factory is configured: environment variables by name, on top of nothing.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Variables such as `IF_STORE_PATH`.
    pub variables: BTreeMap<String, String>,
}

impl Settings {
    /// A factory whose upstream is the miniature release in a registry.
    pub fn on(registry: &Registry, release: &Release, store: &Path) -> Self {
        Self::default()
            .with("IF_ARTIFACTS_CORE_REGISTRY", registry.address())
            .with("IF_ARTIFACTS_CORE_INSECURE", "true")
            .with("IF_CONTAINERSIGNATURE_PUBLICKEYFILE", release.public_key().display())
            .with("IF_BUILD_BROKENTALOSVERSIONS", "v1.12.9")
            .with("IF_STORE_PATH", store.display())
    }

    /// Adds or replaces a variable. `{port}` in a value stands for the port that the factory listens on.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.variables.insert(name.to_owned(), value.to_string());
        self
    }
}

/// A running factory.
pub struct Factory {
    child: Child,
    address: String,
    metrics: String,
    log: PathBuf,
}

impl Factory {
    /// Starts a factory on free loopback ports and waits until it is ready. `log` is where its output goes.
    pub fn start(settings: &Settings, log: &Path) -> Result<Self> {
        let factory = Self::start_unready(settings, log)?;
        factory.wait_ready(Duration::from_secs(60))?;
        Ok(factory)
    }

    /// As [`Factory::start`], but waits only for `/healthz`: its upstream may be down.
    pub fn start_unready(settings: &Settings, log: &Path) -> Result<Self> {
        let program = program()?;
        let port = free_port()?;
        let (address, metrics) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{}", free_port()?));
        let output = fs::File::create(log).with_context(|| format!("cannot make {}", log.display()))?;
        let mut command = Command::new(&program);
        command.arg("serve").stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        command
            .env("IF_HTTP_HTTPLISTENADDR", &address)
            .env("IF_HTTP_EXTERNALURL", format!("http://{address}/"))
            .env("IF_METRICS_ADDR", &metrics)
            .envs(settings.variables.iter().map(|(name, value)| (name, value.replace("{port}", &port.to_string()))));
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let mut factory = Self { child, address, metrics, log: log.to_owned() };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !factory.answers("/healthz") {
            if let Some(status) = factory.child.try_wait()? {
                bail!("the factory ended with {status}:\n{}", factory.log_tail());
            }
            ensure!(Instant::now() < deadline, "the factory does not answer:\n{}", factory.log_tail());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(factory)
    }

    /// Waits until `/readyz` says yes.
    pub fn wait_ready(&self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !self.answers("/readyz") {
            ensure!(Instant::now() < deadline, "the factory is not ready:\n{}", self.log_tail());
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn answers(&self, path: &str) -> bool {
        let answer = Client::new().get(self.url(path)).timeout(Duration::from_secs(5)).send();
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `127.0.0.1:port` of the metrics listener.
    pub fn metrics_address(&self) -> &str {
        &self.metrics
    }

    /// A URL from a path that starts with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Posts a schematic (YAML) and gives its ID.
    pub fn post_schematic(&self, yaml: &str) -> Result<String> {
        let answer = Client::new().post(self.url("/schematics")).body(yaml.to_owned()).send()?;
        let status = answer.status();
        let text = answer.text()?;
        ensure!(status.as_u16() == 201, "POST /schematics: {status} {text}");
        let answer: Value = serde_json::from_str(&text)?;
        Ok(answer["id"].as_str().context("the answer has no id")?.to_owned())
    }

    /// Asks it to end (SIGTERM) and waits; fails when it takes longer than `limit` or says it failed.
    pub fn stop(mut self, limit: Duration) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the factory ended with {status}:\n{}", self.log_tail());
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the factory does not end in {limit:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).context("process ID out of range")?;
        Ok(kill(Pid::from_raw(pid), signal)?)
    }

    /// Waits until it ends by itself.
    pub fn wait(mut self) -> Result<()> {
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Factory {
    fn drop(&mut self) {
        // It may have ended already; there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
