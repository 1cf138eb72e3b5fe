# SPDX-License-Identifier: Apache-2.0
"""Tries to make everything writable that is mounted read-only, here and as root of a user namespace of its own.

Runs inside, as root. Prints as JSON which read-only mounts there were, and which of them were written to after all.
"""

import ctypes
import json
import os
import stat

_REMOUNT, _BIND, _NEW_USER, _NEW_MOUNTS = 32, 4096, 0x10000000, 0x00020000
libc = ctypes.CDLL(None, use_errno=True)


def read_only() -> list[str]:
    """What is masked by /dev/null is left out: a device takes what is written on any mount, and forgets it."""
    with open("/proc/self/mountinfo") as file:
        fields = [line.split(" ") for line in file]
    found = {line[4] for line in fields if "ro" in line[5].split(",")} | {"/run/atoll/agent"}
    return sorted(target for target in found if not stat.S_ISCHR(os.stat(target).st_mode))


def remount(targets: list[str]) -> None:
    for target in targets:
        for flags in (_REMOUNT, _REMOUNT | _BIND):
            libc.mount(None, target.encode(), None, flags, None)


def write(target: str) -> bool:
    path = f"{target}/made" if os.path.isdir(target) else target
    try:
        os.close(os.open(path, os.O_WRONLY | (os.O_CREAT if os.path.isdir(target) else 0)))
    except OSError:
        return False
    return True


def attempt(targets: list[str], flags: int) -> list[str]:
    """In a process of its own, whose namespaces end with it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        libc.unshare(flags)
        remount(targets)
        os.write(writer, json.dumps([target for target in targets if write(target)]).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with open(reader) as file:
        written: list[str] = json.load(file)
    return written


found = read_only()
print(
    json.dumps(
        {
            "read-only": found,
            "written": attempt(found, 0),
            "written in a namespace": attempt(found, _NEW_USER | _NEW_MOUNTS),
        }
    )
)
