//! System calls, by seccomp (seccomp(2)): a list of those that a program with files, sockets and one thread for lookups makes.
//!
//! What is not on it fails with ENOSYS, as on an older kernel. A later C library that tries a newer call first then falls back
//! to the one that it used before, where EPERM would be taken for an answer, and a signal would end the run. So the list must
//! have the older calls of each kind, too, and those of the other C library: it is not what one run on one machine makes.
//!
//! On it are the calls of both C libraries for files, time, memory, threads and sockets, and those of the modules with which the
//! resolver asks other services (nss(5)). Not on it is what starts a program or a process, looks at another process, listens,
//! mounts, loads code into the kernel, or changes who the process is.

use libc::{c_int, c_long};

use super::filter::{CallFilter, Condition, Rule};
use super::{Needs, Sockets};

/// Calls that are allowed whatever their arguments are.
#[rustfmt::skip]
const ALLOWED: &[c_long] = &[
    // Bytes.
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_pread64, libc::SYS_pwrite64,
    libc::SYS_preadv, libc::SYS_pwritev, libc::SYS_lseek, libc::SYS_splice, libc::SYS_copy_file_range,
    // Descriptors.
    libc::SYS_close, libc::SYS_close_range, libc::SYS_dup, libc::SYS_dup3, libc::SYS_pipe2,
    libc::SYS_eventfd2, libc::SYS_ppoll, libc::SYS_pselect6, libc::SYS_epoll_create1, libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2, libc::SYS_timerfd_create, libc::SYS_timerfd_settime,
    // Files. What can be done to which of them is Landlock's, except for their modes, which nothing here changes.
    libc::SYS_faccessat, libc::SYS_faccessat2, libc::SYS_fstat, libc::SYS_newfstatat,
    libc::SYS_statx, libc::SYS_statfs, libc::SYS_fstatfs, libc::SYS_readlinkat, libc::SYS_getdents64, libc::SYS_getcwd,
    libc::SYS_getxattr, libc::SYS_fgetxattr,
    libc::SYS_mkdirat, libc::SYS_unlinkat, libc::SYS_renameat, libc::SYS_renameat2, libc::SYS_linkat,
    libc::SYS_ftruncate, libc::SYS_fallocate, libc::SYS_umask, libc::SYS_flock, libc::SYS_fsync,
    libc::SYS_fdatasync, libc::SYS_sync_file_range, libc::SYS_fadvise64,
    // Which files of a directory change: their names, and only where the user may list them.
    libc::SYS_inotify_init1, libc::SYS_inotify_add_watch, libc::SYS_inotify_rm_watch,
    // Memory.
    libc::SYS_brk, libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_mprotect, libc::SYS_madvise,
    libc::SYS_mlock, libc::SYS_munlock, libc::SYS_membarrier, libc::SYS_getrandom,
    // Threads and signals.
    libc::SYS_futex, libc::SYS_set_robust_list, libc::SYS_get_robust_list, libc::SYS_set_tid_address, libc::SYS_rseq,
    libc::SYS_sched_yield, libc::SYS_sched_getaffinity, libc::SYS_getcpu, libc::SYS_exit, libc::SYS_exit_group,
    libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_rt_sigpending,
    libc::SYS_rt_sigtimedwait, libc::SYS_sigaltstack, libc::SYS_restart_syscall,
    // Time.
    libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_clock_nanosleep, libc::SYS_gettimeofday, libc::SYS_nanosleep,
    // Who and where this is.
    libc::SYS_getpid, libc::SYS_getppid, libc::SYS_gettid, libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid,
    libc::SYS_getegid, libc::SYS_getresuid, libc::SYS_getresgid, libc::SYS_getgroups, libc::SYS_uname, libc::SYS_sysinfo,
    libc::SYS_getrusage,
    // Sockets, of the families below.
    libc::SYS_connect, libc::SYS_bind, libc::SYS_getsockname, libc::SYS_getpeername, libc::SYS_getsockopt,
    libc::SYS_setsockopt, libc::SYS_recvfrom, libc::SYS_recvmsg, libc::SYS_recvmmsg, libc::SYS_shutdown,
];

