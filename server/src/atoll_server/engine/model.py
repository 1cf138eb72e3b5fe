# SPDX-License-Identifier: Apache-2.0
"""The engine's records. Values in here are valid by type: they were parsed at the border. Durations are seconds."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NewType

from atoll_server.network.policy import NO_NETWORK, Policy
from atoll_server.network.secrets import Secret

SandboxId = NewType("SandboxId", str)
ProcessId = NewType("ProcessId", str)
WatchId = NewType("WatchId", str)


class State(enum.Enum):
    CREATING = "creating"
    RUNNING = "running"
    PAUSED = "paused"
    FAILED = "failed"
    TERMINATED = "terminated"


class Cause(enum.Enum):
    """Why a sandbox ended."""

    USER = "user"
    TIMEOUT = "timeout"
    ERROR = "error"
    SHUTDOWN = "shutdown"
    LOST = "lost"


class RuntimeKind(enum.Enum):
    GVISOR = "gvisor"
    CONTAINER = "container"


PIDS = 4096
OPEN_FILES = 65_536


@dataclass(frozen=True)
class Limits:
    """Hard limits. Memory and disk are MiB; `pids` counts processes and threads, `open_files` those of one process."""

    cpu: float
    memory_mb: int
    disk_mb: int
    pids: int = PIDS
    open_files: int = OPEN_FILES


@dataclass(frozen=True)
class SandboxSpec:
    """What a sandbox should be. `runtime` None leaves the choice to the engine.

    `exposable`: the ports that may be exposed, None for all that ever may.
    """

    image: str
    limits: Limits
    env: Mapping[str, str]
    workdir: str
    lifetime: float
    idle_timeout: float
    metadata: Mapping[str, str]
    runtime: RuntimeKind | None = None
    network: Policy = NO_NETWORK
    secrets: tuple[Secret, ...] = ()
    exposable: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Sandbox:
    """What a sandbox is, at one moment."""

    id: SandboxId
    state: State
    spec: SandboxSpec
    runtime: RuntimeKind
    isolation: str
    created_at: datetime
    started_at: datetime | None = None
    paused_at: datetime | None = None
    terminated_at: datetime | None = None
    cause: Cause | None = None
    detail: str | None = None


@dataclass(frozen=True)
class Usage:
    """What a sandbox uses of its host, as the host counts: its runtime's own use is part of it.

    Sizes are bytes, durations seconds. Memory includes caches, except `memory_held`; `processes` includes threads.
    """

    cpu: float
    cpu_throttled: float
    cpu_limit: float
    memory: int
    memory_held: int
    memory_peak: int | None
    memory_limit: int
    processes: int
    processes_limit: int
    disk: int
    disk_limit: int
    oom_kills: int
    uptime: float


@dataclass(frozen=True)
class SandboxFilter:
    """All given conditions must hold."""

    state: State | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    limit: int = 20
    offset: int = 0


@dataclass(frozen=True)
class Page:
    """Newest first. `total` counts all that match."""

    items: tuple[Sandbox, ...]
    total: int


@dataclass(frozen=True)
class Command:
    """A command to run. `line` is text for a shell or an argument vector. Paths and values may be any bytes but NUL."""

    line: str | tuple[str, ...]
    cwd: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stdin: bytes | None = None
    timeout: float | None = 60.0


@dataclass(frozen=True)
class TerminalSize:
    rows: int
    cols: int


@dataclass(frozen=True)
class StartOptions:
    """What a command has besides, when nobody waits for it."""

    stdin_open: bool = False
    tag: str | None = None
    terminal: TerminalSize | None = None
    idle_timeout: float | None = None


@dataclass(frozen=True)
class Output:
    """A piece of a command's output. `stream` is 1 for stdout, 2 for stderr; `offset` counts bytes of that stream."""

    stream: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Exit:
    """How a command ended. Exactly one of `code` and `signal` is set: what `wait` said."""

    code: int | None
    signal: int | None
    timed_out: bool
    oom_killed: bool
    duration: float
    stdout_bytes: int
    stderr_bytes: int


@dataclass(frozen=True)
class Completed:
    """A command's end with its output, the last `limit` bytes of each stream."""

    stdout: bytes
    stderr: bytes
    exit: Exit
    truncated: bool


class ProcessStatus(enum.Enum):
    """`QUEUED` and `FAILED` are words of other products: no process of ours is ever so."""

    QUEUED = "queued"
    RUNNING = "running"
    EXITED = "exited"
    KILLED = "killed"
    TIMED_OUT = "timed_out"
    FAILED = "failed"


