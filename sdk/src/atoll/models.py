# SPDX-License-Identifier: Apache-2.0
"""The records of the native API: what travels, once, for client and server alike.

On the wire names are camelCase and absent optional fields are null; in Python they are snake_case. Limits stand in
each field's metadata (`ge`, `le`, `max_items`, `max_length`, `description`), from which the server derives its strict
parser and the OpenAPI document. This module does no I/O and imports nothing of Atoll.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

MAX_COMMAND_TIMEOUT_MS = 300_000
MAX_LIFETIME_MS = 86_400_000
MAX_TAG_LENGTH = 256
MAX_TERMINAL_SIDE = 65_535
MAX_BATCH_FILES = 1000
MAX_ENCODED_PATH = 5464
"""What 4096 bytes, the longest path, come to as base64."""


class SandboxState(str, Enum):
    """Where a sandbox is in its life."""

    CREATING = "creating"
    RUNNING = "running"
    PAUSED = "paused"
    FAILED = "failed"
    TERMINATED = "terminated"


class Runtime(str, Enum):
    """What isolates a sandbox. `auto` takes gVisor where it is installed, else a container."""

    AUTO = "auto"
    GVISOR = "gvisor"
    CONTAINER = "container"


class FileType(str, Enum):
    """What a directory entry is. `other` covers sockets, pipes and devices."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    OTHER = "other"


class KeySource(str, Enum):
    """Where an API key is from: the server's settings, or made while it ran."""

    SETTINGS = "settings"
    CREATED = "created"


class ProcessStatus(str, Enum):
    """How a process stands. `queued` and `failed` occur only in other products' protocols."""

    QUEUED = "queued"
    RUNNING = "running"
    EXITED = "exited"
    KILLED = "killed"
    TIMED_OUT = "timed_out"
    FAILED = "failed"


class ChangeKind(str, Enum):
    """What happened to a file or directory. `modified` is its content, `attributes` its mode, owner or times.

    `overflow` says that changes were lost: what is there now has to be looked at.
    """

    CREATED = "created"
    MODIFIED = "modified"
    REMOVED = "removed"
    RENAMED = "renamed"
    ATTRIBUTES = "attributes"
    OVERFLOW = "overflow"


class ImageKind(str, Enum):
    """Where an image comes from: this host's own programs, a directory of the operator's, or another image."""

    HOST = "host"
    DIRECTORY = "directory"
    ALIAS = "alias"


def _described(text: str, **limits: Any) -> dict[str, Any]:
    return {"description": text, **limits}


_ENCODINGS = {"one_of": ("utf-8", "base64")}
_PATH_ENCODING = _described("how `path` is written; for names that are not UTF-8", **_ENCODINGS)


@dataclass(frozen=True)
class Resources:
    """Hard limits of one sandbox. Memory and disk are in MiB."""

    cpu: int = field(default=2, metadata=_described("CPUs", one_of=(2, 4, 8)))
    memory_mb: int = field(default=4096, metadata=_described("memory, MiB", ge=2048, le=16384))
    disk_mb: int = field(default=10240, metadata=_described("disk, MiB", ge=5120, le=51200))


@dataclass(frozen=True)
class CreateSandbox:
    """The body of `POST /v1/sandboxes`."""

    image: str | None = field(
        default=None,
        metadata=_described("root file system to start from, e.g. `host`", max_length=512),
    )
    resources: Resources = field(default_factory=Resources)
    env: dict[str, str] = field(
        default_factory=dict, metadata=_described("seen by every command", max_items=256)
    )
    workdir: str = field(
        default="/workspace",
        metadata=_described("default directory of every command", max_length=4096),
    )
    timeout_ms: int = field(
        default=300_000,
        metadata=_described("lifetime, after which it is terminated", ge=1, le=MAX_LIFETIME_MS),
    )
    idle_timeout_ms: int = field(
        default=120_000,
        metadata=_described("kept; acts once pausing exists", ge=1, le=MAX_LIFETIME_MS),
    )
    metadata: dict[str, str] = field(
        default_factory=dict,
        metadata=_described("your labels, filterable in lists", max_items=20, max_value_length=256),
    )
    runtime: Runtime = field(default=Runtime.AUTO, metadata=_described("what isolates it"))


