# SPDX-License-Identifier: Apache-2.0
"""What can happen to a sandbox and in it, as events tell of it. Records only, each of a bounded size.

No environment, no input and no metadata is in any of them: what is told is read by more than may see those.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from atoll_server.engine.model import Cause, Exit, Limits, ProcessId, RuntimeKind

Line = str | tuple[str, ...]


@dataclass(frozen=True)
class Happening:
    """Something that happened. `type` is its name on the wire."""

    type: ClassVar[str]

    @property
    def size(self) -> int:
        """How many bytes of text it holds, about."""
        return 0


@dataclass(frozen=True)
class SandboxCreated(Happening):
    type: ClassVar[str] = "sandbox.created"
    image: str
    runtime: RuntimeKind
    limits: Limits


@dataclass(frozen=True)
class SandboxStarted(Happening):
    type: ClassVar[str] = "sandbox.started"
    startup: float


@dataclass(frozen=True)
class SandboxError(Happening):
    """It could not be created, or it died by itself."""

    type: ClassVar[str] = "sandbox.error"
    code: str
    message: str


@dataclass(frozen=True)
class SandboxOutOfMemory(Happening):
    """All of it is gone for want of memory."""

    type: ClassVar[str] = "sandbox.oom"
    memory_mb: int


@dataclass(frozen=True)
class SandboxTerminated(Happening):
    type: ClassVar[str] = "sandbox.terminated"
    runtime: float
    cause: Cause
    detail: str | None


@dataclass(frozen=True)
class ExecEvent(Happening):
    """What all events about one command have. `process` is None where there never was one."""

    process: ProcessId | None
    command: Line
    is_command_cut: bool

    @property
    def size(self) -> int:
        line = self.command
        return len(line) if isinstance(line, str) else sum(map(len, line)) + len(line)


@dataclass(frozen=True)
class ExecStarted(ExecEvent):
    type: ClassVar[str] = "exec.started"
    cwd: str

    @property
    def size(self) -> int:
        return super().size + len(self.cwd)


@dataclass(frozen=True)
class ExecCompleted(ExecEvent):
    """`stdout` and `stderr` are the ends of both; None where nobody of us has read them."""

    type: ClassVar[str] = "exec.completed"
    exit: Exit
    stdout: bytes | None
    stderr: bytes | None
    is_output_cut: bool

    @property
    def size(self) -> int:
        return super().size + len(self.stdout or b"") + len(self.stderr or b"")


@dataclass(frozen=True)
class ExecTimedOut(ExecEvent):
    type: ClassVar[str] = "exec.timed_out"
    timeout: float | None
    exit: Exit


@dataclass(frozen=True)
class ExecFailed(ExecEvent):
    """What a command did is not known, through no fault of its own."""

    type: ClassVar[str] = "exec.failed"
    code: str
    message: str


@dataclass(frozen=True)
class ProcessOutOfMemory(ExecEvent):
    type: ClassVar[str] = "process.oom"
    memory_mb: int


@dataclass(frozen=True)
class NetworkDenied(Happening):
    """So often something was refused at the edge of its network; without a host, at several destinations."""

    type: ClassVar[str] = "network.denied"
    host: str | None
    port: int | None
    reason: str | None
    text: str
    count: int

    @property
    def size(self) -> int:
        return len(self.host or "") + len(self.reason or "") + len(self.text)


@dataclass(frozen=True)
class NetworkEgress(Happening):
    """So many connections of its have ended; without a host, to several destinations."""

    type: ClassVar[str] = "network.egress"
    host: str | None
    port: int | None
    connections: int
    bytes_sent: int
    bytes_received: int

    @property
    def size(self) -> int:
        return len(self.host or "")


class LossReason(enum.Enum):
    """`RESTART`: the server knows nothing of its earlier life. `OVERFLOW`: more happened than is kept."""

    RESTART = "restart"
    OVERFLOW = "overflow"


@dataclass(frozen=True)
class EventsLost(Happening):
    """In place of events that cannot be told. `count` is None where it is not known."""

    type: ClassVar[str] = "events.lost"
    count: int | None
    reason: LossReason


EVENT_TYPES: tuple[str, ...] = tuple(
    kind.type
    for kind in (
        SandboxCreated,
        SandboxStarted,
        SandboxOutOfMemory,
        SandboxError,
        SandboxTerminated,
        ExecStarted,
        ExecCompleted,
        ExecTimedOut,
        ExecFailed,
        ProcessOutOfMemory,
        NetworkDenied,
        NetworkEgress,
        EventsLost,
    )
)
