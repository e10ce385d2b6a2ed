//! Running other programs: each helper says what was run and what it printed when it fails.

use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use wait_timeout::ChildExt;

/// No program runs longer: one that hangs must fail its own test by name, not the whole run by its time.
const LIMIT: Duration = Duration::from_secs(600);

/// Runs to the end and gives standard output; a failure carries the command line and what was printed.
pub fn output(command: &mut Command) -> Result<Vec<u8>> {
    output_within(command, LIMIT)
}

/// As [`output`], for a program that is killed when it takes longer than `limit`.
pub fn output_within(command: &mut Command, limit: Duration) -> Result<Vec<u8>> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let (stdout, stderr) = (gather(child.stdout.take()), gather(child.stderr.take()));
    let Some(status) = child.wait_timeout(limit)? else {
        child.kill()?;
        child.wait()?;
        // What it left running may hold the pipes: nothing is waited for.
        bail!("{command:?} did not end in {limit:?}");
    };
    let (stdout, stderr) = (stdout.recv()?, stderr.recv()?);
    if !status.success() {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        bail!("{command:?} ended with {status}\n{}{}", text(&stdout), text(&stderr));
    }
    Ok(stdout)
}

/// Reads to the end in the background.
fn gather(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut all = Vec::new();
        if let Some(mut pipe) = pipe {
            // A pipe that breaks gave all it has.
            let _ = pipe.read_to_end(&mut all);
        }
        // Nobody waits any more when the program was killed.
        let _ = sender.send(all);
    });
    receiver
}

/// As [`output`], as text.
pub fn text(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&output(command)?).into_owned())
}

/// A command from a program and its arguments.
pub fn command<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: &[S]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// Whether a program of that name is on the search path.
pub fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| Path::new(&folder).join(program).is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_fails_by_name() {
        let mut sleep = Command::new("sleep");
        let error = output_within(sleep.arg("100"), Duration::from_millis(50)).unwrap_err().to_string();
        assert!(error.contains("sleep") && error.contains("did not end in 50ms"), "{error}");
    }

    #[test]
    fn output_is_kept_apart_and_failures_show_it() {
        let mut shell = Command::new("sh");
        let mut both = Command::new("sh");
        assert_eq!(output(shell.args(["-c", "echo out; echo err >&2"])).unwrap(), b"out\n");
        let error = output(both.args(["-c", "echo out; echo err >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.ends_with("exit status: 3\nout\nerr\n"), "{error}");
    }
}
