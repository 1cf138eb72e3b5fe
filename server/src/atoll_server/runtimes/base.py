# SPDX-License-Identifier: Apache-2.0
"""What the engine asks of a runtime, and the records that pass between them."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from atoll_server.engine.model import Limits, RuntimeKind, SandboxId
from atoll_server.runtimes.cgroups import Group
from atoll_server.runtimes.idmap import IdRange

SOCKET_NAME = "agent.sock"


class RuntimeFailed(Exception):
    """A sandbox could not be started. The text is for an operator's log, not for clients."""


@dataclass(frozen=True)
class Tree:
    """Host directories that appear as one at `target` inside, below a writable layer of the sandbox's own.

    They are only read. Of two `layers` that have the same name, the first wins; it gives the root its owner and mode.
    """

    layers: tuple[Path, ...]
    target: str


@dataclass(frozen=True)
class RootFilesystem:
    """What a sandbox's root is made of. The first tree is `/`; the others lie below it, parents first."""

    trees: tuple[Tree, ...]


@dataclass(frozen=True)
class Capabilities:
    """How a runtime differs from others; asked instead of its type.

    `user_namespace`: it needs an id range. `isolation`: what a sandbox reports, in words.
    `memory_overhead_mb`: what the runtime itself may use on top of the sandbox's memory limit.
    `pids_overhead`: the same for threads.
    `kills_for_memory`: whether a process that takes too much is killed by itself; where not, the
    whole sandbox would be, unless the engine sees to it in time. `is_restless`: it takes processor time also while
    nothing inside does. `joins_network`: it takes a network namespace that was made for it; otherwise it makes one,
    which is given its link when it runs.
    """

    isolation: str
    user_namespace: bool
    memory_overhead_mb: int
    kills_for_memory: bool = True
    pids_overhead: int = 0
    is_restless: bool = False
    joins_network: bool = False


@dataclass(frozen=True)
class Launch:
    """All that a runtime needs to start one sandbox. Everything named here exists already.

    `control` is the directory in which the agent makes its socket; `ids` is None where no id range is needed;
    `open_files` is the limit of one process, which may not exceed the server's own; `may_linger` is whether sockets
    that take long to close can do no harm outside; `network` is the network namespace that it joins, open as soon as
    there is one; without, it makes one that has loopback alone.
    """

    sandbox_id: SandboxId
    limits: Limits
    root: RootFilesystem
    disk: Path
    control: Path
    group: Group
    ids: IdRange | None
    user_namespace: int | None
    open_files: int
    may_linger: bool
    network: Future[BinaryIO] | None = None


@dataclass(frozen=True)
class Staged:
    """A root file system put together: the root, the directory of the agent's socket, and the bundle they lie in."""

    bundle: Path
    root: Path
    control: Path

    @property
    def pid_file(self) -> Path:
        return self.bundle / "pid"


class Runtime(Protocol):
    """One way to isolate. Every method blocks and is called from a worker thread."""

    kind: RuntimeKind
    capabilities: Capabilities

    def start(self, launch: Launch) -> int:
        """Start a sandbox and return the host pid of its first process, once the agent listens.

        Called by the lifecycle, on a thread made for this call alone (it may change that thread's namespaces).
        Afterwards every process of the sandbox is in `launch.group`. `RuntimeFailed` leaves nothing but processes in
        the group, which the caller kills.
        """
        ...

    def forget(self, sandbox_id: SandboxId) -> None:
        """Remove the runtime's own notes of a sandbox whose processes are gone. Repeating it is harmless."""
        ...
