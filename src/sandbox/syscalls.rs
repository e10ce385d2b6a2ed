//! The system calls that a confined program may make.
//!
//! A short list: what a static program needs that computes, copies files and uses threads. Everything else fails with
//! EPERM, sockets and new processes among it. Specification: seccomp(2), clone(2).

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// Numbers of system calls, each with rules of which one must hold; with none, every use is meant.
type Calls = Vec<(i64, Vec<SeccompRule>)>;

/// Forbids this process all other system calls, for ever.
///
/// # Errors
/// What the kernel does not know or refuses.
pub fn restrict() -> Result<(), String> {
    let pid = u64::from(std::process::id());
    let fails = |number: i32| SeccompAction::Errno(number.unsigned_abs());
    // Where several filters speak, the strictest answer counts. The list is last: it does not allow further filters.
    let filters = [
        // Mode, owner and times of files are nothing that we keep: said to be done, and not done.
        (every(SETTING_METADATA), SeccompAction::Errno(0), SeccompAction::Allow),
        // With these answers programs take another way.
        (every(&[libc::SYS_clone3]), fails(libc::ENOSYS), SeccompAction::Allow),
        (every(&[libc::SYS_fallocate]), fails(libc::EOPNOTSUPP), SeccompAction::Allow),
        (every(&[libc::SYS_ioctl]), fails(libc::ENOTTY), SeccompAction::Allow),
        (allowed(pid).map_err(|error| error.to_string())?, SeccompAction::Allow, fails(libc::EPERM)),
    ];
    let arch = std::env::consts::ARCH.try_into().map_err(|error: seccompiler::BackendError| error.to_string())?;
    for (calls, matched, other) in filters {
        let filter = SeccompFilter::new(calls.into_iter().collect(), other, matched, arch);
        let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(|error| error.to_string())?;
        seccompiler::apply_filter(&program).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn every(numbers: &[i64]) -> Calls {
    numbers.iter().map(|number| (*number, Vec::new())).collect()
}

/// What may be called. `pid` is the number of this process, which the program will have.
fn allowed(pid: u64) -> Result<Calls, seccompiler::BackendError> {
    let only = |argument: u8, operator: SeccompCmpOp, value: u64| {
        SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?])
    };
    let mut calls = every(PLAIN);
    calls.extend(every(SETTING_METADATA));
    calls.extend(every(&[libc::SYS_clone3, libc::SYS_fallocate, libc::SYS_ioctl]));
    let thread = libc::CLONE_THREAD.unsigned_abs().into();
    let [private, kind] = [libc::MAP_PRIVATE, libc::MAP_TYPE].map(|flag| flag.unsigned_abs().into());
    calls.extend([
        // Threads, and no processes.
        (libc::SYS_clone, vec![only(0, SeccompCmpOp::MaskedEq(thread), thread)?]),
        // Memory that is shared counts towards no limit.
        (libc::SYS_mmap, vec![only(3, SeccompCmpOp::MaskedEq(kind), private)?]),
        // Signals and limits of nobody else.
        (libc::SYS_tgkill, vec![only(0, SeccompCmpOp::Eq, pid)?]),
        (libc::SYS_prlimit64, vec![only(0, SeccompCmpOp::Eq, 0)?, only(0, SeccompCmpOp::Eq, pid)?]),
        // Not those that have somebody else sent a signal when something can be read.
        (libc::SYS_fcntl, file_commands().map(|command| only(1, SeccompCmpOp::Eq, command)).collect::<Result<_, _>>()?),
    ]);
    Ok(calls)
}

/// What may be done to an open file with `fcntl`.
fn file_commands() -> impl Iterator<Item = u64> {
    let descriptors =
        [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL];
    let locks = [libc::F_GETLK, libc::F_SETLK, libc::F_SETLKW];
    let own_locks = [libc::F_OFD_GETLK, libc::F_OFD_SETLK, libc::F_OFD_SETLKW];
    descriptors.into_iter().chain(locks).chain(own_locks).map(|command| command.unsigned_abs().into())
}

/// The same number on every architecture, but not named on every one.
const SYS_FCHMODAT2: i64 = 452;
/// Not named where `renameat2` suffices, and used nevertheless.
const SYS_RENAMEAT: i64 = if cfg!(target_arch = "x86_64") { 264 } else { 38 };

/// Calls that set mode, owner and times of files.
#[cfg(target_arch = "x86_64")]
const SETTING_METADATA: &[i64] = &[
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    SYS_FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_futimesat,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimensat,
    libc::SYS_utimes,
];

/// Calls that set mode, owner and times of files.
#[cfg(not(target_arch = "x86_64"))]
const SETTING_METADATA: &[i64] =
    &[libc::SYS_fchmod, libc::SYS_fchmodat, SYS_FCHMODAT2, libc::SYS_fchown, libc::SYS_fchownat, libc::SYS_utimensat];

/// Calls without conditions, those of x86-64 alone last.
const PLAIN: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_copy_file_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_execve,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_futex,
    libc::SYS_get_robust_list,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getgroups,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getresgid,
    libc::SYS_getresuid,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mincore,
    libc::SYS_mkdirat,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pselect6,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    SYS_RENAMEAT,
    libc::SYS_renameat2,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sendfile,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_sigaltstack,
    libc::SYS_statx,
    libc::SYS_sysinfo,
    libc::SYS_truncate,
    libc::SYS_umask,
    libc::SYS_uname,
    libc::SYS_unlinkat,
    libc::SYS_write,
    libc::SYS_writev,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_arch_prctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_create,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_getdents,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_getpgrp,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_getrlimit,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_pipe,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_select,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Not named by libc.
    const F_SETSIG: i32 = 10;

    #[test]
    fn nothing_that_reaches_others_is_allowed() {
        let allowed: Vec<i64> = allowed(1).unwrap().into_iter().map(|(number, _)| number).collect();
        for forbidden in [
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_kill,
            libc::SYS_ptrace,
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_memfd_create,
            libc::SYS_setsid,
            libc::SYS_linkat,
            libc::SYS_mknodat,
            libc::SYS_setxattr,
        ] {
            assert!(!allowed.contains(&forbidden), "{forbidden}");
        }
        let commands: Vec<u64> = file_commands().collect();
        for forbidden in [libc::F_SETOWN, F_SETSIG, libc::F_NOTIFY, libc::F_SETLEASE] {
            assert!(!commands.contains(&forbidden.unsigned_abs().into()), "{forbidden}");
        }
        let mut once = allowed.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), allowed.len(), "a call is listed twice: its rules would be mixed up");
    }
}
