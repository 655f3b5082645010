"""The system calls that a traced tool made, and how each of them can fail."""

import re
from collections import Counter
from dataclasses import dataclass

# What each call fails with: errors of its manual page that a sound program can meet on a sound machine, the worst first.
# brk(2) has no errno: the kernel returns the old end, and what is lower than asked for is no success.
# A call that is in none of the tables ends the run: a change that adds a call to the product says here how it fails.
DISK_READ = ["EIO", "EINTR"]
DISK_WRITE = ["ENOSPC", "EIO", "EINTR"]
LOOKUP = ["EIO", "EACCES", "ENOMEM"]
FAILS = {
    "accept4": ["EMFILE", "EINTR"],
    "access": LOOKUP,
    "bind": ["EADDRINUSE"],
    "brk": ["retval=0"],
    "capget": ["EINVAL"],
    "capset": ["EPERM"],
    "chmod": ["EIO"],
    "clone": ["EAGAIN"],
    "clone3": ["EAGAIN"],
    "connect": ["ECONNREFUSED", "ENETUNREACH", "EADDRNOTAVAIL", "EINTR"],
    "copy_file_range": ["ENOSPC", "EIO", "EXDEV"],
    "dup": ["EMFILE"],
    "dup2": ["EINTR"],
    "epoll_create1": ["EMFILE"],
    "eventfd2": ["EMFILE"],
    "execve": ["ENOENT", "EACCES", "ENOMEM"],
    "faccessat": LOOKUP,
    "faccessat2": LOOKUP,
    "fallocate": ["ENOSPC", "EINTR"],
    "fchmod": ["EIO"],
    "fcntl": ["EMFILE"],
    "fdatasync": ["EIO", "ENOSPC"],
    "fgetxattr": ["EIO", "EOPNOTSUPP"],
    "flock": ["ENOLCK", "EINTR"],
    "fstat": ["EIO", "ENOMEM"],
    "fsync": ["EIO", "ENOSPC"],
    "ftruncate": ["EIO", "ENOSPC"],
    "futex": ["EAGAIN", "EINTR"],
    "getcwd": ["ENOENT"],
    "getdents64": ["EIO"],
    "getpeername": ["ENOTCONN", "ENOBUFS"],
    "getrandom": ["EINTR", "ENOSYS"],
    "getsockname": ["ENOBUFS"],
    "getsockopt": ["ENOBUFS"],
    "getxattr": ["EIO", "EOPNOTSUPP"],
    "inotify_add_watch": ["ENOSPC", "EACCES"],
    "inotify_init1": ["EMFILE", "ENOSYS"],
    "ioctl": ["ENOTTY"],
    "landlock_add_rule": ["ENOMEM"],
    "landlock_create_ruleset": ["ENOSYS", "EOPNOTSUPP", "EMFILE"],
    "landlock_restrict_self": ["E2BIG"],
    "linkat": ["EIO", "ENOSPC"],
    "mkdir": ["ENOSPC", "EACCES"],
    "mkdirat": ["ENOSPC", "EACCES"],
    "mknodat": ["EPERM", "ENOSPC"],
    "mmap": ["ENOMEM"],
    "mprotect": ["ENOMEM"],
    "mremap": ["ENOMEM"],
    "munmap": ["ENOMEM"],
    "newfstatat": LOOKUP,
    "open": ["EIO", "EMFILE", "EACCES"],
    "openat": ["EIO", "EMFILE", "EACCES", "ENOSPC", "EINTR"],
    "pipe2": ["EMFILE"],
    "poll": ["EINTR", "ENOMEM"],
    "ppoll": ["EINTR", "ENOMEM"],
    "prctl": ["EINVAL"],
    "pread64": DISK_READ,
    "prlimit64": ["EPERM"],
    "pwrite64": DISK_WRITE,
    "pwritev": DISK_WRITE,
    "read": DISK_READ,
    "readlink": LOOKUP,
    "readlinkat": LOOKUP,
    "recvfrom": ["ECONNRESET", "EINTR", "EAGAIN", "ENOMEM"],
    "recvmsg": ["ECONNRESET", "EINTR", "ENOMEM"],
    "renameat": ["EIO", "ENOSPC"],
    "renameat2": ["EIO", "ENOSPC"],
    "rt_sigaction": ["EINVAL"],
    "seccomp": ["EINVAL", "ENOMEM"],
    "sendmmsg": ["ENOBUFS", "EINTR"],
    "sendmsg": ["EPIPE", "EINTR", "ENOBUFS"],
    "sendto": ["EPIPE", "EINTR", "EAGAIN", "ENOBUFS"],
    "setsockopt": ["ENOBUFS"],
    "shutdown": ["ENOTCONN"],
    "sigaltstack": ["ENOMEM"],
    "socket": ["EMFILE", "ENOBUFS"],
    "socketpair": ["EMFILE"],
    "statfs": LOOKUP,
    "statx": LOOKUP,
    "sysinfo": ["EFAULT"],
    "unlinkat": ["EIO", "EACCES"],
    "utimensat": ["EIO", "EACCES"],
    "write": DISK_WRITE,
    "writev": DISK_WRITE,
}
# Calls that always succeed, or fail only if the program gives them what is none of its own. close(2) is among them: on Linux it
# closes whatever it returns, and one that strace has fail does not.
CANNOT_FAIL = set("""
    arch_prctl clock_gettime close clock_nanosleep exit exit_group futex_waitv getegid geteuid getgid getpgid getpgrp getpid
    getppid getresgid getresuid getrusage gettid getuid gettimeofday lseek madvise restart_syscall rseq
    rt_sigprocmask rt_sigreturn rt_sigtimedwait sched_getaffinity sched_yield set_robust_list set_tid_address
    time times uname umask getgroups tgkill
""".split())
# Where Rust's allocator learns that there is no memory, the process aborts, as with a signal that cannot be caught.
MEMORY = {"brk", "mmap", "mremap", "munmap", "mprotect"}
# The tools' first call of their own, after the loader's and the runtime's: src/cli/process.rs.
BEGIN = re.compile(r"prlimit64\(0, RLIMIT_CORE")

