# SPDX-License-Identifier: Apache-2.0
"""Commands and processes: what is to run, what runs, and how it ended."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NewType

ProcessId = NewType("ProcessId", str)


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
