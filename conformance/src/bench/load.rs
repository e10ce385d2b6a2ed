//! Load, by our own client and by Debian's `wrk`; and Debian's `nginx` as a peer.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::http::{ACCEPT, Connection};
use super::memory::parallel;
use crate::registry::free_port;
use crate::run;

/// Gets something big again and again over `connections` for `time`: bytes a second, those of answers not yet whole
/// included.
///
/// Not by `wrk`: that reads 8 KiB at a time, which costs more than what any of the servers does, and then it is `wrk` that
/// is measured.
pub fn pull(address: &str, path: &str, connections: u32, time: Duration) -> Result<f64> {
    let pulled = AtomicU64::new(0);
    let start = Instant::now();
    parallel(connections as usize, connections as usize, |_| {
        let mut connection = Connection::open(address)?;
        loop {
            let head = connection.request("GET", path, &[])?;
            ensure!(head.status == 200, "GET {path}: {}", head.status);
            let mut left = head.length;
            while left > 0 {
                let some = connection.some(left, |_| {})?;
                left -= some;
                pulled.fetch_add(some, Ordering::Relaxed);
                if start.elapsed() >= time {
                    return Ok(());
                }
            }
        }
    })?;
    Ok(pulled.into_inner() as f64 / start.elapsed().as_secs_f64())
}

/// Asks for a small thing again and again over `connections` for `time`, by `wrk`: answers a second.
pub fn wrk(url: &str, connections: u32, time: Duration) -> Result<f64> {
    let mut command = Command::new("wrk");
    command.arg(format!("-t{}", connections.min(2))).arg(format!("-c{connections}"));
    command.arg(format!("-d{}s", time.as_secs())).args(["--timeout", "60s", "-H"]).arg(format!("Accept: {ACCEPT}"));
    let report = run::text(command.arg(url))?;
    parse(&report).with_context(|| format!("{url}:\n{report}"))
}

fn parse(report: &str) -> Result<f64> {
    if let Some(bad) = report.lines().find(|line| line.contains("Non-2xx") || line.contains("Socket errors")) {
        bail!("not all answers were good: {}", bad.trim());
    }
    let requests = report.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    Ok(requests.context("wrk's report has no rate")?.trim().parse()?)
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
        assert_eq!(parse(REPORT).unwrap(), 20.90);
        assert!(parse(&REPORT.replace("Requests/sec", "  Non-2xx or 3xx responses: 7\nRequests/sec")).is_err());
        assert!(parse("").is_err());
    }
}
