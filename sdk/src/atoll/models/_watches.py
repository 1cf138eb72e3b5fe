# SPDX-License-Identifier: Apache-2.0
"""Watched directories and what happened in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from ._fields import PATH_ENCODING, described
from ._files import MAX_ENCODED_PATH
from ._sandboxes import MAX_LIFETIME_MS, Pagination


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


@dataclass(frozen=True)
class StartWatch:
    """The body of `POST /v1/sandboxes/{id}/watches`."""

    path: str = field(metadata=described("a directory", max_length=MAX_ENCODED_PATH))
    recursive: bool = field(
        default=False, metadata=described("with all directories beneath, later ones too")
    )
    linger_ms: int | None = field(
        default=None,
        metadata=described(
            "how long it lives while nobody reads it; five minutes if absent",
            ge=1,
            le=MAX_LIFETIME_MS,
        ),
    )
    path_encoding: str = field(default="utf-8", metadata=PATH_ENCODING)


@dataclass(frozen=True)
class WatchInfo:
    """A watch over a directory. Its changes have numbers from 1, none of which is used twice."""

    id: str
    path: str = field(metadata=described("the directory, absolute, at the end of all links"))
    recursive: bool
    created_at: str
    first: int = field(metadata=described("the oldest change that is kept"))
    last: int = field(metadata=described("the newest change; 0 before there is one"))
    ended: str | None = field(
        default=None,
        metadata=described(
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
        metadata=described("null where an `overflow` is about the whole directory")
    )
    from_path: str | None = field(metadata=described("where it was before it was `renamed`"))
    is_directory: bool
    at: str = field(metadata=described("when; ISO 8601, UTC"))
