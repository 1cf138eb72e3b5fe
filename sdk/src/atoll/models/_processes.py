# SPDX-License-Identifier: Apache-2.0
"""Commands and processes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from ._fields import ENCODINGS, described
from ._sandboxes import MAX_LIFETIME_MS

MAX_COMMAND_TIMEOUT_MS = 300_000
MAX_TAG_LENGTH = 256
MAX_TERMINAL_SIDE = 65_535

# What a command is, whether it is waited for or goes on by itself.
_COMMAND = described(
    "text for a shell (bash where there is one), or a list that runs as is", min_items=1
)
_CWD = described("directory; the sandbox's `workdir` if absent", max_length=4096)
_ENV = described("added over the sandbox's; wins on a clash", max_items=256)
_USER = described("name or uid; root if absent", max_length=64)
_RUN_AS = described("the same as `user`", max_length=64)
_STDIN_ENCODING = described("how `stdin` is written", **ENCODINGS)
_OOM_KILLED = described("the kernel killed it for the sandbox's memory limit")


class ProcessStatus(str, Enum):
    """How a process stands. `queued` and `failed` occur only in other products' protocols."""

    QUEUED = "queued"
    RUNNING = "running"
    EXITED = "exited"
    KILLED = "killed"
    TIMED_OUT = "timed_out"
    FAILED = "failed"


@dataclass(frozen=True)
class ExecRequest:
    """The body of `POST /v1/sandboxes/{id}/execute`."""

    command: str | list[str] = field(metadata=_COMMAND)
    cwd: str | None = field(default=None, metadata=_CWD)
    env: dict[str, str] = field(default_factory=dict, metadata=_ENV)
    user: str | None = field(default=None, metadata=_USER)
    run_as: str | None = field(default=None, metadata=_RUN_AS)
    stdin: str | None = field(
        default=None, metadata=described("fed to the command, then end of file")
    )
    stdin_encoding: str = field(default="utf-8", metadata=_STDIN_ENCODING)
    timeout_ms: int = field(
        default=60_000,
        metadata=described(
            "then SIGTERM to the whole tree, SIGKILL 5 s later", ge=1, le=MAX_COMMAND_TIMEOUT_MS
        ),
    )


@dataclass(frozen=True)
class ExecResult:
    """How a command ended, and what it wrote.

    `exit_code` is None exactly when the timeout ended it; a command killed by signal *n* otherwise reports `128 + n`
    with the signal's name, e.g. 137 and `SIGKILL`. Output past the server's limit a stream (10 MiB by default) keeps
    its end and sets `truncated`. Bytes that are not UTF-8 stand as U+FFFD.
    """

    stdout: str
    stderr: str
    exit_code: int | None
    signal: str | None
    duration_ms: int
    timed_out: bool = False
    oom_killed: bool = field(default=False, metadata=_OOM_KILLED)
    truncated: bool = False

    @property
    def ok(self) -> bool:
        """True exactly when the command ended by itself with status 0."""
        return self.exit_code == 0


@dataclass(frozen=True)
class PtySize:
    """The size of a terminal, in characters. Also the body of `POST …/resize`."""

    rows: int = field(default=24, metadata=described("lines", ge=1, le=MAX_TERMINAL_SIDE))
    cols: int = field(default=80, metadata=described("columns", ge=1, le=MAX_TERMINAL_SIDE))


@dataclass(frozen=True)
class StartProcess:
    """The body of `POST /v1/sandboxes/{id}/processes`."""

    command: str | list[str] = field(metadata=_COMMAND)
    cwd: str | None = field(default=None, metadata=_CWD)
    env: dict[str, str] = field(default_factory=dict, metadata=_ENV)
    user: str | None = field(default=None, metadata=_USER)
    run_as: str | None = field(default=None, metadata=_RUN_AS)
    stdin: str | None = field(
        default=None, metadata=described("fed to it, then end of file unless `stdinOpen`")
    )
    stdin_encoding: str = field(default="utf-8", metadata=_STDIN_ENCODING)
    stdin_open: bool = field(
        default=False, metadata=described("keeps its input open, to be written to later")
    )
    tag: str | None = field(
        default=None,
        metadata=described(
            "your name for it; need not be unique", min_length=1, max_length=MAX_TAG_LENGTH
        ),
    )
    pty: PtySize | None = field(
        default=None, metadata=described("gives it a terminal of that size; its input is open")
    )
    timeout_ms: int | None = field(
        default=None,
        metadata=described(
            "then SIGTERM to the whole tree, SIGKILL 5 s later; without it it lives as long as the sandbox",
            ge=1,
            le=MAX_LIFETIME_MS,
        ),
    )
    idle_timeout_ms: int | None = field(
        default=None,
        metadata=described("the same after so long without output", ge=1, le=MAX_LIFETIME_MS),
    )


@dataclass(frozen=True, kw_only=True)
class ProcessInfo:
    """A process of a sandbox. A *position* counts the bytes of its output, stdout and stderr together."""

    id: str
    pid: int
    command: str | list[str] = field(metadata=described("as it was given"))
    cwd: str
    user: str
    tag: str | None = None
    status: ProcessStatus
    exit_code: int | None = field(
        default=None,
        metadata=described(
            "null while it runs and when a timeout ended it; 128 + n when signal n did"
        ),
    )
    signal: str | None = field(
        default=None, metadata=described("the name of the signal that ended it, e.g. `SIGKILL`")
    )
    started_at: str
    exited_at: str | None = None
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    position: int = field(default=0, metadata=described("the end of its output"))
    first_position: int = field(
        default=0, metadata=described("the oldest of its output that is kept")
    )
    stdin_open: bool = False
    pty: PtySize | None = field(
        default=None, metadata=described("the size of its terminal; null without one")
    )

    @property
    def ended(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.status not in (ProcessStatus.QUEUED, ProcessStatus.RUNNING)


@dataclass(frozen=True, kw_only=True)
class ProcessResult(ProcessInfo):
    """The answer of `POST …/wait`: how a process ended, and the newest of what it wrote.

    With a terminal all output is `stdout`. Bytes that are not UTF-8 stand as U+FFFD.
    """

    stdout: str
    stderr: str
    duration_ms: int
    truncated: bool = field(
        default=False, metadata=described("older output is not in `stdout` and `stderr`")
    )
    timed_out: bool = False
    oom_killed: bool = field(default=False, metadata=_OOM_KILLED)

    @property
    def ok(self) -> bool:
        """True exactly when it ended by itself with status 0."""
        return self.exit_code == 0


@dataclass(frozen=True)
class CursorPagination:
    """Where a page stands in a collection that changes while one reads it."""

    limit: int
    has_more: bool
    next_cursor: str | None = field(
        default=None, metadata=described("`cursor` of the next page; null on the last")
    )


@dataclass(frozen=True)
class ProcessPage:
    """The answer of `GET /v1/sandboxes/{id}/processes`, newest first."""

    data: list[ProcessInfo]
    pagination: CursorPagination


@dataclass(frozen=True)
class WaitProcess:
    """The body of `POST …/wait`."""

    timeout_ms: int | None = field(
        default=None,
        metadata=described(
            "how long to wait; the process goes on all the same", ge=0, le=MAX_LIFETIME_MS
        ),
    )


@dataclass(frozen=True)
class SignalProcess:
    """The body of `POST …/signal`."""

    signal: str | int = field(
        metadata=described("a name, with or without `SIG`, or a number", max_length=16)
    )
    tree: bool = field(default=True, metadata=described("to all that it started, not to it alone"))


@dataclass(frozen=True)
class StdinWritten:
    """The answer of `POST …/stdin`."""

    bytes: int
