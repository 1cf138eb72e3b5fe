# SPDX-License-Identifier: Apache-2.0
"""Ranges of host ids, one for each `container` sandbox, and the user namespaces that carry them.

A range is 65,536 ids wide: root inside is its first id outside, nobody on the host. The descriptor of a range's user
namespace is what an id-mapped mount asks for; it is made once and kept while the server runs.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

from atoll_server import host

RANGE_SIZE = 65_536
FIRST_ID = 100_000
RANGES = 16_384

# Also where the host lets nobody but root make user namespaces.
_MAY_UNSHARE = ("--inh-caps=-all,+sys_admin", "--ambient-caps=-all,+sys_admin")
_HOLD_NAMESPACE = ("unshare", "--user", "sh", "-c", "echo ready; read line")


class NoRangeLeft(Exception):
    """Every id range is in use."""


@dataclass(frozen=True)
class IdRange:
    """The host ids `first … first + size - 1`, standing for 0 … size - 1 inside."""

    first: int
    size: int = RANGE_SIZE


class IdRanges:
    """Hands out ranges, lowest first, so that few are ever used and their namespaces are reused."""

    def __init__(self, first: int = FIRST_ID, count: int = RANGES) -> None:
        self._first = first
        self._free = list(range(count - 1, -1, -1))
        self._taken: set[int] = set()
        self._namespaces: dict[int, int] = {}
        self._lock = threading.Lock()

    def take(self) -> IdRange:
        """A range that no sandbox has; `NoRangeLeft` when there is none."""
        with self._lock:
            while self._free:
                index = self._free.pop()
                if index not in self._taken:
                    self._taken.add(index)
                    return IdRange(self._first + index * RANGE_SIZE)
        raise NoRangeLeft(f"all {len(self._taken)} id ranges are in use")

    def claim(self, first: int) -> IdRange:
        """Mark the range of a sandbox that survived a restart as taken."""
        with self._lock:
            self._taken.add((first - self._first) // RANGE_SIZE)
        return IdRange(first)

    def give_back(self, given: IdRange) -> None:
        """Return a range whose sandbox is gone. Repeating it is harmless."""
        index = (given.first - self._first) // RANGE_SIZE
        with self._lock:
            if index in self._taken:
                self._taken.remove(index)
                self._free.append(index)

    def namespace(self, given: IdRange) -> int:
        """A descriptor of a user namespace with this range's map. It stays open; do not close it."""
        with self._lock:
            if given.first not in self._namespaces:
                self._namespaces[given.first] = _make_namespace(given)
            return self._namespaces[given.first]

    def close(self) -> None:
        """Close the namespaces' descriptors; mounts made with them stay."""
        with self._lock:
            for descriptor in self._namespaces.values():
                os.close(descriptor)
            self._namespaces.clear()


def _make_namespace(given: IdRange) -> int:
    """Start a program in a new user namespace, write its map, keep the namespace and end the program.

    What the kernel counts by user namespace (inotify instances and watches, queued signals, message queues) it counts
    for the namespace's owner, too. If that were root for all of them, one sandbox could take everybody's.
    """
    owner = (f"--reuid={given.first}", f"--regid={given.first}", "--clear-groups")
    with host.held([*("setpriv", *owner, *_MAY_UNSHARE, "--"), *_HOLD_NAMESPACE]) as pid:
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{name}").write_text(
                f"0 {given.first} {given.size}", encoding="ascii"
            )
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
