# SPDX-License-Identifier: Apache-2.0
"""Connections that are taken from the HTTP server, with what has been read of them, and given to another."""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol

# What is read ahead of whoever takes it.
BUFFER_BYTES = 1024 * 1024
# After how much silence the kernel asks whether the other end is still there.
IDLE_SECONDS = 120


class Upgrades(Protocol):
    """Who takes WebSockets that are not for the API."""

    def takes_upgrade(
        self,
        headers: list[tuple[bytes, bytes]],
        url: bytes,
        server: tuple[str, int | None] | None,
    ) -> bool: ...

    async def serve_upgrade(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        headers: list[tuple[bytes, bytes]],
        url: bytes,
        client: tuple[str, int] | None,
    ) -> None: ...


class HandedOver:
    """What the server knows of a connection that another serves: that it is there, and how to end it."""

    def __init__(self, serving: asyncio.Task[None]) -> None:
        self._serving = serving

    def shutdown(self) -> None:
        self._serving.cancel()


def open_streams(
    transport: asyncio.Transport, loop: asyncio.AbstractEventLoop
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Read and write a connection by streams from now on, whatever it was read by before."""
    _keep_alive(transport)
    reader = asyncio.StreamReader(limit=BUFFER_BYTES, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def _keep_alive(transport: asyncio.Transport) -> None:
    """Has the kernel find out when a peer that may be silent for hours is there no more."""
    peer = transport.get_extra_info("socket")
    if peer.family != socket.AF_UNIX:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_SECONDS)