/// Those of this architecture's first days, each of which is above in a newer form.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLDER: &[c_long] = &[
    libc::SYS_access, libc::SYS_stat, libc::SYS_lstat, libc::SYS_readlink,
    libc::SYS_getdents, libc::SYS_mkdir, libc::SYS_unlink, libc::SYS_rename, libc::SYS_link,
    libc::SYS_pipe, libc::SYS_dup2, libc::SYS_poll, libc::SYS_select, libc::SYS_epoll_create, libc::SYS_epoll_wait,
    libc::SYS_eventfd, libc::SYS_time, libc::SYS_getrlimit,
];
#[cfg(target_arch = "aarch64")]
const OLDER: &[c_long] = &[];

/// What the kernel calls this architecture (linux/audit.h).
#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;

/// Requests of ioctl(2) that only ask: what is a terminal and how large, how much can be read, which number an interface has;
/// and the three that set a flag of the descriptor. TIOCSTI, which types on the terminal for its user, is not one.
/// As numbers, since the two C libraries have them as different types.
const IOCTLS: [u32; 8] = [
    0x5401, // TCGETS
    0x5413, // TIOCGWINSZ
    0x541b, // FIONREAD
    0x5421, // FIONBIO
    0x5450, // FIONCLEX
    0x5451, // FIOCLEX
    0x8910, // SIOCGIFNAME
    0x8933, // SIOCGIFINDEX
];

/// Requests of fcntl(2): copies and flags of a descriptor, locks of a file, the length of a pipe. `F_SETOWN` and `F_SETSIG`, with
/// which the kernel sends a signal to another process, are not among them.
const FCNTLS: [c_int; 12] = [
    libc::F_DUPFD,
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_GETLK,
    libc::F_SETLK,
    libc::F_SETLKW,
    libc::F_OFD_SETLK,
    libc::F_OFD_SETLKW,
    libc::F_GETPIPE_SZ,
    libc::F_SETPIPE_SZ,
];

/// With one of these flags, an open makes a file (open(2)): `O_CREAT`, and `O_TMPFILE` without the one for directories in it.
const MAKES: c_int = libc::O_CREAT | libc::O_TMPFILE & !libc::O_DIRECTORY;

/// What makes a process the owner or group of the file that it executes.
const SET_ID: u32 = libc::S_ISUID | libc::S_ISGID;

/// What a thread does to itself: give itself, and its memory, a name for debuggers.
const PRCTLS: [c_int; 3] = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA];

/// Of clone(2), every flag that puts the new thread into another namespace.
const CLONE_NEW: c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// The kind of a socket, without the flags that go with it (socket(2)).
const SOCKET_KIND: u32 = 0xf;

/// Calls that are allowed with these arguments only: one of the rules of each.
fn limited(needs: &Needs) -> Vec<(c_long, Vec<Rule>)> {
    let is = |argument: u8, value: c_int| Condition::is(argument, value.cast_unsigned());
    // Landlock confines connect(2), and not data in the packet that opens a connection.
    let not_fast_open = |flags: u8| vec![vec![Condition::masked(flags, libc::MSG_FASTOPEN.cast_unsigned(), 0)]];
    let unix = vec![is(0, libc::AF_UNIX)];
    let families = match needs.sockets {
        Sockets::Internet => vec![],
        Sockets::Unix => vec![unix.clone()],
        Sockets::Resolver => vec![unix.clone(), vec![is(0, libc::AF_NETLINK), is(2, libc::NETLINK_ROUTE)]],
    };
    let looked_at = (libc::CLONE_THREAD | CLONE_NEW).cast_unsigned();
    let thread = Condition::masked(0, looked_at, libc::CLONE_THREAD.cast_unsigned());
    vec![
        (libc::SYS_socket, internet().chain(families).collect()),
        (libc::SYS_socketpair, vec![unix]),
        (libc::SYS_sendto, not_fast_open(3)),
        (libc::SYS_sendmsg, not_fast_open(2)),
        (libc::SYS_sendmmsg, not_fast_open(3)),
        (libc::SYS_ioctl, IOCTLS.map(|request| vec![Condition::is(1, request)]).into()),
        (libc::SYS_prctl, PRCTLS.map(|option| vec![is(0, option)]).into()),
        // A thread, and no process. clone3(2) has its flags in memory, which no filter sees: a C library falls back to this.
        (libc::SYS_clone, vec![vec![thread]]),
        // To end with a message, abort(3) signals its own process; the other C library, its own thread.
        (libc::SYS_tgkill, vec![vec![is(0, rustix::process::getpid().as_raw_pid())]]),
        (libc::SYS_tkill, vec![vec![is(0, rustix::thread::gettid().as_raw_pid())]]),
        // Its own limits, and only to know them: that of cores is 0. The new ones are a pointer, of which both halves count.
        (libc::SYS_prlimit64, vec![vec![is(0, 0), is(2, 0), Condition::upper_is(2, 0)]]),
    ]
}

