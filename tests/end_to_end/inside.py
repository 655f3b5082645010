#!/usr/bin/env python3
"""Makes system calls inside a running process, as somebody who had taken it over would: inside.py PID SECRET OWN PORT

Prints a line for each attempt: its name, and the error or `ok`. SECRET is a file that the process has no need of, OWN one of
its own directory, PORT a TCP port that it has no need of. Needs root, for ptrace(2), and x86-64; the process then continues
where it was.
"""

import ctypes
import errno
import os
import re
import socket
import struct
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.restype = ctypes.c_long
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
STEP, GET, SET, ATTACH, DETACH = 9, 12, 13, 16, 17
REGISTERS = "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs gs ds es f g".split()
ALL = 2**64 - 1


def ptrace(request, pid, data=None):
    if LIBC.ptrace(request, pid, None, data) < 0:
        sys.exit(f"ptrace: {os.strerror(ctypes.get_errno())}")


class Inside:
    """A stopped process; at the end it continues where it was."""

    def __init__(self, pid):
        self.pid = pid
        ptrace(ATTACH, pid)
        os.waitpid(pid, 0)
        self.before = self.registers()
        self.memory = open(f"/proc/{pid}/mem", "r+b", buffering=0)
        self.instruction = self.find_instruction()
        # Below what the compiler may use without moving the pointer.
        self.free = (self.before["rsp"] - 8192) & ~15

    def registers(self):
        room = ctypes.create_string_buffer(8 * len(REGISTERS))
        ptrace(GET, self.pid, room)
        return dict(zip(REGISTERS, struct.unpack(f"{len(REGISTERS)}Q", room.raw)))

    def set_registers(self, values):
        ptrace(SET, self.pid, struct.pack(f"{len(REGISTERS)}Q", *(values[name] & ALL for name in REGISTERS)))

    def find_instruction(self):
        """Where the C library has a `syscall`."""
        for line in open(f"/proc/{self.pid}/maps"):
            found = re.match(r"(\w+)-(\w+) r-xp .*/(libc|ld-)", line)
            if found:
                start, end = (int(part, 16) for part in found.group(1, 2))
                self.memory.seek(start)
                at = self.memory.read(end - start).find(b"\x0f\x05")
                if at >= 0:
                    return start + at
        sys.exit("no system call in the C library")

    def call(self, number, *args):
        """The result of a system call, or minus its error; bytes are passed by their address."""
        at, values = self.free, []
        for arg in args:
            if isinstance(arg, bytes):
                self.memory.seek(at)
                self.memory.write(arg)
                arg, at = at, at + (len(arg) + 15 & ~15)
            values.append(arg)
        values += [0] * (6 - len(values))
        registers = dict(self.before, rax=number, rip=self.instruction, orig_rax=ALL)
        registers.update(zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), values))
        self.set_registers(registers)
        ptrace(STEP, self.pid)
        _, status = os.waitpid(self.pid, 0)
        if not os.WIFSTOPPED(status):
            sys.exit(f"the process ended in system call {number}")
        return struct.unpack("q", struct.pack("Q", self.registers()["rax"]))[0]

    def read(self, length):
        """What the last call wrote to where its first bytes were."""
        self.memory.seek(self.free)
        return self.memory.read(length)

    def leave(self):
        self.set_registers(self.before)
        ptrace(DETACH, self.pid)


