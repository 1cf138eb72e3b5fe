# SPDX-License-Identifier: Apache-2.0
"""Peers that take nothing of what waits for them."""

from __future__ import annotations

import asyncio

# How long a client may take nothing of an answer that waits for it.
STALL_SECONDS = 60.0


class StallWatch:
    """Lets go of a peer that takes nothing for `STALL_SECONDS` of what waits for it, however slow it may be else."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0

    def begin(self) -> None:
        """Its buffer is full."""
        self.end()
        self._left = self._transport.get_write_buffer_size()
        self._timer = self._loop.call_later(STALL_SECONDS, self._look)

    def end(self) -> None:
        """There is room again, or nobody to watch."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._transport.get_write_buffer_size() >= self._left:
            self._transport.abort()
            return
        self.begin()
