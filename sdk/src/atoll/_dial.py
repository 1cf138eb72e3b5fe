# SPDX-License-Identifier: Apache-2.0
"""From a request to the handshake of a WebSocket, and from that library's errors to ours. No I/O.

Imports the library, which most programs do without: import this where a socket is opened.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    WebSocketException,
)

from ._answers import parse_error
from ._config import Endpoint
from ._route import CONNECT_SECONDS, Route
from .errors import ConnectFailed, ConnectionLost, Error, ProtocolError, Timeout

PING_SECONDS = 20.0
PONG_SECONDS = 20.0
"""So long a server may be silent after a ping before it counts as gone."""
CLOSE_SECONDS = 2.0
MAX_MESSAGE_BYTES = 1024 * 1024

SOCKET_ERRORS = (WebSocketException, OSError, EOFError)
"""What a WebSocket raises; that includes its timeouts."""


@dataclass(frozen=True)
class Dial:
    """All it takes to open one socket. `path` is that of a unix socket."""

    endpoint: Endpoint
    uri: str
    path: str | None
    options: dict[str, Any] = field(repr=False)


def plan_dial(route: Route, target: str) -> Dial:
    """How to reach `target` by WebSocket."""
    endpoint = route.endpoint
    scheme = "wss" if endpoint.tls else "ws"
    uri = f"{scheme}://{route.host_header}{endpoint.base_path}{target}"
    options: dict[str, Any] = {
        "additional_headers": route.socket_headers,
        "user_agent_header": None,  # ours is among the headers
        "compression": None,  # a terminal's pieces are small, and must not wait
        "open_timeout": CONNECT_SECONDS,
        "ping_interval": PING_SECONDS,
        "ping_timeout": PONG_SECONDS,
        "close_timeout": CLOSE_SECONDS,
        "max_size": MAX_MESSAGE_BYTES,
    }
    return Dial(endpoint, uri, endpoint.socket, options)


def translate_dial_error(error: Exception, endpoint: Endpoint) -> Error:
    """The SDK's error for one of `SOCKET_ERRORS` before the socket was open."""
    said = str(error) or type(error).__name__
    if isinstance(error, InvalidStatus):
        headers = [(k.encode(), v.encode()) for k, v in error.response.headers.raw_items()]
        return parse_error(error.response.status_code, headers, bytes(error.response.body or b""))
    if isinstance(error, TimeoutError):
        return Timeout(f"{endpoint.url} did not open a WebSocket within {CONNECT_SECONDS:.0f} s")
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return ConnectFailed(f"no server reached at {endpoint.url}: {said}; is it running?")
    if isinstance(error, InvalidHandshake) and not isinstance(error.__cause__, OSError | EOFError):
        return ProtocolError(f"{endpoint.url} opens no WebSocket: {said}; is there a proxy?")
    return ConnectFailed(f"no WebSocket to {endpoint.url}: {said}")


def translate_socket_error(error: Exception, endpoint: Endpoint) -> Error:
    """The SDK's error for one of `SOCKET_ERRORS` on a socket that was open."""
    said = str(error) or type(error).__name__
    if isinstance(error, ConnectionClosed) and error.rcvd is not None and error.rcvd.reason:
        said = error.rcvd.reason
    return ConnectionLost(f"the connection to {endpoint.url} broke: {said}")