LINE = re.compile(r"^(\d+) +(\w+)\((.*)$")


@dataclass(frozen=True)
class Call:
    """The `when`-th call of this name in its thread, and what it was about."""

    name: str
    when: int
    about: str


def read(trace):
    """The calls in a file that strace wrote, after the first of the product's own, in order."""
    counts, calls, before, begun = Counter(), [], None, False
    for line in trace.read_text(errors="replace").splitlines():
        match = LINE.match(line)
        if not match:
            continue
        thread, name, rest = match.groups()
        counts[thread, name] += 1
        if BEGIN.search(line):
            begun = True
            before = before or {called: count for (_, called), count in counts.items()}
        # strace counts in each thread anew: what the thread for name lookups does first would be the loader's call, too.
        if begun and counts[thread, name] > before.get(name, 0):
            calls.append(Call(name, counts[thread, name], about(rest)))
        # The same program again, and its loader again.
        begun = begun and name != "execve"
    assert before is not None, f"{trace}: the tool's first call is not there"
    return calls


# What an argument names: a descriptor's file, as `-y` shows it, or a path. Data that is read or written is neither.
NAMED = re.compile(r'<([^<>]*)>|"((?:/|[\w.-]+(?="[,)]))[^"]*)"')
# Flags that tell one use of a call from another.
FLAGS = re.compile(r"\b(?:O_CREAT|O_DIRECTORY|(?:F|SO|TCP|RLIMIT|PR|SIG|FUTEX|LOCK)_?[A-Z_]+)\b")


def about(rest):
    """What a call's arguments name, without what differs from run to run, and its flags."""
    arguments = rest.split(") = ")[0].split(" <unfinished")[0]
    things = []
    for descriptor, path in NAMED.findall(arguments)[:3]:
        thing = descriptor or path
        thing = "socket" if thing.startswith(("TCP", "socket", "UNIX", "UDP")) else thing.rsplit("/", 1)[-1]
        things.append(re.sub(r"[0-9a-f]{8,}|\d+", "#", thing))
    return " ".join(things + FLAGS.findall(rest))


def failures(call):
    """The errors that this call is made to fail with."""
    if call.name in CANNOT_FAIL:
        return []
    if call.name not in FAILS:
        raise SystemExit(f"tests/faults: no line for {call.name} ({call.about}) in tests/fault_injection/calls.py")
    if call.name == "fcntl" and "F_DUPFD" not in call.about:
        return []
    # To wake fails only for what is no futex.
    if call.name == "futex" and "FUTEX_WAIT" not in call.about:
        return []
    return FAILS[call.name]


def injected(trace):
    """How often strace had a call fail, or killed at one."""
    text = trace.read_text(errors="replace")
    return text.count("(INJECTED)") + text.count("+++ killed by SIGKILL +++")
