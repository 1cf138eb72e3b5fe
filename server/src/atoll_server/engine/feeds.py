# SPDX-License-Identifier: Apache-2.0
"""Input that processes were given with their start and have yet to take. What is written later comes after it."""

from __future__ import annotations

import asyncio
import logging

from atoll_server.agent.client import AgentClient
from atoll_server.agent.errors import AgentFailure

_log = logging.getLogger(__name__)


class Feeds:
    """Those of one sandbox. Of a process that has taken all of it there is nothing here."""

    def __init__(self, agent: AgentClient) -> None:
        self._agent = agent
        self._pending: dict[int, asyncio.Event] = {}

    def begin(self, number: int) -> None:
        """From here on whoever writes to the process waits for `feed`."""
        self._pending[number] = asyncio.Event()

    async def feed(self, number: int, data: bytes, *, end: bool) -> None:
        """Write what a process was given, at its own pace. `end`: that was all there will ever be."""
        # It need not read what it is given, and may be gone by now: its record says how that went.
        try:
            async with self._agent.stdin(number) as stdin:
                await stdin.write(data)
                await stdin.finish(end=end)
        except AgentFailure as failure:
            _log.debug("input of process %s was not taken: %s", number, failure)
        finally:
            self._pending.pop(number).set()

    async def wait_over(self, number: int) -> None:
        if (pending := self._pending.get(number)) is not None:
            await pending.wait()