@dataclass(frozen=True)
class ProcessRecord:
    """A process as its agent keeps it. `note` is ours: what the agent was given and never looks into."""

    number: int
    pid: int
    tag: str | None
    note: bytes | None
    started_ns: int
    ended_ns: int | None
    code: int | None
    signal: int | None
    timed_out: bool
    first_position: int
    position: int
    stdout_bytes: int
    stderr_bytes: int
    is_stdin_open: bool
    terminal: TerminalSize | None

    @property
    def status(self) -> ProcessStatus:
        if self.code is None and self.signal is None:
            return ProcessStatus.RUNNING
        if self.timed_out:
            return ProcessStatus.TIMED_OUT
        return ProcessStatus.EXITED if self.signal is None else ProcessStatus.KILLED

    @property
    def has_ended(self) -> bool:
        return self.status is not ProcessStatus.RUNNING


@dataclass(frozen=True)
class Process:
    """A process as a client knows it: the agent's record, and what was asked for."""

    id: ProcessId
    record: ProcessRecord
    command: str | tuple[str, ...]
    cwd: str
    user: str | None

    @property
    def status(self) -> ProcessStatus:
        return self.record.status

    @property
    def has_ended(self) -> bool:
        return self.record.has_ended


@dataclass(frozen=True)
class ProcessFilter:
    """All given conditions must hold; no statuses are all of them. `cursor` is the last of the page before."""

    statuses: frozenset[ProcessStatus] = frozenset()
    tag: str | None = None
    pid: int | None = None
    limit: int = 100
    cursor: ProcessId | None = None


@dataclass(frozen=True)
class ProcessPage:
    """Newest first. `next` begins the page after it."""

    items: tuple[Process, ...]
    next: ProcessId | None


@dataclass(frozen=True)
class Waited:
    """A process that has ended, and the newest of its output."""

    process: Process
    completed: Completed


class FileKind(enum.Enum):
    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    OTHER = "other"


@dataclass(frozen=True)
class Entry:
    """One directory entry, as the agent reported it. Names are bytes: a sandbox may hold any."""

    name: bytes
    path: bytes
    kind: FileKind
    size: int
    mode: int
    uid: int
    gid: int
    user: bytes | None
    group: bytes | None
    modified_ns: int
    target: bytes | None


@dataclass(frozen=True)
class Listing:
    entries: tuple[Entry, ...]
    truncated: bool


@dataclass(frozen=True)
class Written:
    path: bytes
    size: int
    created: bool


@dataclass(frozen=True)
class NewFile:
    """A file to be written, as one of many."""

    path: bytes
    data: bytes
    mode: int | None = None


@dataclass(frozen=True)
class FileRead:
    """A file that was read whole, as one of many."""

    entry: Entry
    data: bytes


class WatchEnd(enum.Enum):
    """Why a watch tells no more. `FAILED`: the sandbox's kernel would not go on with it."""

    STOPPED = "stopped"
    REMOVED = "removed"
    FAILED = "failed"


@dataclass(frozen=True)
class WatchRecord:
    """A watched directory, as the agent reported it. Changes `first` to `last` are kept; there are none if `last` is
    below `first`.
    """

    number: int
    path: bytes
    recursive: bool
    started_ns: int
    first: int
    last: int
    ended: WatchEnd | None


@dataclass(frozen=True)
class Watch:
    """A watch as a client knows it: the agent's record, and the id that it goes by."""

    id: WatchId
    record: WatchRecord


@dataclass(frozen=True)
class ChangesEnd:
    """The end of a stream of changes: the number of the last one, and why its watch tells no more, if that is why."""

    last: int
    ended: WatchEnd | None


class ChangeKind(enum.Enum):
    """`OVERFLOW` stands for changes that cannot be told; what has changed is found by listing."""

    CREATED = "created"
    MODIFIED = "modified"
    REMOVED = "removed"
    RENAMED = "renamed"
    ATTRIBUTES = "attributes"
    OVERFLOW = "overflow"


@dataclass(frozen=True)
class FileChange:
    """One change beneath a watched directory. `path` is None where an overflow is not about one directory alone;
    `from_path` is the old path of what was renamed. Numbers of one watch go up.
    """

    number: int
    kind: ChangeKind
    path: bytes | None
    from_path: bytes | None
    is_directory: bool
    at_ns: int


@dataclass(frozen=True)
class ListeningPort:
    """A TCP port on which something listens inside. Whose it is is None where that cannot be seen."""

    port: int
    address: str
    pid: int | None
    command: bytes | None


@dataclass(frozen=True)
class ExposedPort:
    """A port that the outside reaches as `{port}-{label}`. Whoever knows the label of a public one may use it; a
    private one wants a token besides.
    """

    sandbox_id: SandboxId
    port: int
    label: str
    is_private: bool
    created_at: datetime

    @property
    def name(self) -> str:
        """What the outside calls it."""
        return f"{self.port}-{self.label}"
