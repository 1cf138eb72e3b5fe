# SPDX-License-Identifier: Apache-2.0
"""What a process of a sandbox is and can see. Runs inside; prints JSON."""

import ctypes
import json
import os
import resource
import stat
from collections.abc import Iterator

_PR_GET_SECCOMP, _PR_GET_NO_NEW_PRIVS = 21, 39
# Open before this program opened anything: the interpreter itself keeps nothing open.
open_files = sorted(int(name) for name in os.listdir("/proc/self/fd"))


def mounts() -> Iterator[tuple[str, str]]:
    with open("/proc/self/mountinfo") as file:
        for line in file:
            before, _, after = line.rstrip("\n").partition(" - ")
            target, flags = before.split(" ")[4:6]
            kept = [f for f in flags.split(",") if f in ("ro", "rw", "nosuid", "nodev", "noexec")]
            yield target, f"{after.split(' ')[0]} {' '.join(kept)}"


def devices() -> Iterator[tuple[str, str]]:
    for directory, _, names in os.walk("/dev"):
        for name in names:
            path = os.path.join(directory, name)
            found = os.lstat(path)
            if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
                kind = "c" if stat.S_ISCHR(found.st_mode) else "b"
                number = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
                yield path, f"{kind} {number} {stat.S_IMODE(found.st_mode):04o}"


def writable(root: str) -> Iterator[str]:
    """Files that can be opened for writing; those of processes are left out, being those processes' own."""
    for directory, names, files in os.walk(root):
        if directory == "/proc":
            names[:] = [n for n in names if not n.isdigit() and n not in ("self", "thread-self")]
        for name in files:
            path = os.path.join(directory, name)
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW))
            except OSError:
                continue
            yield path


def capabilities() -> Iterator[tuple[str, str]]:
    with open("/proc/self/status") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name.startswith("Cap"):
                yield name, value.strip().lstrip("0") or "0"


prctl = ctypes.CDLL(None).prctl
limits = {
    name: list(resource.getrlimit(getattr(resource, name)))
    for name in dir(resource)
    if name.startswith("RLIMIT_") and name not in ("RLIMIT_OFILE",)
}
print(
    json.dumps(
        {
            "ids": [*os.getresuid(), *os.getresgid()],
            "groups": os.getgroups(),
            "capabilities": dict(capabilities()),
            "no new privileges": prctl(_PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
            "seccomp": prctl(_PR_GET_SECCOMP, 0, 0, 0, 0),
            "namespaces": {
                name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")
            },
            "mounts": dict(mounts()),
            # The last one is the directory that was being read.
            "open files": open_files[:-1],
            "devices": dict(devices()),
            "writable": sorted([*writable("/proc"), *writable("/sys")]),
            "limits": limits,
            "umask": os.umask(0o22),
            "session": os.getsid(0) == os.getpid(),
            "parent": os.getppid(),
        }
    )
)
