# SPDX-License-Identifier: Apache-2.0
"""Reads the beginning of a connection until it shows whom it is for. What shows nobody is opaque."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from atoll_server.network.client_hello import HANDSHAKE_RECORD, Hello, read_client_hello
from atoll_server.network.http_head import METHOD_LETTERS, Head, read_head
from atoll_server.network.outcomes import Incomplete, Refused
from atoll_server.network.policy import WEB_PORTS
from atoll_server.network.side import Side

SPEAK_TIMEOUT = 10.0
"""How long a client may take for its ClientHello or its head, in seconds."""
SERVER_FIRST_WAIT = 0.5
"""How long a client at a port of its own may be silent before it is taken to wait for the server to speak first."""

_MAX_BEGINNING = 128 * 1024
_METHODS = (
    *(b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT"),
    *(b"PRI", b"PROPFIND", b"PROPPATCH", b"MKCOL", b"COPY", b"MOVE", b"LOCK", b"UNLOCK", b"REPORT"),
)
_LONGEST_METHOD = 10


@dataclass(frozen=True)
class Opaque:
    """Neither TLS nor HTTP, or nothing yet."""


@dataclass(frozen=True)
class Beginning:
    """What was read, and what it shows. None is the end of a client that showed nothing."""

    data: bytes
    shows: Hello | Head | Opaque | Refused | None
    is_tls: bool = False


async def read_beginning(side: Side, port: int, timeout: float = SPEAK_TIMEOUT) -> Beginning:
    """Read as little as shows what the connection is."""
    data = bytearray()
    try:
        async with asyncio.timeout(timeout):
            while True:
                piece = await _read_piece(side, has_begun=bool(data), port=port)
                data += piece or b""
                shown = Opaque() if piece is None else look_at(data, port, is_all=piece == b"")
                if not isinstance(shown, Incomplete):
                    return Beginning(bytes(data), shown, _is_tls(data))
    except TimeoutError:
        shown = Refused(f"nothing that names a host came within {timeout:g} s")
        return Beginning(bytes(data), shown, _is_tls(data))


def look_at(
    data: bytes | bytearray, port: int, *, is_all: bool = False
) -> Hello | Head | Opaque | Incomplete | Refused | None:
    """What these first bytes show; `is_all` when no more can come."""
    shown = _look(data, port) if data else Incomplete()
    if not isinstance(shown, Incomplete) or not is_all:
        return shown
    return Refused("the connection ended before it named a host") if data else None


def _look(data: bytes | bytearray, port: int) -> Hello | Head | Opaque | Incomplete | Refused:
    if len(data) > _MAX_BEGINNING:
        return Refused("its beginning is too long")
    if _is_tls(data):
        return read_client_hello(data)
    if port in WEB_PORTS:
        return read_head(data)
    return _look_elsewhere(data)


def _look_elsewhere(data: bytes | bytearray) -> Head | Opaque | Incomplete | Refused:
    """At other ports anything may be spoken; what begins as HTTP must be HTTP."""
    word, space, _ = bytes(data[: _LONGEST_METHOD + 1]).partition(b" ")
    if space and word in _METHODS:
        return read_head(data)
    if not space and data[0] in METHOD_LETTERS and any(m.startswith(word) for m in _METHODS):
        return Incomplete()
    return Opaque()


async def _read_piece(side: Side, *, has_begun: bool, port: int) -> bytes | None:
    """The next bytes, empty at the end. None: the client waits for the server to begin."""
    if has_begun or port in WEB_PORTS:
        return await side.read()
    try:
        async with asyncio.timeout(SERVER_FIRST_WAIT):
            return await side.read()
    except TimeoutError:
        return None


def _is_tls(data: bytes | bytearray) -> bool:
    return data[:1] == bytes([HANDSHAKE_RECORD])
