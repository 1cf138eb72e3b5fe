# SPDX-License-Identifier: Apache-2.0
"""The output of a process that goes on by itself, as somebody follows it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Self

from atoll_server.agent.process import AttachedProcess
from atoll_server.engine.audience import Follower
from atoll_server.engine.failures import Failures
from atoll_server.engine.model import Output, Process, ProcessId


class Following:
    """The output of a process: `async with` begins, `async for` gives pieces of it and at last the `Process`, which has
    ended unless it was not to be followed.
    """

    position: int
    stdout: int
    stderr: int
    dropped: int

    def __init__(
        self,
        process_id: ProcessId,
        source: AttachedProcess | Follower,
        failures: Failures,
        find: Callable[[ProcessId], Awaitable[Process]],
    ) -> None:
        self._id = process_id
        self._source = source
        self._failures = failures
        self._find = find
        self._is_over = False

    async def __aenter__(self) -> Self:
        with self._failures.translated(self._id):
            await self._source.__aenter__()
        self.position, self.dropped = self._source.position, self._source.dropped
        self.stdout, self.stderr = self._source.stdout, self._source.stderr
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._source.__aexit__(*raised)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Output | Process:
        if self._is_over:
            raise StopAsyncIteration
        with self._failures.translated(self._id):
            event = await anext(self._source, None)
        if isinstance(event, Output):
            return event
        self._is_over = True
        return await self._find(self._id)
