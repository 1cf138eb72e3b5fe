# SPDX-License-Identifier: Apache-2.0
"""From our requests to the HTTP library's, and from its errors to ours. No I/O."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable

import httpcore2

from ._config import Endpoint
from ._requests import Request
from ._version import USER_AGENT
from .errors import ConnectFailed, ConnectionLost, Error, InvalidRequest, Timeout

CONNECT_SECONDS = 10.0

TRANSPORT_ERRORS = (
    httpcore2.NetworkError,
    httpcore2.TimeoutException,
    httpcore2.ProtocolError,
    httpcore2.UnsupportedProtocol,
)


class Route:
    """What all requests to one server with one key have in common, made once."""

    def __init__(self, endpoint: Endpoint, api_key: str) -> None:
        self.endpoint = endpoint
        self._scheme = b"https" if endpoint.tls else b"http"
        self._host = endpoint.host.encode()
        self._base_path = endpoint.base_path.encode()
        self._headers = [
            (b"Host", _host_header(endpoint)),
            (b"Authorization", b"Bearer " + api_key.encode()),
            (b"User-Agent", USER_AGENT),
        ]

    @property
    def host_header(self) -> str:
        """The server's name, with its port where there is one."""
        return _host_header(self.endpoint).decode()

    @property
    def socket_headers(self) -> list[tuple[str, str]]:
        """What a WebSocket's handshake says besides its own."""
        return [(name.decode(), value.decode()) for name, value in self._headers[1:]]

    def render(
        self,
        request: Request,
        body: bytes | Iterable[bytes] | AsyncIterable[bytes] | None,
        wait: float,
    ) -> httpcore2.Request:
        headers = [*self._headers, *request.headers]
        if request.body is not None:
            headers.append((b"Content-Length", b"%d" % len(request.body)))
        return httpcore2.Request(
            request.method,
            httpcore2.URL(
                scheme=self._scheme,
                host=self._host,
                port=self.endpoint.port,
                target=self._base_path + request.target.encode(),
            ),
            headers=headers,
            content=body,
            extensions={
                "timeout": {
                    "connect": min(wait, CONNECT_SECONDS),
                    "pool": wait,
                    "read": wait,
                    "write": wait,
                }
            },
        )


def translate_error(error: Exception, endpoint: Endpoint, wait: float) -> Error:
    """The SDK's error for one of `TRANSPORT_ERRORS`."""
    said = str(error) or type(error).__name__
    if isinstance(error, httpcore2.ConnectError | httpcore2.ConnectTimeout):
        return ConnectFailed(f"no server reached at {endpoint.url}: {said}; is it running?")
    if isinstance(error, httpcore2.PoolTimeout):
        return ConnectFailed(f"all connections to {endpoint.url} were busy for {wait:.0f} s")
    if isinstance(error, httpcore2.TimeoutException):
        return Timeout(f"{endpoint.url} did not go on within {wait:.0f} s")
    if isinstance(error, httpcore2.LocalProtocolError):
        return InvalidRequest(f"the request cannot be sent: {said}")
    return ConnectionLost(f"the connection to {endpoint.url} broke: {said}")


def _host_header(endpoint: Endpoint) -> bytes:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return (host if endpoint.port is None else f"{host}:{endpoint.port}").encode()
