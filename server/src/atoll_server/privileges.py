# SPDX-License-Identifier: Apache-2.0
"""Which of root's rights the server keeps, each with its reason, and how it lets go of the others as it starts.

Found by taking away one after the other: what stands in the list is missed by a sandbox of some kind, or by a setting.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Sequence
from dataclasses import dataclass

from atoll_server import credentials

UMASK = 0o077
ADVICE = "give it what it lacks: in a unit of systemd with CapabilityBoundingSet, in a container with --cap-add"


@dataclass(frozen=True)
class Capability:
    """One that is kept. `needed`: without it no sandbox of some runtime starts, or it does not work as it should."""

    name: str
    number: int
    why: str
    needed: bool = True


KEPT: Sequence[Capability] = (
    Capability("CAP_CHOWN", 0, "giving a sandbox's files to the ids of its users"),
    Capability("CAP_DAC_OVERRIDE", 1, "writing below directories that belong to a sandbox"),
    Capability("CAP_FOWNER", 3, "setting modes of files that belong to a sandbox"),
    Capability("CAP_FSETID", 4, "keeping setgid bits on files of a sandbox's groups"),
    Capability("CAP_KILL", 5, "ending processes of a sandbox, which are other users"),
    Capability("CAP_SETGID", 6, "becoming the group that owns a sandbox's user namespace"),
    Capability("CAP_SETUID", 7, "becoming the user that owns a sandbox's user namespace"),
    Capability("CAP_NET_BIND_SERVICE", 10, "listening on a port below 1024", needed=False),
    Capability("CAP_NET_ADMIN", 12, "setting up sandboxes' network namespaces", needed=False),
    Capability(
        "CAP_NET_RAW", 13, "the socket by which gVisor takes its network over", needed=False
    ),
    Capability(
        "CAP_SYS_CHROOT", 18, "entering a container's mounts, as runc does to map their owners"
    ),
    Capability("CAP_SYS_PTRACE", 19, "opening the user namespace of an id range"),
    Capability("CAP_SYS_ADMIN", 21, "mounts, loop devices, namespaces, overlays' own attributes"),
    Capability("CAP_SETFCAP", 31, "mapping root into gVisor's user namespace"),
)
_KEPT_MASK = sum(1 << one.number for one in KEPT)
_TO_DROP = Capability("CAP_SETPCAP", 8, "dropping what it does not need")


def held() -> int:
    """A mask of the capabilities that this process has and may pass on to what it starts."""
    return credentials.permitted() & credentials.bounding()


def find_missing(held: int) -> tuple[Capability, ...]:
    """Those that are needed and not among the capabilities of the mask `held`."""
    needed = [one for one in KEPT if one.needed]
    if held & ~_KEPT_MASK:
        needed.append(_TO_DROP)
    return tuple(one for one in needed if not held >> one.number & 1)


def is_single_threaded() -> bool:
    """Whether what this thread lets go of is gone from the whole process: capabilities are each thread's own."""
    return len(os.listdir("/proc/self/task")) == 1


def can_make_networks(held: int) -> bool:
    """Whether the capabilities of the mask `held` are enough for sandboxes with a network."""
    return all(
        held >> one.number & 1 for one in KEPT if one.name in ("CAP_NET_ADMIN", "CAP_NET_RAW")
    )


def let_go() -> None:
    """Drop every capability but those kept, and all else that a server does not need. Not to be undone."""
    assert is_single_threaded(), "a thread was started before the server let go"
    _close_inherited()
    os.umask(UMASK)
    # The hard limit stays: sandboxes inherit it, and whoever debugs inside may want a core on the sandbox's own disk.
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    credentials.forbid_dumps()
    credentials.restrict(_KEPT_MASK)
    credentials.forbid_new_privileges()


def _close_inherited() -> None:
    """Close what whoever started us left open, but for the three standard streams."""
    for name in os.listdir("/proc/self/fd"):
        # The listing names its own descriptor, which is closed by now.
        if int(name) > 2:
            with contextlib.suppress(OSError):
                os.close(int(name))
