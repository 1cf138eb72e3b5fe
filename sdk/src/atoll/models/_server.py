# SPDX-License-Identifier: Apache-2.0
"""The server itself: images, pool, keys, health, errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from ._fields import described
from ._sandboxes import Pagination, Runtime


class KeySource(str, Enum):
    """Where an API key is from: the server's settings, or made while it ran."""

    SETTINGS = "settings"
    CREATED = "created"


class ImageKind(str, Enum):
    """Where an image comes from: this host's own programs, a directory of the operator's, or another image."""

    HOST = "host"
    DIRECTORY = "directory"
    ALIAS = "alias"


@dataclass(frozen=True)
class ImageInfo:
    """An image that sandboxes of this server can have."""

    name: str
    kind: ImageKind
    alias_of: str | None = field(
        default=None, metadata=described("the image that this is another name for")
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
    target: int = field(metadata=described("how many should be idle, by what is asked for"))
    idle: int = field(metadata=described("how many wait to be taken"))
    building: int
    demand: int = field(metadata=described("requests lately: each counts half after five minutes"))
    hits: int = field(metadata=described("requests that were given one"))
    misses: int = field(metadata=described("requests that found none and had one built"))
    built: int
    failed: int
    died: int
    retired: int = field(metadata=described("ended because too old or not wanted"))
    open_files: int = 65_536
    network: bool = field(
        default=False, metadata=described("whether they have one; what it may reach is said late")
    )


@dataclass(frozen=True)
class PoolInfo:
    """The answer of `/v1/pool`."""

    size: int = field(metadata=described("how many are held ready at most, of all shapes"))
    min_idle: int
    max_idle_ms: int
    refill: int = field(metadata=described("how many are built at once"))
    shapes: list[PoolShape]


@dataclass(frozen=True)
class ResizePool:
    """The body of `PUT /v1/pool`."""

    size: int = field(metadata=described("how many to hold ready; 0 for none", ge=0, le=1000))


@dataclass(frozen=True)
class CreateKey:
    """The body of `POST /v1/keys`."""

    name: str = field(default="", metadata=described("for people", max_length=128))
    scopes: list[str] = field(
        default_factory=lambda: ["sandbox:*"],
        metadata=described(
            "what it may do: `sandbox:read`, `sandbox:files`, `events:read` and so on, `sandbox:*` for all of these, "
            "`keys:manage`, `pool:manage`, `metrics:read`, "
            "or `full`; nothing that the key lacks that asks",
            min_items=1,
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
        metadata=described("null for one of the server's settings, which has no date")
    )
    key: str | None = field(
        default=None,
        repr=False,
        metadata=described("its text, only in the answer that made it: nobody can show it again"),
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
