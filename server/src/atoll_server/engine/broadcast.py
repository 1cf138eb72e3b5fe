# SPDX-License-Identifier: Apache-2.0
"""Output of a process that comes over one connection to the agent and is taken by several listeners at their own pace.

No task stands behind it: whoever has had everything reads on for all. What is kept for the slowest has a bound, and
who stays behind it goes on over a connection of its own, as if it had never shared one.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from atoll_server.agent.errors import AgentFailure
from atoll_server.agent.process import AttachedProcess
from atoll_server.engine.model import Exit, Output

WINDOW_BYTES: Final = 1 << 20
# What is kept of it while there is one listener alone, for another who begins close by.
KEPT_ALONE_BYTES: Final = 64 << 10
# What an event takes besides its data, at most: the smallest are one byte.
EVENT_BYTES: Final = 256
# How long all wait for those who are a window behind before they are parted with.
PARTING_SECONDS: Final = 1.0
# Where they cannot be: after 60 s of it the agent would let go of all.
SLOW_SECONDS: Final = 50.0
# Left alone for longer, the agent may have let go of it, or is about to.
STALE_SECONDS: Final = 30.0


class Listener(Protocol):
    """Who takes what a broadcast brings. `position` is where it stands, and is the broadcast's to move."""

    position: int
    can_part: bool

    async def part(self) -> bool:
        """Go on over a connection of its own. False where that cannot be without a loss."""

    def let_go(self) -> None:
        """Leave for good, with an error."""


class Broadcast:
    """One connection, and the newest of what came over it. The last listener to leave closes it.

    `end` is the position up to which it has been read.
    """

    def __init__(self, attached: AttachedProcess, first: Listener) -> None:
        self.end = attached.position
        self._attached = attached
        self._listeners = {first}
        # By position. They follow one another from `_start` to `end`.
        self._events: dict[int, Output] = {}
        self._start = attached.position
        self._size = 0
        self._kept = 0
        self._last: Exit | AgentFailure | StopAsyncIteration | None = None
        self._ends = {1: attached.stdout, 2: attached.stderr}
        self._is_read = False
        self._read_at = _now()
        self._changed = asyncio.Event()
        self._full_since: float | None = None
        self._has_room = asyncio.Event()

    @property
    def is_joinable(self) -> bool:
        """Whether somebody is there and reads, or has lately, and nothing went wrong."""
        is_alive = bool(self._listeners) and not isinstance(self._last, Exception)
        return is_alive and (self._is_read or _now() - self._read_at < STALE_SECONDS)

    def can_join(self, position: int) -> bool:
        """Whether one may go on here from a position: not among the oldest, where it would soon be left behind."""
        is_held = position == self.end or position in self._events
        return is_held and self.end - position <= WINDOW_BYTES // 2

    def offsets_at(self, position: int) -> tuple[int, int]:
        """Those of stdout and stderr at a position where one can join."""
        ends = dict(self._ends)
        while (event := self._events.get(position)) is not None:
            ends[event.stream] -= len(event.data)
            position += len(event.data)
        return ends[1], ends[2]

    def has(self, listener: Listener) -> bool:
        return listener in self._listeners

    def join(self, listener: Listener) -> None:
        self._listeners.add(listener)

    def leave(self, listener: Listener) -> None:
        """May be repeated."""
        self._listeners.discard(listener)
        if not self._listeners:
            self._attached.close()
            self._events.clear()
            return
        self._trim()

    def keep(self, size: int) -> None:
        """Keep so much of what all have taken, for those who may join."""
        self._kept = size
        if self._listeners:
            self._trim()

    def take(self, listener: Listener) -> Output | Exit | None:
        """The next event for a listener; None if it has had everything. Raises what ended the connection."""
        event = self._events.get(listener.position)
        if event is None:
            if isinstance(self._last, Exception):
                # One for all of them: each adds its own way to it.
                raise self._last.with_traceback(None)
            return self._last
        was_slowest = listener.position == self._start
        listener.position += len(event.data)
        if was_slowest:
            self._trim()
        return event

    async def advance(self) -> None:
        """Return when it is worth another look, at once or later. Reads, unless somebody else is at it.

        Cancelled at any moment it leaves everything to the next.
        """
        if self._is_read:
            await self._changed.wait()
            return
        self._is_read = True
        try:
            await (self._make_room() if self._is_full() else self._read())
        finally:
            self._is_read, self._read_at = False, _now()
            # Wakes those who wait now, and nobody later.
            self._changed.set()
            self._changed.clear()

    async def _read(self) -> None:
        try:
            event = await anext(self._attached)
        except (AgentFailure, StopAsyncIteration) as end:
            self._last = end
            return
        if isinstance(event, Exit):
            self._last = event
        elif event.data:
            self._events[self.end] = event
            self._ends[event.stream] += len(event.data)
            self.end += len(event.data)
            self._size += len(event.data) + EVENT_BYTES
            self._trim()

    def _is_full(self) -> bool:
        """Full from one window on, until half of it is taken: so that those who wait are not woken for each event."""
        if self._full_since is None and self._size > WINDOW_BYTES:
            self._full_since = _now()
            self._has_room.clear()
            self._trim()
        return self._full_since is not None

    async def _make_room(self) -> None:
        """One step towards it: wait for the slowest, part with it, or let go of it."""
        assert self._full_since is not None, "there is no room to be made"
        waited = _now() - self._full_since
        slowest = min(self._listeners, key=_position)
        patience = PARTING_SECONDS if slowest.can_part else SLOW_SECONDS
        if waited < patience:
            await self._wait_room(patience - waited)
        elif slowest.can_part:
            slowest.can_part = await slowest.part()
        else:
            slowest.let_go()

    async def _wait_room(self, patience: float) -> None:
        try:
            async with asyncio.timeout(patience):
                await self._has_room.wait()
        except TimeoutError:
            return  # the next step is another

    def _trim(self) -> None:
        """Drop the oldest that everybody has taken, as far as it is not kept."""
        kept = self._kept if self._full_since is None else min(self._kept, WINDOW_BYTES // 2)
        if self._size > kept:
            slowest = min(map(_position, self._listeners))
            while self._size > kept and self._start < slowest:
                taken = len(self._events.pop(self._start).data)
                self._start += taken
                self._size -= taken + EVENT_BYTES
        if self._full_since is not None and self._size <= WINDOW_BYTES // 2:
            self._full_since = None
            self._has_room.set()


def _position(listener: Listener) -> int:
    return listener.position


def _now() -> float:
    return asyncio.get_running_loop().time()
