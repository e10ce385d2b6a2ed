//! Inside: putting up the walls around this process, and becoming the program.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope,
};
use nix::sched::CloneFlags;
use rustix::fs::StatVfsMountFlags;
use rustix::process::{Pid, Resource, Rlimit, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::folder::{FILES, PROGRAM, READY, WORK};
use super::syscalls;

/// Seconds of processor time at most.
const CPU_SECONDS: u64 = 60;

/// What is written down once all walls are up.
pub const CONFINED: &[u8] = b"confined";

/// Confines this process, which must have one thread, and becomes the program of the folder.
///
/// # Errors
/// Which wall could not be put up: the program was not started then. Or why the kernel would not start it.
pub fn confine(folder: &Path, argument: &OsStr, parent: u32) -> Result<Infallible, String> {
    let step = |what: &'static str| move |error: String| format!("{what}: {error}");
    std::env::set_current_dir(folder).map_err(|error| format!("its folder: {error}"))?;
    let mount = rustix::fs::statvfs(".").map_err(|error| format!("its folder: {error}"))?;
    if mount.f_flag.contains(StatVfsMountFlags::NOEXEC) {
        return Err("temporary files are on a file system that is mounted noexec".to_owned());
    }
    close_inherited().map_err(step("closing files"))?;
    let mut ready = File::create(READY).map_err(|error| format!("its folder: {error}"))?;
    leave_namespaces();
    limit().map_err(step("resource limits"))?;
    drop_privileges(parent).map_err(step("dropping privileges"))?;
    restrict_files().map_err(step("Landlock"))?;
    syscalls::restrict().map_err(step("seccomp"))?;
    // From here on, what happens is the program's doing.
    ready.write_all(CONFINED).map_err(|error| format!("its folder: {error}"))?;
    drop(ready);
    let mut command = Command::new(Path::new(".").join(PROGRAM));
    command.arg(argument).env_clear();
    for _ in 0..100 {
        let error = command.exec();
        // Another thread of the factory may have forked while the program was still being written.
        if error.raw_os_error() != Some(libc::ETXTBSY) {
            return Err(format!("the program cannot be started: {error}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err("the program is still being written".to_owned())
}

/// Closes what whoever started us left open: rights of open files outlive every wall.
fn close_inherited() -> Result<(), String> {
    let open = fs::read_dir("/proc/self/fd").map_err(|error| error.to_string())?;
    let open: Vec<i32> = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        // The one through which the folder was read is closed already.
        let _ = nix::unistd::close(fd);
    }
    Ok(())
}

/// A second wall, where the kernel lets us have it: a network without interfaces, no IPC, no host name, and users of our
/// own, among whom the program is root over nothing but its files, as it is where the reference runs it.
fn leave_namespaces() {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let all =
        CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    if nix::sched::unshare(all).is_err() {
        return;
    }
    let _ = fs::write("/proc/self/setgroups", "deny");
    let _ = fs::write("/proc/self/uid_map", format!("0 {} 1", user.as_raw()));
    let _ = fs::write("/proc/self/gid_map", format!("0 {} 1", group.as_raw()));
}

fn limit() -> Result<(), String> {
    let limits = [
        (Resource::As, super::ADDRESS_SPACE),
        (Resource::Data, super::MEMORY),
        (Resource::Stack, 64 << 20),
        (Resource::Memlock, 0),
        (Resource::Fsize, super::FILE),
        (Resource::Nofile, super::OPEN_FILES),
        (Resource::Core, 0),
        (Resource::Cpu, CPU_SECONDS),
        (Resource::Msgqueue, 0),
        (Resource::Sigpending, 256),
    ];
    for (resource, value) in limits {
        // An administrator's limit that is tighter stays.
        let most = rustix::process::getrlimit(resource).maximum.map_or(value, |most| most.min(value));
        let new = Rlimit { current: Some(most), maximum: Some(most) };
        rustix::process::setrlimit(resource, new).map_err(|error| format!("{resource:?}: {error}"))?;
    }
    Ok(())
}

/// Gives up all rights of root but that of entering and changing one's own folders whatever their mode, which programs
/// rely on that were written for root; and every way of getting rights back. Ends with the factory.
fn drop_privileges(parent: u32) -> Result<(), String> {
    let text = |error: rustix::io::Errno| error.to_string();
    rustix::thread::clear_ambient_capability_set().map_err(text)?;
    let held = rustix::thread::capabilities(None).map_err(text)?;
    let kept = held.permitted & CapabilitySet::DAC_OVERRIDE;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).map_err(text)?;
    rustix::thread::set_no_new_privs(true).map_err(text)?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(text)?;
    let alive = rustix::process::getppid().map(Pid::as_raw_pid).and_then(|pid| u32::try_from(pid).ok());
    if alive == Some(parent) { Ok(()) } else { Err("the factory is gone".to_owned()) }
}

/// Leaves the program itself to execute, `files` to read, and `work` to change; nothing else of any file system.
fn restrict_files() -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let change = read
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer;
    let open = |path: &str| PathFd::new(path).map_err(|error| text(&error));
    let rules: [(PathFd, BitFlags<AccessFs>); 3] =
        [(open(PROGRAM)?, AccessFs::Execute | AccessFs::ReadFile), (open(FILES)?, read), (open(WORK)?, change)];
    let ruleset = || {
        // What no kernel may lack: rights up to that of truncating files (Linux 6.2).
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(ABI::V3))?
            // seccomp forbids all of these, too.
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(ABI::V5))?
            .handle_access(AccessNet::from_all(ABI::V4))?
            .scope(Scope::from_all(ABI::V6))?
            .create()?;
        for (path, access) in rules {
            ruleset = ruleset.add_rule(PathBeneath::new(path, access))?;
        }
        ruleset.restrict_self()
    };
    ruleset().map(drop).map_err(|error: RulesetError| match error {
        RulesetError::HandleAccesses(_) => "the kernel must be Linux 6.2 or later, and have it enabled".to_owned(),
        other => other.to_string(),
    })
}