def main(pid, secret, own, port):
    inside = Inside(int(pid))

    def tell(name, result):
        print(name, "ok" if result >= 0 else errno.errorcode[-result], flush=True)
        return result

    def path(text):
        return text.encode() + b"\0"

    here = -100
    write = os.O_WRONLY | os.O_CREAT
    address = struct.pack("=H", socket.AF_INET) + struct.pack(">H", int(port)) + socket.inet_aton("127.0.0.1") + bytes(8)
    try:
        fd = tell("read-own", inside.call(257, here, path(own), os.O_RDONLY))
        inside.call(3, fd)
        tell("read-other", inside.call(257, here, path(secret), os.O_RDONLY))
        tell("read-older", inside.call(2, path(secret), os.O_RDONLY))
        tell("read-process", inside.call(257, here, path("/proc/1/environ"), os.O_RDONLY))
        tell("write-other", inside.call(257, here, path(secret + ".new"), write, 0o600))
        # Where the runtime directory, the spool and that of the keys are.
        beside = os.path.join(os.path.dirname(os.path.dirname(own)), "beside")
        tell("write-beside", inside.call(257, here, path(beside), write, 0o600))
        tell("make-beside", inside.call(258, here, path(beside), 0o700))
        tell("write-system", inside.call(257, here, path("/etc/sts-sandbox-test"), write, 0o600))
        # Also in a directory where it may write, a file is for its owner, and not made to be executed as them.
        flags = inside.call(72, 0, 3, 0)
        tell("set-id-file", inside.call(257, here, path(beside), write, 0o4700))
        tell("set-id-file-older", inside.call(2, path(beside), write, 0o2700))
        tell("set-id-file-newer", inside.call(437, here, path(beside), struct.pack("QQQ", write, 0o4700, 0), 24))
        tell("change-mode", inside.call(91, 0, 0o4777))
        tell("signal-by-input", inside.call(72, 0, 8, os.getpid()))
        tell("signal-by-flag", inside.call(72, 0, 4, flags | 0x2000))
        tell("set-flags", inside.call(72, 0, 4, flags))
        tell("execute", inside.call(59, path("/bin/true"), 0, 0))
        tell("execute-fd", inside.call(322, here, path("/bin/true"), 0, 0, 0))
        tell("fork", inside.call(56, 17, 0, 0, 0, 0))
        fd = tell("socket", inside.call(41, socket.AF_INET, socket.SOCK_STREAM, 0))
        tell("connect", inside.call(42, fd, address, len(address)))
        tell("fast-open", inside.call(44, fd, path("x"), 1, 0x20000000, address, len(address)))
        tell("listen", inside.call(50, fd, 1))
        tell("mark", inside.call(54, fd, socket.SOL_SOCKET, 36, struct.pack("=I", 1), 4))
        inside.call(3, fd)
        # RTM_NEWADDR: 127.9.9.9/8 for the first interface, which is the loopback device.
        netlink = inside.call(41, socket.AF_NETLINK, socket.SOCK_RAW, 0)
        body = struct.pack("=BBBBI", socket.AF_INET, 8, 0, 254, 1) + struct.pack("=HH", 8, 2) + bytes([127, 9, 9, 9])
        asked = struct.pack("=IHHII", 16 + len(body), 20, 0x605, 1, 0) + body
        inside.call(44, netlink, asked, len(asked), 0, 0, 0)
        inside.call(45, netlink, bytes(64), 64, 0, 0, 0)
        tell("add-address", netlink if netlink < 0 else struct.unpack("=i", inside.read(64)[16:20])[0])
        inside.call(3, netlink)
        inside.call(3, tell("unix-socket", inside.call(41, socket.AF_UNIX, socket.SOCK_STREAM, 0)))
        tell("multipath", inside.call(41, socket.AF_INET, socket.SOCK_STREAM, 262))
        tell("raw", inside.call(41, socket.AF_INET, socket.SOCK_RAW, 1))
        tell("packet", inside.call(41, 17, socket.SOCK_DGRAM, 0))
        tell("trace", inside.call(101, 16, 1, 0, 0))
        tell("memory-of-another", inside.call(310, 1, 0, 0, 0, 0, 0))
        tell("signal-another", inside.call(62, os.getpid(), 0))
        tell("type-on-terminal", inside.call(16, 0, 0x5412, path("x")))
        tell("raise-core-limit", inside.call(302, 0, 4, struct.pack("QQ", ALL, ALL), 0))
        tell("dumpable", inside.call(157, 4, 1, 0, 0, 0))
        tell("unshare", inside.call(272, 0x10000000))
        tell("io-uring", inside.call(425, 1, bytes(128)))
    finally:
        inside.leave()


if __name__ == "__main__":
    main(*sys.argv[1:])
