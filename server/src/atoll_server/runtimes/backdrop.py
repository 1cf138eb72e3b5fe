# SPDX-License-Identifier: Apache-2.0
"""What of the host's mounts a runtime is started in front of: those that it needs, however many others there are.

A mount namespace begins as a copy of another, mount by mount, and ends with as much work. The host's has two mounts for
each sandbox, so that with some hundred of them copying was most of what making another one took. What is copied here
was taken out of the host's once, and stripped. It is no wall: a runtime leaves all of it before a sandbox's code runs.
"""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from atoll_server.runtimes import kernel
from atoll_server.runtimes.cgroups import MOUNT as CGROUPS

_OWN_NAMESPACE = "/proc/thread-self/ns/mnt"
_MOUNTS = "/proc/thread-self/mountinfo"
# Programs, their libraries and their settings; devices and the kernel's own file systems.
_ALWAYS = tuple(map(Path, ("/bin", "/dev", "/etc", "/lib", "/lib64", "/proc", "/sbin", "/usr")))
# crun refuses to start where it sees both versions; on a host that has both, the first is the one in use.
_SECOND_VERSION = CGROUPS / "unified"
_MOUNT_POINT = 4
_ESCAPED = re.compile(rb"\\([0-7]{3})")


class Backdrop:
    """A mount namespace without processes, made when it is first entered. It ends with this object."""

    def __init__(self, *needed: Path) -> None:
        """`needed`: what a runtime has to find, besides what every program needs."""
        self._needed = (*_ALWAYS, *(path.resolve() for path in needed))
        self._lock = threading.Lock()
        self._namespace: int | None = None

    def enter(self) -> None:
        """Move the calling thread, and the programs that it starts from now on, into a copy of its own.

        Mounts made there are nobody else's. The thread must end soon and never serve anything else.
        """
        kernel.enter_copied_mounts(self._open())

    def _open(self) -> int:
        with self._lock:
            if self._namespace is None:
                # On a thread that ends with the block: it has left the host's mounts.
                with ThreadPoolExecutor(1) as thread:
                    self._namespace = thread.submit(self._make).result()
                weakref.finalize(self, os.close, self._namespace)
            return self._namespace

    def _make(self) -> int:
        kernel.enter_private_mounts()
        points = read_mount_points(Path(_MOUNTS).read_bytes())
        for point in find_unneeded(points, self._needed):
            kernel.unmount(str(point))
        return os.open(_OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)


def read_mount_points(table: bytes) -> Sequence[Path]:
    """Where something is mounted, in the order of proc_pid_mountinfo(5)."""
    fields = (line.split(b" ") for line in table.splitlines())
    return [Path(os.fsdecode(_ESCAPED.sub(_unescape, each[_MOUNT_POINT]))) for each in fields]


def find_unneeded(points: Iterable[Path], needed: Sequence[Path]) -> Sequence[Path]:
    """Those that are not on the way to anything that is needed, and of control groups none but the version in use.

    What is mounted below another of them goes with it.
    """
    return [point for point in points if not _is_needed(point, needed)]


def _is_needed(point: Path, needed: Sequence[Path]) -> bool:
    if point == _SECOND_VERSION:
        return False
    return point.is_relative_to(CGROUPS) or any(
        path.is_relative_to(point) for path in (*needed, CGROUPS)
    )


def _unescape(escaped: re.Match[bytes]) -> bytes:
    return bytes([int(escaped[1], 8)])