@dataclass(frozen=True)
class SandboxInfo:
    """A sandbox as the API shows it. Times are ISO 8601, UTC, with a trailing `Z`."""

    id: str
    state: SandboxState
    image: str
    runtime: Runtime
    isolation: str
    resources: Resources
    env: dict[str, str]
    metadata: dict[str, str]
    workdir: str
    timeout_ms: int
    idle_timeout_ms: int
    created_at: str
    started_at: str | None = None
    paused_at: str | None = None
    terminated_at: str | None = None
    reason: str | None = field(
        default=None,
        metadata=_described("why it ended: `user`, `timeout`, `error`, `shutdown` or `lost`"),
    )
    detail: str | None = field(
        default=None, metadata=_described("what went wrong, where something did")
    )


@dataclass(frozen=True)
class Pagination:
    """Where a page stands in its collection."""

    total: int
    limit: int
    offset: int
    has_more: bool


@dataclass(frozen=True)
class SandboxPage:
    """The answer of `GET /v1/sandboxes`, newest first."""

    data: list[SandboxInfo]
    pagination: Pagination


@dataclass(frozen=True)
class ImageInfo:
    """An image that sandboxes of this server can have."""

    name: str
    kind: ImageKind
    alias_of: str | None = field(
        default=None, metadata=_described("the image that this is another name for")
    )


@dataclass(frozen=True)
class ImageList:
    """The answer of `GET /v1/images`: all of them, `host` first, then as configured."""

    data: list[ImageInfo]
    pagination: Pagination


@dataclass(frozen=True)
class PoolShape:
    """What a server holds ready of one image, runtime and size. Counts are since its start."""

    image: str
    runtime: Runtime
    memory_mb: int
    disk_mb: int
    target: int = field(metadata=_described("how many should be idle, by what is asked for"))
    idle: int = field(metadata=_described("how many wait to be taken"))
    building: int
    demand: int = field(metadata=_described("requests lately: each counts half after five minutes"))
    hits: int = field(metadata=_described("requests that were given one"))
    misses: int = field(metadata=_described("requests that found none and had one built"))
    built: int
    failed: int
    died: int
    retired: int = field(metadata=_described("ended because too old or not wanted"))


@dataclass(frozen=True)
class PoolInfo:
    """The answer of `/v1/pool`."""

    size: int = field(metadata=_described("how many are held ready at most, of all shapes"))
    min_idle: int
    max_idle_ms: int
    refill: int = field(metadata=_described("how many are built at once"))
    shapes: list[PoolShape]


@dataclass(frozen=True)
class ResizePool:
    """The body of `PUT /v1/pool`."""

    size: int = field(metadata=_described("how many to hold ready; 0 for none", ge=0, le=1000))