/// As above, of files and descriptors: no file is made that is executed as its owner, and no input signals another process.
fn limited_to_files() -> Vec<(c_long, Vec<Rule>)> {
    let no_set_id = |mode: u8| vec![Condition::masked(mode, SET_ID, 0)];
    // Where an open makes no file, its mode is whatever is in the register.
    let open = |flags: u8| vec![vec![Condition::masked(flags, MAKES.cast_unsigned(), 0)], no_set_id(flags + 1)];
    let request = |request: c_int| Condition::is(1, request.cast_unsigned());
    let no_signal = vec![request(libc::F_SETFL), Condition::masked(2, libc::O_ASYNC.cast_unsigned(), 0)];
    let fcntl = FCNTLS.into_iter().map(|known| vec![request(known)]).chain([no_signal]).collect();
    let newer = [(libc::SYS_openat, open(2)), (libc::SYS_mknodat, vec![no_set_id(2)]), (libc::SYS_fcntl, fcntl)];
    #[cfg(target_arch = "x86_64")]
    let older =
        [(libc::SYS_open, open(1)), (libc::SYS_creat, vec![no_set_id(1)]), (libc::SYS_mknod, vec![no_set_id(1)])];
    #[cfg(target_arch = "aarch64")]
    let older = [];
    newer.into_iter().chain(older).collect()
}

/// TCP, and datagrams for the resolver. Other protocols, such as MPTCP, would pass by Landlock.
fn internet() -> impl Iterator<Item = Rule> {
    let is = |argument: u8, value: c_int| Condition::is(argument, value.cast_unsigned());
    let of_kind = |kind: c_int| Condition::masked(1, SOCKET_KIND, kind.cast_unsigned());
    let kinds = [(libc::SOCK_STREAM, libc::IPPROTO_TCP), (libc::SOCK_DGRAM, libc::IPPROTO_UDP)];
    [libc::AF_INET, libc::AF_INET6].into_iter().flat_map(move |family| {
        kinds.into_iter().flat_map(move |(kind, protocol)| {
            [libc::IPPROTO_IP, protocol].map(|protocol| vec![is(0, family), of_kind(kind), is(2, protocol)])
        })
    })
}

/// The calls above.
fn filter(needs: &Needs) -> CallFilter {
    let mut filter = CallFilter::default();
    for call in ALLOWED.iter().chain(OLDER) {
        filter.allow(*call, Vec::new());
    }
    for (call, rules) in limited(needs).into_iter().chain(limited_to_files()) {
        filter.allow(call, rules);
    }
    filter
}

/// Allows these calls and no others, in this thread and all that it starts.
pub(super) fn confine(needs: &Needs) -> Result<(), String> {
    seccompiler::apply_filter(&filter(needs).program(ARCH)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_on_the_list_starts_a_program_or_looks_at_another_process() {
        let filter = filter(&Needs::default());
        for call in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_clone3,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_getfd,
            libc::SYS_kill,
            libc::SYS_listen,
            libc::SYS_accept4,
            libc::SYS_mount,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_userfaultfd,
            libc::SYS_perf_event_open,
            libc::SYS_unshare,
            libc::SYS_setuid,
            libc::SYS_chroot,
            libc::SYS_keyctl,
            libc::SYS_personality,
            // A mode in memory, which no filter sees; and those that change one.
            libc::SYS_openat2,
            libc::SYS_fchmod,
            libc::SYS_fchmodat,
        ] {
            assert!(!filter.knows(call), "{call}");
        }
        // TIOCSTI and TIOCLINUX type at the terminal in the place of its user.
        assert!(!IOCTLS.contains(&0x5412) && !IOCTLS.contains(&0x541c));
    }
}
