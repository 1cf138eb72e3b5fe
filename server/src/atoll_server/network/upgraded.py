# SPDX-License-Identifier: Apache-2.0
"""A WebSocket to a host of secrets, once both have agreed on it: what the host says is masked, the rest as it was."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from atoll_server.network.frames import BadFrames, FrameMask
from atoll_server.network.line import Line
from atoll_server.network.tls import TlsFailed

PARTING_SECONDS: Final = 10.0
"""How long either end may go on once the other has ended."""


async def pass_frames(line: Line) -> None:
    """Pass everything both ways until the host has ended. What breaks off is cut."""
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(_send(line))
        try:
            await _receive(line)
        except (TlsFailed, BadFrames):
            line.flow.cut()
        sending.cancel()


async def _send(line: Line) -> None:
    # Whoever has gone away hears nothing more in either case.
    with contextlib.suppress(TlsFailed):
        while piece := await line.client.read():
            await line.send(piece)
        await line.server.end()
        await asyncio.sleep(PARTING_SECONDS)
    line.flow.cut()


async def _receive(line: Line) -> None:
    mask = FrameMask(line.meant)
    while not mask.has_closed and (piece := await line.server.read()):
        await line.tell(mask.feed(piece))
    await line.tell(mask.finish())
    if mask.has_closed:
        await _part(line)


async def _part(line: Line) -> None:
    """Let the client's last word get to a host that has said its own."""
    with contextlib.suppress(TimeoutError, TlsFailed):
        async with asyncio.timeout(PARTING_SECONDS):
            while await line.server.read():
                pass  # nothing is told any more
