# SPDX-License-Identifier: Apache-2.0
"""Ports of a sandbox: what listens inside, waiting for it, and connections to it."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from .. import _requests
from ..errors import ConnectionLost, Timeout
from ..models import MAX_PORT_WAIT_MS, ListeningPort, ListeningPorts, PortInfo, PortList, SignedUrl
from ._transport import AsyncTransport

if TYPE_CHECKING:
    from ._socket import AsyncSocket

DEFAULT_WAIT_MS = 30_000
DEFAULT_SIGNED_MS = 3_600_000
PIECE_BYTES = 256 * 1024

Exposed = list[PortInfo]
Listening = list[ListeningPort]


class AsyncPorts:
    """The ports of a sandbox, as `sandbox.ports`."""

    def __init__(self, transport: AsyncTransport, sandbox_id: str) -> None:
        self._transport = transport
        self._sandbox_id = sandbox_id

    async def expose(self, port: int, *, private: bool | None = None) -> PortInfo:
        """Lets the outside reach a port, from 1024 to 65535, of a program that may yet have to start.

        A public one is open to all who know its `url`, which cannot be guessed; a `private` one wants its `token`
        besides. May be repeated: the URL stays the same until the port is closed. Raises `InvalidPort`.
        """
        request = _requests.expose_port(self._sandbox_id, port, private=private)
        return await self._transport.ask(PortInfo, request)

    async def list(self) -> Exposed:
        """The exposed ports, by number."""
        request = _requests.list_ports(self._sandbox_id)
        return (await self._transport.ask(PortList, request)).data

    async def close(self, port: int) -> None:
        """Lets nobody reach a port any more. Its URL is never used again. Raises `PortNotExposed`."""
        await self._transport.send(_requests.close_port(self._sandbox_id, port))

    async def sign(self, port: int, *, lasts_ms: int = DEFAULT_SIGNED_MS) -> SignedUrl:
        """A URL that opens a private port by itself, to be handed on. It does so for `lasts_ms`, an hour by default and
        a day at most. Raises `PortNotExposed`.
        """
        request = _requests.sign_port(self._sandbox_id, port, lasts_ms=lasts_ms)
        return await self._transport.ask(SignedUrl, request)

    async def listening(self) -> Listening:
        """Which TCP ports listen inside, exposed or not, by number."""
        return await self._listening(None, 0)

    async def wait_for(self, port: int, *, timeout_ms: int = DEFAULT_WAIT_MS) -> ListeningPort:
        """Waits until something listens on a port, and says what. Raises `Timeout` where nothing does in time."""
        deadline = time.monotonic() + timeout_ms / 1000
        while True:
            left_ms = max(0, round(1000 * (deadline - time.monotonic())))
            found = await self._listening(port, min(left_ms, MAX_PORT_WAIT_MS))
            if found:
                return found[0]
            if left_ms <= MAX_PORT_WAIT_MS:
                raise Timeout(f"nothing listens on port {port} after {timeout_ms} ms")

    async def dial(self, port: int) -> AsyncPortStream:
        """A connection to any TCP port inside, also one that is bound to 127.0.0.1 and not exposed.

        Raises `PortNotListening` where nothing listens.
        """
        request = _requests.dial_port(self._sandbox_id, port)
        return AsyncPortStream(await self._transport.dial(request), port)

    async def _listening(self, port: int | None, wait_ms: int) -> Listening:
        request = _requests.list_listening(self._sandbox_id, port, wait_ms=wait_ms)
        return (await self._transport.ask(ListeningPorts, request)).data


class AsyncPortStream:
    """A connection to a port inside a sandbox: bytes both ways, each way with an end of its own.

    As a context manager it is closed at the end of the block.

    Sending and receiving may go on at the same time.
    """

    def __init__(self, socket: AsyncSocket, port: int) -> None:
        self._socket = socket
        self._port = port
        self._has_ended = False
        self._is_done = False

    @property
    def port(self) -> int:
        """The port at the other end."""
        return self._port

    async def send(self, data: bytes) -> None:
        """Sends all of it, as fast as the program takes it.

        Raises `ConnectionLost` where the connection broke, and after `close_write`.
        """
        if self._is_done:
            raise ConnectionLost(f"this end of the connection to port {self._port} was closed")
        rest = memoryview(data)
        while rest:
            await self._socket.send(bytes(rest[:PIECE_BYTES]))
            rest = rest[PIECE_BYTES:]

    async def receive(self) -> bytes:
        """What comes next, as soon as there is anything; empty once the program has ended its side.

        Raises `ConnectionLost` where the connection broke.
        """
        if self._has_ended:
            return b""
        message = await self._socket.receive()
        data = message if isinstance(message, bytes) else message.encode()
        self._has_ended = not data
        return data

    async def close_write(self) -> None:
        """Ends our side; the program reads to the end and may still answer. May be repeated."""
        if not self._is_done:
            self._is_done = True
            await self._socket.send(b"")

    async def aclose(self) -> None:
        """Ends the connection. What was sent still reaches a program that reads. May be repeated."""
        await self._socket.aclose()

    async def __aenter__(self) -> AsyncPortStream:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to port {self._port}>"
