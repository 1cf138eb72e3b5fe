# SPDX-License-Identifier: Apache-2.0
"""Deadlines of sandboxes, soonest first. Says what is due; ending it is the lifecycle's."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from atoll_server.clock import Clock, wait_for_news
from atoll_server.engine.model import SandboxId


class Deadlines:
    """At most one deadline for each sandbox, as readings of a monotonic clock."""

    def __init__(self) -> None:
        self._current: dict[SandboxId, float] = {}
        self._heap: list[tuple[float, SandboxId]] = []
        self._changed = asyncio.Event()

    async def run(self, clock: Clock, on_due: Callable[[SandboxId], object]) -> None:
        """Sleep until the next deadline or a change of deadlines, for ever."""
        while True:
            self._changed.clear()
            for sandbox_id in self.take_due(clock.monotonic()):
                on_due(sandbox_id)
            await wait_for_news(clock, self._changed, self.next())

    def set(self, sandbox_id: SandboxId, at: float) -> None:
        """Set or move a deadline."""
        self._current[sandbox_id] = at
        heapq.heappush(self._heap, (at, sandbox_id))
        self._changed.set()

    def drop(self, sandbox_id: SandboxId) -> None:
        """Forget a deadline; one that is not there is fine."""
        self._current.pop(sandbox_id, None)

    def next(self) -> float | None:
        """When the soonest deadline is, or None if there is none."""
        self._skip_stale()
        return self._heap[0][0] if self._heap else None

    def take_due(self, now: float) -> tuple[SandboxId, ...]:
        """Remove and return those whose deadline is at or before `now`, soonest first."""
        due: list[SandboxId] = []
        while (at := self.next()) is not None and at <= now:
            _, sandbox_id = heapq.heappop(self._heap)
            del self._current[sandbox_id]
            due.append(sandbox_id)
        return tuple(due)

    def _skip_stale(self) -> None:
        """Moving or dropping leaves the old entry in the heap; it is thrown away when it comes up."""
        while self._heap and self._current.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
