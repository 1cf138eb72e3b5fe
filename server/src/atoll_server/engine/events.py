# SPDX-License-Identifier: Apache-2.0
"""What has happened lately, in order, for whoever wants to know: kept in memory, within bounds.

Nobody has a queue: each reader stands at a number, as in a journal. One that stays behind is told how much it has
missed, and costs the others nothing. Events have ids that name the life of the server which they belong to, so that
one who comes back after a restart is told that there is a gap. All of it happens on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Self

from atoll_server.clock import Clock
from atoll_server.engine import errors
from atoll_server.engine.happenings import (
    EventsLost,
    Happening,
    LossReason,
    SandboxTerminated,
)
from atoll_server.engine.ids import event_id, event_place, new_epoch
from atoll_server.engine.model import SandboxId

KEPT_EVENTS: Final = 4096
KEPT_BYTES: Final = 8 << 20
# What an event takes besides its text, about.
EVENT_BYTES: Final = 512
READERS_LIMIT: Final = 256

LATEST: Final = "latest"
"""In place of an event's id: only what happens from now on."""


@dataclass(frozen=True)
class SandboxEvent:
    """Something that happened, with its place in the log. A loss has that of the last event that it stands for."""

    epoch: str
    number: int
    at: datetime
    sandbox_id: SandboxId | None
    what: Happening

    @property
    def id(self) -> str:
        return event_id(self.epoch, self.number)

    @property
    def size(self) -> int:
        """What it takes to keep it, about."""
        return EVENT_BYTES + self.what.size


@dataclass(frozen=True)
class EventsEnd:
    """The end of a reading: where to go on."""

    id: str


@dataclass(frozen=True)
class EventFilter:
    """All given conditions must hold; no types are all of them."""

    sandbox_id: SandboxId | None = None
    types: frozenset[str] = frozenset()

    def matches(self, event: SandboxEvent) -> bool:
        is_of_sandbox = self.sandbox_id in (None, event.sandbox_id)
        return is_of_sandbox and (not self.types or event.what.type in self.types)

    def ends_with(self, event: SandboxEvent) -> bool:
        """Whether nothing can follow: the one sandbox that it is about has ended."""
        return isinstance(event.what, SandboxTerminated) and event.sandbox_id == self.sandbox_id


class EventLog:
    """The newest events of this life of the server: at most `keep`, of about `keep_bytes` in all."""

    def __init__(
        self, clock: Clock, *, keep: int = KEPT_EVENTS, keep_bytes: int = KEPT_BYTES
    ) -> None:
        self.epoch = new_epoch()
        self.last = 0
        self._clock = clock
        self._keep = keep
        self._keep_bytes = keep_bytes
        # By number. They follow one another up to `last`.
        self._events: dict[int, SandboxEvent] = {}
        self._size = 0
        self._readers: set[Reading] = set()

    @property
    def first(self) -> int:
        """The number of the oldest event that is kept; one more than `last` if there is none."""
        return self.last + 1 - len(self._events)

    @property
    def size(self) -> int:
        """What the events take that are kept."""
        return self._size

    def add(self, sandbox_id: SandboxId, what: Happening) -> None:
        """Something has happened. Never waits."""
        self.last += 1
        event = SandboxEvent(self.epoch, self.last, self._clock.now(), sandbox_id, what)
        self._events[event.number] = event
        self._size += event.size
        while len(self._events) > self._keep or (
            self._size > self._keep_bytes and len(self._events) > 1
        ):
            self._drop_oldest()
        for reader in self._readers:
            reader.offer(event)

    def read(
        self,
        wanted: EventFilter,
        *,
        since: str | None = None,
        follow: bool = True,
        is_over: Callable[[], bool] = lambda: False,
    ) -> Reading:
        """The events after the one with the id `since`; None is from the oldest that is kept.

        `is_over` says, when the reading begins, whether nothing more can come.
        """
        return Reading(self, wanted, since, follow, is_over)

    def after(self, number: int) -> Iterator[SandboxEvent]:
        """Those after a number, as long as none is added meanwhile."""
        for place in range(max(number + 1, self.first), self.last + 1):
            yield self._events[place]

    def enter(self, reader: Reading) -> None:
        if len(self._readers) >= READERS_LIMIT:
            raise errors.ResourceExhausted(
                f"events have {READERS_LIMIT} readers, which is the limit: try again when others have left"
            )
        self._readers.add(reader)

    def leave(self, reader: Reading) -> None:
        self._readers.discard(reader)

    def loss(self, number: int, sandbox_id: SandboxId | None, what: EventsLost) -> SandboxEvent:
        """What is told in place of all events up to a number."""
        return SandboxEvent(self.epoch, number, self._clock.now(), sandbox_id, what)

    def _drop_oldest(self) -> None:
        event = self._events.pop(self.first)
        self._size -= event.size
        for reader in self._readers:
            reader.miss(event)


