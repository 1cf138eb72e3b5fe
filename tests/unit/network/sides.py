# SPDX-License-Identifier: Apache-2.0
"""Sides over socket pairs: the real thing without a network."""

from __future__ import annotations

import asyncio
import socket

from atoll_server.network.holding import Holding
from atoll_server.network.side import Side


async def open_side(holding: Holding | None = None) -> tuple[Side, socket.socket]:
    """A side, and the socket at its other end, which does not block."""
    ours, theirs = socket.socketpair()
    for each in (ours, theirs):
        each.setblocking(False)
    _, side = await asyncio.get_running_loop().create_connection(
        lambda: Side(holding=holding), sock=ours
    )
    return side, theirs


async def receive(theirs: socket.socket, size: int = 64 * 1024) -> bytes:
    """What comes next at the other end."""
    return await asyncio.get_running_loop().sock_recv(theirs, size)


async def send(theirs: socket.socket, said: bytes) -> None:
    """Send all of it from the other end."""
    await asyncio.get_running_loop().sock_sendall(theirs, said)
