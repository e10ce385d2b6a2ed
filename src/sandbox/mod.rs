//! Running a foreign program so that it can do nothing but compute and write into its own folder.
//!
//! The program is started through this binary itself ([`confine()`]), which puts up the walls and then becomes it:
//! Landlock leaves it one writable folder, seccomp a short list of system calls (none for sockets, none that makes a
//! process), and it has neither privileges nor, where the kernel lets us, the machine's network, IPC and users in sight.
//! Without Landlock or seccomp nothing is run. As it cannot make processes, one kill ends all of it.
//!
//! What resource limits cannot bound for every user is watched while it runs: time, threads, bytes written, files made.

mod confine;
mod folder;
mod syscalls;

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

pub use confine::confine;
pub use folder::Folder;

/// Name of the hidden command by which the binary starts itself to become a confined program.
pub const COMMAND: &str = "sandbox-exec";

/// Bytes of private memory at most.
const MEMORY: u64 = 512 << 20;
/// Bytes of address space at most: runtimes reserve far more than they use.
const ADDRESS_SPACE: u64 = 8 << 30;
/// Bytes of one file at most; its length counts, holes too.
const FILE: u64 = 256 << 20;
/// Bytes written at most, all files together.
const WRITTEN: u64 = 512 << 20;
/// Files and folders made at most.
const FILES: u64 = 10_000;
/// Bytes printed at most, on standard output and on standard error.
const PRINTED: u64 = 1 << 20;
/// Threads at most.
const THREADS: u64 = 512;
/// Files open at most.
const OPEN_FILES: u64 = 256;
/// How often what is watched is looked at.
const GLANCE: Duration = Duration::from_millis(5);

/// Why there is nothing that a program made.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// This machine cannot confine a program: it was not run.
    #[error("foreign programs cannot be run safely on this machine: {0}")]
    Unavailable(String),
    /// The operating system refused what running a program needs.
    #[error("sandbox: {doing}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// It ended, and says that it failed.
    #[error("{how}{}", said(last_line))]
    Failed {
        /// How it ended.
        how: String,
        /// The last line that it printed on standard error; empty if none.
        last_line: String,
    },
    /// It was ended for going over a limit.
    #[error("it {excess}{}", said(last_line))]
    Exceeded {
        /// What it did.
        excess: String,
        /// The last line that it printed on standard error; empty if none.
        last_line: String,
    },
}

fn said(line: &str) -> String {
    if line.is_empty() { String::new() } else { format!(": {line}") }
}

/// A program to be run once.
pub struct Job<'a> {
    /// Its folder: program, what it reads, and where it writes.
    pub folder: &'a Folder,
    /// Its only argument.
    pub argument: &'a str,
    /// What it reads from standard input.
    pub input: &'a [u8],
    /// How long it may take.
    pub time: Duration,
}

impl Job<'_> {
    /// Runs it to its end, and gives what it printed. Blocks; the calling thread must not end before.
    ///
    /// # Errors
    /// [`SandboxError`]; when it is returned, nothing of the program is running.
    pub fn run(&self) -> Result<Vec<u8>, SandboxError> {
        let io = |doing| move |source| SandboxError::Io { doing, source };
        let folder = self.folder;
        fs::write(folder.input(), self.input).map_err(io("writing its input"))?;
        // Left by a run before.
        let _ = fs::remove_file(folder.ready());
        let mut command = Command::new("/proc/self/exe");
        command.arg(COMMAND).arg(folder.path()).arg(self.argument).arg(std::process::id().to_string());
        command.env_clear().current_dir(folder.path());
        command.stdin(File::open(folder.input()).map_err(io("opening its input"))?);
        command.stdout(File::create(folder.output()).map_err(io("making its output"))?);
        command.stderr(File::create(folder.errors()).map_err(io("making its output"))?);
        let started = Instant::now();
        let mut child = Running(command.spawn().map_err(io("starting it"))?);
        let status = loop {
            if let Some(status) = child.0.try_wait().map_err(io("waiting for it"))? {
                break status;
            }
            let excess = if started.elapsed() > self.time {
                Some(format!("did not end within {} s", self.time.as_secs()))
            } else {
                excess(folder, child.0.id())
            };
            if let Some(excess) = excess {
                drop(child);
                return Err(SandboxError::Exceeded { excess, last_line: last_line(&folder.errors()) });
            }
            std::thread::sleep(GLANCE);
        };
        let last_line = || last_line(&folder.errors());
        if fs::read(folder.ready()).unwrap_or_default() != confine::CONFINED {
            return Err(SandboxError::Unavailable(last_line()));
        }
        // What it did between the last glance and its end.
        if let Some(excess) = folder_excess(folder) {
            return Err(SandboxError::Exceeded { excess, last_line: last_line() });
        }
        if !status.success() {
            return Err(SandboxError::Failed { how: ended(status), last_line: last_line() });
        }
        read_start(&folder.output(), PRINTED).map_err(io("reading its output"))
    }
}

/// Killed and waited for when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already; there is nobody to tell.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with status {code}"),
        (None, Some(signal)) => format!("it was ended by signal {signal}"),
        (None, None) => "it ended".to_owned(),
    }
}

/// What a running program has too much of.
fn excess(folder: &Folder, pid: u32) -> Option<String> {
    // The process may end while it is looked at.
    let of = |file: &str, name: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse::<u64>().ok()
    };
    if of("status", "Threads:").is_some_and(|threads| threads > THREADS) {
        return Some(format!("started more than {THREADS} threads"));
    }
    if of("io", "wchar:").is_some_and(|written| written > WRITTEN) {
        return Some(format!("wrote more than {} MiB", WRITTEN >> 20));
    }
    folder_excess(folder)
}

/// What there is too much of in a program's folder.
fn folder_excess(folder: &Folder) -> Option<String> {
    let printed = |path: PathBuf| fs::metadata(path).map_or(0, |found| found.len());
    if printed(folder.output()) > PRINTED || printed(folder.errors()) > PRINTED {
        return Some(format!("printed more than {} KiB", PRINTED >> 10));
    }
    match folder.made(FILES) {
        Ok(made) if made.bytes > WRITTEN => Some(format!("wrote more than {} MiB", WRITTEN >> 20)),
        Ok(made) if made.entries <= FILES => None,
        Ok(_) => Some(format!("made more than {FILES} files and folders")),
        Err(error) => Some(format!("made files that cannot be looked at ({error})")),
    }
}

fn read_start(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The last line of a file that says something, shortened, without control characters; where a Go program broke off, the
/// line before its stacks.
fn last_line(path: &Path) -> String {
    let bytes = read_start(path, PRINTED).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.clone().find(|line| line.starts_with("panic: ") || line.starts_with("fatal error: "));
    let line = line.or_else(|| lines.next()).unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_says_why_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("errors");
        let of = |text: &str| {
            fs::write(&file, text).unwrap();
            last_line(&file)
        };
        assert_eq!(of("a\nno such\u{1b} console \r\n \n"), "no such console");
        assert_eq!(of("x\npanic: why\n\ngoroutine 1 [running]:\nmain.main()\n"), "panic: why");
        assert_eq!(of(""), "");
        assert_eq!(of(&"x".repeat(2000)).len(), 300);
        assert_eq!(last_line(&folder.path().join("absent")), "");
    }
}
