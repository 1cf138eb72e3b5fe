# SPDX-License-Identifier: Apache-2.0
"""Files, one by one and many at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from ._fields import ENCODINGS, PATH_ENCODING, described
from ._sandboxes import Pagination

MAX_BATCH_FILES = 1000
MAX_ENCODED_PATH = 5464
"""What 4096 bytes, the longest path, come to as base64."""


class FileType(str, Enum):
    """What a directory entry is. `other` covers sockets, pipes and devices."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    OTHER = "other"


@dataclass(frozen=True)
class FileEntry:
    """One file, directory or link. `path` is absolute; a `name` that is not UTF-8 shows U+FFFD."""

    name: str
    path: str
    type: FileType
    is_directory: bool
    size_bytes: int
    mode: str = field(metadata=described("permission bits, four octal digits such as `0755`"))
    uid: int
    gid: int
    user: str | None
    group: str | None
    modified_at: str
    target: str | None = field(default=None, metadata=described("where a symlink points"))


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
    encoding: str = field(default="utf-8", metadata=described("of `content`", **ENCODINGS))
    path: str | None = field(default=None, metadata=described("on reading: the file's path"))
    mode: str | None = field(default=None, metadata=described("octal, e.g. `0755`", max_length=5))


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

    path: str = field(metadata=described("where", max_length=MAX_ENCODED_PATH))
    content: str
    encoding: str = field(default="utf-8", metadata=described("of `content`", **ENCODINGS))
    mode: str | None = field(default=None, metadata=described("octal, e.g. `0755`", max_length=5))
    path_encoding: str = field(default="utf-8", metadata=PATH_ENCODING)


@dataclass(frozen=True)
class WriteFiles:
    """The body of `POST …/files/batch/write`. No two of them have the same path."""

    files: list[FileToWrite] = field(
        metadata=described(
            "each written whole or not at all", min_items=1, max_items=MAX_BATCH_FILES
        )
    )


@dataclass(frozen=True)
class FileToRead:
    """One file in the body of `POST …/files/batch/read`."""

    path: str = field(metadata=described("which", max_length=MAX_ENCODED_PATH))
    path_encoding: str = field(default="utf-8", metadata=PATH_ENCODING)


@dataclass(frozen=True)
class ReadFiles:
    """The body of `POST …/files/batch/read`."""

    files: list[FileToRead] = field(
        metadata=described("which, of 8 MiB in all", min_items=1, max_items=MAX_BATCH_FILES)
    )


@dataclass(frozen=True)
class FileFailure:
    """Why nothing was done with one file of many: what `error` is to a whole request."""

    code: str
    message: str
    retryable: bool
    reason: str | None = field(
        default=None, metadata=described("which `FILE_ERROR` it is; null for other codes")
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
    failed: int = field(metadata=described("how many were not written"))


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
    failed: int = field(metadata=described("how many were not read"))


@dataclass(frozen=True)
class MakeDirectory:
    """The body of `POST …/files/mkdir`. `recursive` is an accepted other name of `parents`."""

    path: str = field(metadata=described("where", max_length=MAX_ENCODED_PATH))
    parents: bool = False
    recursive: bool = False
    mode: str = field(default="0755", metadata=described("octal", max_length=5))
    path_encoding: str = field(default="utf-8", metadata=PATH_ENCODING)


@dataclass(frozen=True)
class MoveFile:
    """The body of `POST …/files/move` and `POST …/files/copy`."""

    source: str = field(metadata=described("from", max_length=MAX_ENCODED_PATH))
    destination: str = field(metadata=described("to", max_length=MAX_ENCODED_PATH))
    path_encoding: str = field(
        default="utf-8",
        metadata=described("how both are written; for names that are not UTF-8", **ENCODINGS),
    )


@dataclass(frozen=True)
class ChangeMode:
    """The body of `POST …/files/chmod`."""

    path: str = field(metadata=described("what", max_length=MAX_ENCODED_PATH))
    mode: str = field(metadata=described("octal", max_length=5))
    recursive: bool = False
    path_encoding: str = field(default="utf-8", metadata=PATH_ENCODING)


@dataclass(frozen=True)
class ChangeOwner:
    """The body of `POST …/files/chown`."""

    path: str = field(metadata=described("what", max_length=MAX_ENCODED_PATH))
    user: str = field(metadata=described("name or uid", max_length=64))
    group: str | None = field(
        default=None, metadata=described("name or gid; the user's own if absent", max_length=64)
    )
    recursive: bool = False
    path_encoding: str = field(default="utf-8", metadata=PATH_ENCODING)


@dataclass(frozen=True)
class Unpacked:
    """The answer to a tar upload."""

    entries: int
