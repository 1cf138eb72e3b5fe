# SPDX-License-Identifier: Apache-2.0
"""Ports of a sandbox: those that the outside reaches, and those that listen inside."""

from __future__ import annotations

from dataclasses import dataclass, field

from ._fields import described
from ._sandboxes import MAX_LIFETIME_MS, Pagination

LOWEST_EXPOSED_PORT = 1024
MAX_PORT = 65_535
MAX_PORT_WAIT_MS = 60_000


@dataclass(frozen=True)
class ExposePort:
    """The body of `POST /v1/sandboxes/{id}/ports`."""

    port: int = field(
        metadata=described(f"from {LOWEST_EXPOSED_PORT} to {MAX_PORT}; need not listen yet")
    )
    private: bool | None = field(
        default=None,
        metadata=described(
            "whether a token is needed; if absent an exposed port stays as it is and a new one is public"
        ),
    )


@dataclass(frozen=True)
class PortInfo:
    """A port of a sandbox that the outside reaches."""

    sandbox_id: str
    port: int
    url: str = field(metadata=described("where; take it as it is, for how it is built may change"))
    private: bool
    created_at: str
    token: str | None = field(
        default=None,
        metadata=described(
            "what opens a private port until it is closed, in the header `Atoll-Preview-Token`"
        ),
    )


@dataclass(frozen=True)
class PortList:
    """The answer of `GET …/ports`: all that are exposed, by number."""

    data: list[PortInfo]
    pagination: Pagination


@dataclass(frozen=True)
class ListeningPort:
    """A TCP port on which a program in the sandbox listens."""

    port: int
    address: str = field(metadata=described("`127.0.0.1`, `0.0.0.0`, `::` and so on"))
    pid: int | None = field(default=None, metadata=described("null where that cannot be seen"))
    command: str | None = None


@dataclass(frozen=True)
class ListeningPorts:
    """The answer of `GET …/ports/listening`, by number."""

    data: list[ListeningPort]


@dataclass(frozen=True)
class SignPort:
    """The body of `POST …/ports/{port}/sign`."""

    lasts_ms: int = field(metadata=described("how long the URL is good", ge=1, le=MAX_LIFETIME_MS))


@dataclass(frozen=True)
class SignedUrl:
    """A URL that opens a private port by itself until it expires."""

    url: str
    expires_at: str