@dataclass(frozen=True)
class ExecRequest:
    """The body of `POST /v1/sandboxes/{id}/execute`."""

    command: str | list[str] = field(
        metadata=_described("text for a shell (bash where there is one), or a list that runs as is")
    )
    cwd: str | None = field(
        default=None,
        metadata=_described("directory; the sandbox's `workdir` if absent", max_length=4096),
    )
    env: dict[str, str] = field(
        default_factory=dict,
        metadata=_described("added over the sandbox's; wins on a clash", max_items=256),
    )
    user: str | None = field(
        default=None, metadata=_described("name or uid; root if absent", max_length=64)
    )
    run_as: str | None = field(
        default=None, metadata=_described("the same as `user`", max_length=64)
    )
    stdin: str | None = field(
        default=None, metadata=_described("fed to the command, then end of file")
    )
    stdin_encoding: str = field(
        default="utf-8", metadata=_described("how `stdin` is written", one_of=("utf-8", "base64"))
    )
    timeout_ms: int = field(
        default=60_000,
        metadata=_described(
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
    oom_killed: bool = field(
        default=False, metadata=_described("the kernel killed it for the sandbox's memory limit")
    )
    truncated: bool = False

    @property
    def ok(self) -> bool:
        """True exactly when the command ended by itself with status 0."""
        return self.exit_code == 0


@dataclass(frozen=True)
class PtySize:
    """The size of a terminal, in characters. Also the body of `POST …/resize`."""

    rows: int = field(default=24, metadata=_described("lines", ge=1, le=MAX_TERMINAL_SIDE))
    cols: int = field(default=80, metadata=_described("columns", ge=1, le=MAX_TERMINAL_SIDE))


@dataclass(frozen=True)
class StartProcess:
    """The body of `POST /v1/sandboxes/{id}/processes`."""

    command: str | list[str] = field(
        metadata=_described("text for a shell (bash where there is one), or a list that runs as is")
    )
    cwd: str | None = field(
        default=None,
        metadata=_described("directory; the sandbox's `workdir` if absent", max_length=4096),
    )
    env: dict[str, str] = field(
        default_factory=dict,
        metadata=_described("added over the sandbox's; wins on a clash", max_items=256),
    )
    user: str | None = field(
        default=None, metadata=_described("name or uid; root if absent", max_length=64)
    )
    run_as: str | None = field(
        default=None, metadata=_described("the same as `user`", max_length=64)
    )
    stdin: str | None = field(
        default=None, metadata=_described("fed to it, then end of file unless `stdinOpen`")
    )
    stdin_encoding: str = field(
        default="utf-8", metadata=_described("how `stdin` is written", **_ENCODINGS)
    )
    stdin_open: bool = field(
        default=False, metadata=_described("keeps its input open, to be written to later")
    )
    tag: str | None = field(
        default=None,
        metadata=_described(
            "your name for it; need not be unique", min_length=1, max_length=MAX_TAG_LENGTH
        ),
    )
    pty: PtySize | None = field(
        default=None, metadata=_described("gives it a terminal of that size; its input is open")
    )
    timeout_ms: int | None = field(
        default=None,
        metadata=_described(
            "then SIGTERM to the whole tree, SIGKILL 5 s later; without it it lives as long as the sandbox",
            ge=1,
            le=MAX_LIFETIME_MS,
        ),
    )
    idle_timeout_ms: int | None = field(
        default=None,
        metadata=_described("the same after so long without output", ge=1, le=MAX_LIFETIME_MS),
    )


@dataclass(frozen=True, kw_only=True)
class ProcessInfo:
    """A process of a sandbox. A *position* counts the bytes of its output, stdout and stderr together."""

    id: str
    pid: int
    command: str | list[str] = field(metadata=_described("as it was given"))
    cwd: str
    user: str
    tag: str | None = None
    status: ProcessStatus
    exit_code: int | None = field(
        default=None,
        metadata=_described(
            "null while it runs and when a timeout ended it; 128 + n when signal n did"
        ),
    )
    signal: str | None = field(
        default=None, metadata=_described("the name of the signal that ended it, e.g. `SIGKILL`")
    )
    started_at: str
    exited_at: str | None = None
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    position: int = field(default=0, metadata=_described("the end of its output"))
    first_position: int = field(
        default=0, metadata=_described("the oldest of its output that is kept")
    )
    stdin_open: bool = False
    pty: PtySize | None = field(
        default=None, metadata=_described("the size of its terminal; null without one")
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
        default=False, metadata=_described("older output is not in `stdout` and `stderr`")
    )
    timed_out: bool = False
    oom_killed: bool = field(
        default=False, metadata=_described("the kernel killed it for the sandbox's memory limit")
    )

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
        default=None, metadata=_described("`cursor` of the next page; null on the last")
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
        metadata=_described(
            "how long to wait; the process goes on all the same", ge=0, le=MAX_LIFETIME_MS
        ),
    )


@dataclass(frozen=True)
class SignalProcess:
    """The body of `POST …/signal`."""

    signal: str | int = field(
        metadata=_described("a name, with or without `SIG`, or a number", max_length=16)
    )
    tree: bool = field(default=True, metadata=_described("to all that it started, not to it alone"))


@dataclass(frozen=True)
class StdinWritten:
    """The answer of `POST …/stdin`."""

    bytes: int


@dataclass(frozen=True)
class FileEntry:
    """One file, directory or link. `path` is absolute; a `name` that is not UTF-8 shows U+FFFD."""

    name: str
    path: str
    type: FileType
    is_directory: bool
    size_bytes: int
    mode: str = field(metadata=_described("permission bits, four octal digits such as `0755`"))
    uid: int
    gid: int
    user: str | None
    group: str | None
    modified_at: str
    target: str | None = field(default=None, metadata=_described("where a symlink points"))


@dataclass(frozen=True)
class FileList:
    """The answer of `GET …/files/list`. `truncated` means there is more than was sent."""

    data: list[FileEntry]
    pagination: Pagination
    truncated: bool = False


@dataclass(frozen=True)
class FileContent:
    """The JSON form of reading and writing a file."""

    content: str
    encoding: str = field(
        default="utf-8", metadata=_described("of `content`", one_of=("utf-8", "base64"))
    )
    path: str | None = field(default=None, metadata=_described("on reading: the file's path"))
    mode: str | None = field(default=None, metadata=_described("octal, e.g. `0755`", max_length=5))


@dataclass(frozen=True)
class FileWritten:
    """The answer to a write."""

    path: str
    size_bytes: int
    created: bool


@dataclass(frozen=True)
class FileExists:
    """The answer of `GET …/files/exists`."""

    exists: bool


@dataclass(frozen=True)
class FileToWrite:
    """One file in the body of `POST …/files/batch/write`."""

    path: str = field(metadata=_described("where", max_length=MAX_ENCODED_PATH))
    content: str
    encoding: str = field(default="utf-8", metadata=_described("of `content`", **_ENCODINGS))
    mode: str | None = field(default=None, metadata=_described("octal, e.g. `0755`", max_length=5))
    path_encoding: str = field(default="utf-8", metadata=_PATH_ENCODING)


@dataclass(frozen=True)
class WriteFiles:
    """The body of `POST …/files/batch/write`. No two of them have the same path."""

    files: list[FileToWrite] = field(
        metadata=_described(
            "each written whole or not at all", min_items=1, max_items=MAX_BATCH_FILES
        )
    )


@dataclass(frozen=True)
class FileToRead:
    """One file in the body of `POST …/files/batch/read`."""

    path: str = field(metadata=_described("which", max_length=MAX_ENCODED_PATH))
    path_encoding: str = field(default="utf-8", metadata=_PATH_ENCODING)


@dataclass(frozen=True)
class ReadFiles:
    """The body of `POST …/files/batch/read`."""

    files: list[FileToRead] = field(
        metadata=_described("which, of 8 MiB in all", min_items=1, max_items=MAX_BATCH_FILES)
    )


@dataclass(frozen=True)
class FileFailure:
    """Why nothing was done with one file of many: what `error` is to a whole request."""

    code: str
    message: str
    retryable: bool
    reason: str | None = field(
        default=None, metadata=_described("which `FILE_ERROR` it is; null for other codes")
    )


@dataclass(frozen=True)
class FileWriteResult:
    """What became of one file: exactly one of `written` and `error` is not null. `path` is as it was asked for."""

    path: str
    written: FileWritten | None = None
    error: FileFailure | None = None


@dataclass(frozen=True)
class FilesWritten:
    """The answer of `POST …/files/batch/write`, in the order of the request."""

    data: list[FileWriteResult]
    failed: int = field(metadata=_described("how many were not written"))


@dataclass(frozen=True)
class FileReadResult:
    """What became of one file: exactly one of `file` and `error` is not null. `path` is as it was asked for."""

    path: str
    file: FileContent | None = None
    error: FileFailure | None = None


@dataclass(frozen=True)
class FilesRead:
    """The answer of `POST …/files/batch/read`, in the order of the request."""

    data: list[FileReadResult]
    failed: int = field(metadata=_described("how many were not read"))


@dataclass(frozen=True)
class MakeDirectory:
    """The body of `POST …/files/mkdir`. `recursive` is an accepted other name of `parents`."""

    path: str = field(metadata=_described("where", max_length=MAX_ENCODED_PATH))
    parents: bool = False
    recursive: bool = False
    mode: str = field(default="0755", metadata=_described("octal", max_length=5))
    path_encoding: str = field(default="utf-8", metadata=_PATH_ENCODING)


@dataclass(frozen=True)
class MoveFile:
    """The body of `POST …/files/move` and `POST …/files/copy`."""

    source: str = field(metadata=_described("from", max_length=MAX_ENCODED_PATH))
    destination: str = field(metadata=_described("to", max_length=MAX_ENCODED_PATH))
    path_encoding: str = field(
        default="utf-8",
        metadata=_described("how both are written; for names that are not UTF-8", **_ENCODINGS),
    )


@dataclass(frozen=True)
class ChangeMode:
    """The body of `POST …/files/chmod`."""

    path: str = field(metadata=_described("what", max_length=MAX_ENCODED_PATH))
    mode: str = field(metadata=_described("octal", max_length=5))
    recursive: bool = False
    path_encoding: str = field(default="utf-8", metadata=_PATH_ENCODING)


@dataclass(frozen=True)
class ChangeOwner:
    """The body of `POST …/files/chown`."""

    path: str = field(metadata=_described("what", max_length=MAX_ENCODED_PATH))
    user: str = field(metadata=_described("name or uid", max_length=64))
    group: str | None = field(
        default=None, metadata=_described("name or gid; the user's own if absent", max_length=64)
    )
    recursive: bool = False
    path_encoding: str = field(default="utf-8", metadata=_PATH_ENCODING)


@dataclass(frozen=True)
class Unpacked:
    """The answer to a tar upload."""

    entries: int


@dataclass(frozen=True)
class StartWatch:
    """The body of `POST /v1/sandboxes/{id}/watches`."""

    path: str = field(metadata=_described("a directory", max_length=MAX_ENCODED_PATH))
    recursive: bool = field(
        default=False, metadata=_described("with all directories beneath, later ones too")
    )
    linger_ms: int | None = field(
        default=None,
        metadata=_described(
            "how long it lives while nobody reads it; five minutes if absent",
            ge=1,
            le=MAX_LIFETIME_MS,
        ),
    )
    path_encoding: str = field(default="utf-8", metadata=_PATH_ENCODING)


@dataclass(frozen=True)
class WatchInfo:
    """A watch over a directory. Its changes have numbers from 1, none of which is used twice."""

    id: str
    path: str = field(metadata=_described("the directory, absolute, at the end of all links"))
    recursive: bool
    created_at: str
    first: int = field(metadata=_described("the oldest change that is kept"))
    last: int = field(metadata=_described("the newest change; 0 before there is one"))
    ended: str | None = field(
        default=None,
        metadata=_described(
            "why it tells no more: `removed` (its directory is gone), `stopped`, or `failed`"
        ),
    )


@dataclass(frozen=True)
class WatchList:
    """The answer of `GET …/watches`: all of them, the oldest first."""

    data: list[WatchInfo]
    pagination: Pagination


@dataclass(frozen=True)
class FileChange:
    """One change beneath a watched directory. Paths are absolute; names that are not UTF-8 show U+FFFD."""

    number: int
    kind: ChangeKind
    path: str | None = field(
        metadata=_described("null where an `overflow` is about the whole directory")
    )
    from_path: str | None = field(metadata=_described("where it was before it was `renamed`"))
    is_directory: bool
    at: str = field(metadata=_described("when; ISO 8601, UTC"))


@dataclass(frozen=True)
class CreateKey:
    """The body of `POST /v1/keys`."""

    name: str = field(default="", metadata=_described("for people", max_length=128))
    scopes: list[str] = field(
        default_factory=lambda: ["sandbox:*"],
        metadata=_described(
            "what it may do: `sandbox:read`, `sandbox:files` and so on, `sandbox:*` for all of these, `keys:manage`, "
            "`pool:manage`, "
            "or `full`; nothing that the key lacks that asks",
            max_items=32,
        ),
    )


@dataclass(frozen=True)
class KeyInfo:
    """An API key as the API shows it."""

    id: str
    name: str
    scopes: list[str]
    source: KeySource
    created_at: str | None = field(
        metadata=_described("null for one of the server's settings, which has no date")
    )
    key: str | None = field(
        default=None,
        repr=False,
        metadata=_described("its text, only in the answer that made it: nobody can show it again"),
    )


@dataclass(frozen=True)
class KeyList:
    """The answer of `GET /v1/keys`: all of them, those of the settings first, then the oldest."""

    data: list[KeyInfo]
    pagination: Pagination


@dataclass(frozen=True)
class Health:
    """The answer of `GET /v1/health`."""

    status: str
    version: str
    timestamp: str


@dataclass(frozen=True)
class ErrorBody:
    """What is wrong, in the member `error` of every answer that is not 2xx."""

    code: str
    message: str
    retryable: bool
    request_id: str


@dataclass(frozen=True)
class ErrorAnswer:
    """An answer that is not 2xx."""

    error: ErrorBody
