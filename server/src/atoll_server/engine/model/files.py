# SPDX-License-Identifier: Apache-2.0
"""Files and watched directories. Names are bytes: a sandbox may hold any."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NewType

WatchId = NewType("WatchId", str)


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
