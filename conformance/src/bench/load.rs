//! The load generator, and nginx as a peer: Debian's `wrk` and `nginx`.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::http::{ACCEPT, Connection};
use crate::registry::free_port;
use crate::run;

/// What `wrk` counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Whole answers a second.
    pub requests: f64,
    /// Bytes a second, those of answers not yet whole included.
    pub bytes: f64,
}

/// Asks for a URL again and again over `connections` for `time`.
pub fn wrk(url: &str, connections: u32, time: Duration) -> Result<Rates> {
    let mut command = Command::new("wrk");
    command.arg(format!("-t{}", connections.min(2))).arg(format!("-c{connections}"));
    command.arg(format!("-d{}s", time.as_secs())).args(["--timeout", "60s", "-H"]).arg(format!("Accept: {ACCEPT}"));
    let report = run::text(command.arg(url))?;
    parse(&report).with_context(|| format!("{url}:\n{report}"))
}

fn parse(report: &str) -> Result<Rates> {
    if let Some(bad) = report.lines().find(|line| line.contains("Non-2xx") || line.contains("Socket errors")) {
        bail!("not all answers were good: {}", bad.trim());
    }
    let value = |name: &str| {
        let line = report.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim).with_context(|| format!("wrk's report has no {name}"))
    };
    Ok(Rates { requests: value("Requests/sec:")?.parse()?, bytes: size(value("Transfer/sec:")?)? })
}

/// Reads `1.23GB`, where each unit is 1024 of the one before.
fn size(text: &str) -> Result<f64> {
    let units = [("GB", 30), ("MB", 20), ("KB", 10), ("B", 0)];
    for (unit, power) in units {
        if let Some(number) = text.strip_suffix(unit) {
            return Ok(number.parse::<f64>()? * f64::from(1 << power));
        }
    }
    bail!("not a size: {text}")
}

/// nginx over a folder, in two manners; stopped when dropped.
pub struct Nginx {
    child: Child,
    sendfile: String,
    buffers: String,
    _scratch: TempDir,
}

impl Nginx {
    /// Serves a folder on two free loopback ports: with sendfile, and with two buffers of 1 MiB.
    pub fn start(folder: &Path) -> Result<Self> {
        let scratch = tempfile::tempdir()?;
        let root = scratch.path().display();
        let (sendfile, buffers) = (format!("127.0.0.1:{}", free_port()?), format!("127.0.0.1:{}", free_port()?));
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("  {name}_temp_path {root}/{name};\n"))
            .collect();
        // The folder is readable by its owner only: workers stay who started them.
        let user = if nix::unistd::geteuid().is_root() { "user root;\n" } else { "" };
        let text = format!(
            "{user}daemon off;\nworker_processes auto;\nerror_log {root}/error.log;\npid {root}/pid;\n\
             events {{ worker_connections 4096; }}\nhttp {{\n{temporary}  access_log off;\n  keepalive_requests 1000000;\n  \
             open_file_cache max=1000;\n  root {folder};\n  \
             server {{ listen {sendfile}; sendfile on; tcp_nopush on; }}\n  \
             server {{ listen {buffers}; sendfile off; output_buffers 2 1m; }}\n}}\n",
            folder = folder.display()
        );
        let config = scratch.path().join("nginx.conf");
        fs::write(&config, text)?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&config).arg("-e").arg(scratch.path().join("error.log"));
        // Debian keeps it where only root looks for programs.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("cannot start nginx")?;
        let nginx = Self { child, sendfile, buffers, _scratch: scratch };
        let deadline = Instant::now() + Duration::from_secs(10);
        while Connection::open(&nginx.sendfile).is_err() || Connection::open(&nginx.buffers).is_err() {
            ensure!(Instant::now() < deadline, "nginx does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(nginx)
    }

    /// The manners by name, with the address of each.
    pub fn manners(&self) -> [(&'static str, &str); 2] {
        [("nginx, sendfile", &self.sendfile), ("nginx, large buffers", &self.buffers)]
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master ends its workers; it may have ended already, and then there is nobody to tell.
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "Running 4s test @ http://127.0.0.1:1/x\n  2 threads and 64 connections\n  \
        84 requests in 4.02s, 8.21GB read\nRequests/sec:     20.90\nTransfer/sec:      2.50GB\n";

    #[test]
    fn reads_a_report() {
        let rates = parse(REPORT).unwrap();
        assert_eq!(rates, Rates { requests: 20.90, bytes: 2.5 * 1024.0 * 1024.0 * 1024.0 });
        assert!(parse(&REPORT.replace("Requests/sec", "  Non-2xx or 3xx responses: 7\nRequests/sec")).is_err());
        assert!(parse("").is_err());
        assert_eq!(size("512.00KB").unwrap(), 524_288.0);
        assert!(size("12").is_err());
    }
}
