# SPDX-License-Identifier: Apache-2.0
"""Followers of a process whose agent is a `Journal`: each takes as much as it is told to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from atoll_server.agent.errors import AgentFailure
from atoll_server.engine import audience, broadcast
from atoll_server.engine.audience import Audiences, Follower
from atoll_server.engine.model import Exit, Output
from tests.unit.engine.journal import ALL, NUMBER, Journal, serving

WINDOW = 2000
"""As small as the events here."""


@dataclass
class Limits:
    """Those of a broadcast that a test makes smaller."""

    window: int = WINDOW
    parting: float = 0.0
    slow: float = 50.0


@contextlib.contextmanager
def limits(limits: Limits) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(broadcast, "WINDOW_BYTES", limits.window)
        patch.setattr(audience, "WINDOW_BYTES", limits.window)
        patch.setattr(audience, "KEPT_ALONE_BYTES", limits.window // 10)
        patch.setattr(broadcast, "EVENT_BYTES", 0)
        patch.setattr(broadcast, "PARTING_SECONDS", limits.parting)
        patch.setattr(broadcast, "SLOW_SECONDS", limits.slow)
        yield


class Taker:
    """Takes as many events as it was granted, in a task of its own."""

    def __init__(self, follower: Follower) -> None:
        self.taken: list[Output] = []
        self.exit: Exit | None = None
        self.error: AgentFailure | None = None
        self.begun: int | None = None
        self.offsets = (0, 0)
        self._follower = follower
        self._granted = asyncio.Semaphore(0)
        self.task = asyncio.ensure_future(self._run())

    @property
    def size(self) -> int:
        return sum(len(event.data) for event in self.taken)

    def grant(self, count: int = 100_000) -> None:
        for _ in range(count):
            self._granted.release()

    async def leave(self) -> None:
        self.task.cancel()
        await asyncio.wait((self.task,))

    async def _run(self) -> None:
        async with self._follower as follower:
            self.begun, self.offsets = follower.position, (follower.stdout, follower.stderr)
            while True:
                await self._granted.acquire()
                try:
                    event = await anext(follower, None)
                except AgentFailure as error:
                    self.error = error
                    return
                if not isinstance(event, Output):
                    self.exit = event
                    return
                self.taken.append(event)


class Stage:
    """A journal, and those who follow it."""

    def __init__(self, journal: Journal, audiences: Audiences) -> None:
        self.journal = journal
        self.audiences = audiences
        self.takers: list[Taker] = []

    def join(self, since: int | None = 0) -> Taker:
        self.takers.append(Taker(self.audiences.follow(NUMBER, since=since)))
        return self.takers[-1]

    async def until(self, look: Callable[[], bool]) -> None:
        """What the peer does is done in tasks and sockets: it takes a few turns of the loop."""
        async with asyncio.timeout(10):
            while not look():  # noqa: ASYNC110  # sockets have no event for us
                await asyncio.sleep(0)

    async def until_all_have(self, takers: list[Taker]) -> None:
        end = self.journal.end
        await self.until(lambda: all((t.begun or 0) + t.size == end for t in takers))

    async def until_connections(self, count: int) -> None:
        await self.until(lambda: len(self.journal.readers) == count)

    async def gathered(self, count: int) -> list[Taker]:
        """So many at the same place, over one connection."""
        takers = [self.join() for _ in range(count)]
        for taker in takers:
            taker.grant()
        self.journal.write(b"a")
        await self.until_all_have(takers)
        self.journal.write(b"b")
        await self.until_all_have(takers)
        await self.until_connections(1)
        return takers


@contextlib.asynccontextmanager
async def staged(tmp_path: Path, kept: int = ALL) -> AsyncIterator[Stage]:
    """At its end nothing is left of anybody."""
    journal = Journal(kept)
    async with serving(tmp_path, journal) as agent:
        stage = Stage(journal, Audiences(agent))
        try:
            yield stage
        finally:
            for taker in stage.takers:
                await taker.leave()
        assert NUMBER not in stage.audiences
        await stage.until_connections(0)
