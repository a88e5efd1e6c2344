"""Lockdown: what a process that will run somebody else's code takes from itself first: resource limits, and seccomp.

rlimits bound data memory, CPU time, file size, open files and processes. A seccomp filter (Linux on x86-64 and arm64) then
makes the system refuse to start programs and processes, to open sockets, to signal or trace others, to mount or to change
namespaces; none of it can be taken back. Sources: seccomp(2), linux/seccomp.h, linux/filter.h, the system call tables.
"""

from __future__ import annotations

import ctypes
import platform
import struct
import sys

MEMORY = 4 << 30  # bytes of data; torch alone takes 0.8 GB of it
CPU_SECONDS = 3600
FILE_BYTES = 64 << 20  # in the private temporary folder
PROCESSES = 1024  # threads included; root is not bound by it
FILES = 256

# System calls that are refused, by machine: names in the order of REFUSED
REFUSED = (
    "fork", "vfork", "execve", "execveat", "socket", "socketpair", "connect", "bind", "listen", "accept", "ptrace",
    "kill", "tkill", "tgkill", "mount", "umount2", "pivot_root", "unshare", "setns", "bpf", "perf_event_open",
    "process_vm_readv", "process_vm_writev", "keyctl", "add_key", "request_key", "io_uring_setup", "userfaultfd",
    "pidfd_open", "pidfd_send_signal", "setpriority", "shmget", "msgget", "semget",
)  # fmt: skip
CALLS = {
    "x86_64": (
        57, 58, 59, 322, 41, 53, 42, 49, 50, 43, 101, 62, 200, 234, 165, 166, 155, 272, 308, 321, 298,
        310, 311, 250, 248, 249, 425, 323, 434, 424, 141, 29, 68, 64,
    ),
    "aarch64": (
        -1, -1, 221, 281, 198, 199, 203, 200, 201, 202, 117, 129, 130, 131, 40, 39, 41, 97, 268, 280, 241,
        270, 271, 219, 217, 218, 425, 282, 434, 424, 140, 194, 186, 190,
    ),
}  # fmt: skip
CLONE = {"x86_64": 56, "aarch64": 220}
CLONE3 = 435
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CLONE_THREAD = 0x00010000
ALLOW, ERRNO, EPERM, ENOSYS = 0x7FFF0000, 0x00050000, 1, 38
LOAD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
X32 = 0x40000000  # calls of the other x86 convention begin here
NR, ARCH, ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
PR_SET_NO_NEW_PRIVS = 38
SECCOMP = {"x86_64": 317, "aarch64": 277}
MODE_FILTER, ALL_THREADS = 1, 1


def limit(files: bool = True) -> None:
    """Set the resource limits of this process; `files`: whether it may write any (in a private folder)."""
    import resource

    def bound(what: int, most: int) -> None:
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))

    bound(resource.RLIMIT_CPU, CPU_SECONDS)
    bound(resource.RLIMIT_FSIZE, FILE_BYTES if files else 0)
    bound(resource.RLIMIT_CORE, 0)
    bound(resource.RLIMIT_NOFILE, FILES)
    if sys.platform == "linux":
        bound(resource.RLIMIT_DATA, MEMORY)
        bound(resource.RLIMIT_NPROC, PROCESSES)


def refuse_calls() -> bool:
    """Install the seccomp filter; returns whether this system took it."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in CALLS:
        return False
    program = _program(machine)
    room = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(room))  # struct sock_fprog
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    fprog = ctypes.create_string_buffer(head, len(head))
    return bool(libc.syscall(SECCOMP[machine], MODE_FILTER, ALL_THREADS, fprog) == 0)


def _program(machine: str) -> bytes:
    """The filter's instructions, struct sock_filter each: code, jump if true, jump if false, value."""

    def one(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
        return struct.pack("HBBI", code, true, false, value)

    refuse = one(RETURN, ERRNO | EPERM)
    lines = [one(LOAD, ARCH), one(JUMP_EQUAL, AUDIT[machine], 1, 0), refuse, one(LOAD, NR)]
    lines += [one(JUMP_AT_LEAST, X32, 0, 1), refuse] if machine == "x86_64" else []
    for call in CALLS[machine]:
        if call >= 0:
            lines += [one(JUMP_EQUAL, call, 0, 1), refuse]
    lines += [one(JUMP_EQUAL, CLONE3, 0, 1), one(RETURN, ERRNO | ENOSYS)]  # the C library then uses clone
    lines += [one(JUMP_EQUAL, CLONE[machine], 0, 3), one(LOAD, ARGUMENT), one(JUMP_SET, CLONE_THREAD, 1, 0), refuse]
    return b"".join([*lines, one(RETURN, ALLOW)])