class Reading:
    """Events as one reader has asked for them: `async with` begins, `async for` gives them and at last an `EventsEnd`.

    There is no end while it follows the events of a server, or of a sandbox that has not ended. Entering raises
    `InvalidRequest` for an id that no event has, and `ResourceExhausted` where there are too many readers.
    """

    def __init__(
        self,
        log: EventLog,
        wanted: EventFilter,
        since: str | None,
        follow: bool,
        was_over: Callable[[], bool],
    ) -> None:
        self._log = log
        self._wanted = wanted
        self._since = since
        self._follow = follow
        self._was_over = was_over
        self._loss: EventsLost | None = None
        self._position = self._until = 0
        self._is_over = False
        self._has_said_end = False
        self._is_idle = False
        self._news = asyncio.Event()

    @property
    def place(self) -> str:
        """The id to go on after. As long as a loss has yet to be told, that of who would not hear of it otherwise."""
        if self._loss is not None and self._since not in (None, LATEST):
            return str(self._since)
        return event_id(self._log.epoch, self._position)

    async def __aenter__(self) -> Self:
        self._position = self._find_beginning()
        self._until = self._log.last
        self._follow &= not self._was_over()
        self._log.enter(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._log.leave(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SandboxEvent | EventsEnd:
        while True:
            event = self._take()
            if event is not None:
                return event
            if self._is_over or (not self._follow and self._position >= self._until):
                return self._end()
            await self._wait()

    def offer(self, event: SandboxEvent) -> None:
        """The log has a new event. Who has more to read anyway need not be told."""
        if not self._is_idle:
            return
        if self._wanted.matches(event) or self._wanted.ends_with(event):
            self._is_idle = False
            self._news.set()
        else:
            self._position = event.number

    def miss(self, event: SandboxEvent) -> None:
        """The log has dropped an event."""
        if event.number <= self._position:
            return
        self._position = event.number
        self._is_over |= self._wanted.ends_with(event)
        if self._wanted.matches(event):
            loss = self._loss or EventsLost(0, LossReason.OVERFLOW)
            self._loss = replace(loss, count=None if loss.count is None else loss.count + 1)

    def _find_beginning(self) -> int:
        log, since = self._log, self._since
        if since is None:
            return log.first - 1
        if since == LATEST:
            return log.last
        place = event_place(since)
        if place is None or (place[0] == log.epoch and place[1] > log.last):
            raise errors.InvalidRequest("no event has such an id: give one that an event came with")
        epoch, number = place
        if epoch != log.epoch:
            self._loss = EventsLost(None, LossReason.RESTART)
            return log.first - 1
        if number < log.first - 1:
            # Who wants only some of them cannot be told how many of those are gone.
            is_known = self._wanted == EventFilter()
            count = log.first - 1 - number if is_known else None
            self._loss = EventsLost(count, LossReason.OVERFLOW)
        return max(number, log.first - 1)

    def _take(self) -> SandboxEvent | None:
        """The next one that is wanted, or word that some are lost; None if there is nothing now."""
        loss, self._loss = self._loss, None
        if loss is not None:
            return self._log.loss(self._position, self._wanted.sandbox_id, loss)
        for event in self._log.after(self._position):
            if not self._follow and event.number > self._until:
                return None
            self._position = event.number
            self._is_over |= self._wanted.ends_with(event)
            if self._wanted.matches(event):
                return event
        return None

    def _end(self) -> EventsEnd:
        if self._has_said_end:
            raise StopAsyncIteration
        self._has_said_end = True
        return EventsEnd(self.place)

    async def _wait(self) -> None:
        self._news.clear()
        self._is_idle = True
        try:
            await self._news.wait()
        finally:
            self._is_idle = False
