# SPDX-License-Identifier: Apache-2.0
"""Sandboxes built ahead, for whoever asks next.

Clients never see the pool: a sandbox out of it is like one that was built for them, and one that has died is not given
to anybody. It keeps nothing over a restart: what it held is swept at the next start, as nobody remembers it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import select
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from atoll_server.clock import Clock, wait_for_news
from atoll_server.engine.builder import Blank
from atoll_server.engine.errors import EngineError
from atoll_server.engine.model import Limits, SandboxId
from atoll_server.engine.pool_plan import (
    DEMAND_HALF_LIFE,
    Load,
    PoolPlan,
    PoolSettings,
    Shape,
    Stock,
    plan_pool,
    plan_targets,
)

_log = logging.getLogger(__name__)

MAX_SHAPES: Final = 32
# How long nothing of a shape is built after a failure, doubled with each one that follows.
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
# Nothing of a shape is built so soon after somebody has asked for it: whoever got a sandbox uses it now, and building
# another takes all processors for a while. Who keeps asking does not put it off for longer than a burst.
CALM: Final = 0.1
LONGEST_BURST: Final = 1.0


@dataclass(frozen=True)
class ShapeStatistics:
    """Counts since the server's start, and what there is now. `target` is how many should be idle."""

    shape: Shape
    target: int
    idle: int
    building: int
    demand: float
    hits: int
    misses: int
    built: int
    failed: int
    died: int
    retired: int


def read_load(creating: int) -> Load:
    """What the host does now."""
    with open("/proc/loadavg", encoding="ascii") as file:
        runnable = int(file.read().split()[3].split("/")[0])
    # One of them is whoever reads this.
    return Load(creating, max(0, runnable - 1) / (os.cpu_count() or 1))


@dataclass
class _Shelf:
    """One shape's blanks and counts."""

    shape: Shape
    is_standing: bool
    idle: dict[SandboxId, tuple[Blank, float]] = field(default_factory=dict)
    building: int = 0
    demand: float = 0.0
    demand_at: float = -math.inf
    burst_since: float = -math.inf
    failures: int = 0
    not_before: float = 0.0
    hits: int = 0
    misses: int = 0
    built: int = 0
    failed: int = 0
    died: int = 0
    retired: int = 0

    def demand_now(self, now: float) -> float:
        """One request counts 1, and half of it after each half-life. A standing shape is never out of demand."""
        decayed: float = self.demand * 0.5 ** ((now - self.demand_at) / DEMAND_HALF_LIFE)
        return max(decayed, 1.0) if self.is_standing else decayed

    def ask(self, now: float) -> None:
        self.demand = self.demand_now(now) + 1
        if now - self.demand_at > CALM:
            self.burst_since = now
        self.demand_at = now

    def stock(self, now: float) -> Stock:
        idle = tuple((id, at) for id, (_, at) in self.idle.items())
        calm_at = min(self.demand_at + CALM, self.burst_since + LONGEST_BURST)
        not_before = max(self.not_before, calm_at)
        return Stock(self.shape, idle, self.building, self.demand_now(now), not_before)


class Pool:
    """Holds what was built ahead. `run` keeps it filled; everything else never waits."""

    def __init__(
        self,
        settings: PoolSettings,
        clock: Clock,
        *,
        build: Callable[[Shape], Awaitable[Blank]],
        remove: Callable[[Blank], Coroutine[Any, Any, None]],
        load: Callable[[], Load],
        standing: Sequence[Shape] = (),
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._build = build
        self._remove = remove
        self._load = load
        self._shelves = {shape: _Shelf(shape, is_standing=True) for shape in standing}
        self._watched: dict[SandboxId, int] = {}
        self._changed = asyncio.Event()
        self._is_closing = False

    async def run(self) -> None:
        """Build and end as planned, until `close`. Ends with an empty pool."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            while not self._is_closing:
                self._changed.clear()
                plan = self._plan()
                self._apply(plan)
                await wait_for_news(self._clock, self._changed, plan.look_at)
        for shelf in self._shelves.values():
            await asyncio.gather(*(self._remove(self._unshelve(shelf, i)) for i in [*shelf.idle]))

    def close(self) -> None:
        """Have `run` end."""
        self._is_closing = True
        self._changed.set()

    def take(self, shape: Shape) -> Blank | None:
        """A sandbox of this shape that has not died, if there is one. Either way the demand is noted."""
        shelf = self._shelf(shape)
        shelf.ask(self._clock.monotonic())
        self._changed.set()
        while shelf.idle:
            # The newest: it is the least likely to be retired just now, and its memory the least likely to be cold.
            sandbox_id = next(reversed(shelf.idle))
            is_dead = _has_ended(self._watched[sandbox_id])
            blank = self._unshelve(shelf, sandbox_id)
            if not is_dead:
                shelf.hits += 1
                return blank
            self._bury(shelf, blank)
        shelf.misses += 1
        return None

    def note_death(self, shape: Shape) -> None:
        """One that was taken turned out to be dead, and whoever took it has removed it."""
        shelf = self._shelf(shape)
        shelf.hits -= 1
        shelf.died += 1

    def ids(self) -> list[SandboxId]:
        """Those that are held."""
        return list(self._watched)

    def limits(self) -> list[Limits]:
        """What each of those that are held, or being built, is promised."""
        return [
            shelf.shape.spec().limits
            for shelf in self._shelves.values()
            for _ in range(len(shelf.idle) + shelf.building)
        ]

    def resize(self, settings: PoolSettings) -> None:
        """Go by other settings from now on."""
        self._settings = settings
        self._changed.set()

    @property
    def settings(self) -> PoolSettings:
        return self._settings

    def statistics(self) -> tuple[ShapeStatistics, ...]:
        """What there is of each shape that is or was in demand."""
        now = self._clock.monotonic()
        stocks = [shelf.stock(now) for shelf in self._shelves.values()]
        targets = plan_targets(self._settings, stocks)
        return tuple(
            ShapeStatistics(
                shape=shelf.shape,
                target=targets[shelf.shape],
                idle=len(shelf.idle),
                building=shelf.building,
                demand=shelf.demand_now(now),
                hits=shelf.hits,
                misses=shelf.misses,
                built=shelf.built,
                failed=shelf.failed,
                died=shelf.died,
                retired=shelf.retired,
            )
            for shelf in self._shelves.values()
        )

    def _plan(self) -> PoolPlan:
        now = self._clock.monotonic()
        stocks = [shelf.stock(now) for shelf in self._shelves.values()]
        return plan_pool(self._settings, stocks, self._load(), now)

    def _apply(self, plan: PoolPlan) -> None:
        for sandbox_id in plan.retire:
            shelf = next(it for it in self._shelves.values() if sandbox_id in it.idle)
            shelf.retired += 1
            self._tasks.create_task(self._remove(self._unshelve(shelf, sandbox_id)))
        for shape in plan.start:
            shelf = self._shelves[shape]
            shelf.building += 1
            self._tasks.create_task(self._fill(shelf))

    async def _fill(self, shelf: _Shelf) -> None:
        try:
            blank = await self._build(shelf.shape)
        except EngineError as error:
            shelf.failed += 1
            shelf.failures += 1
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (shelf.failures - 1))
            shelf.not_before = self._clock.monotonic() + pause
            _log.warning("the pool waits %g s with %s: %s", pause, shelf.shape, error)
        else:
            shelf.built += 1
            shelf.failures = 0
            self._shelve(shelf, blank)
        finally:
            shelf.building -= 1
            self._changed.set()

    def _shelve(self, shelf: _Shelf, blank: Blank) -> None:
        assert blank.site.pid is not None
        try:
            descriptor = os.pidfd_open(blank.site.pid)
        except ProcessLookupError:
            self._bury(shelf, blank)
            return
        self._watched[blank.id] = descriptor
        asyncio.get_running_loop().add_reader(descriptor, self._on_death, shelf, blank.id)
        shelf.idle[blank.id] = (blank, self._clock.monotonic())

    def _unshelve(self, shelf: _Shelf, sandbox_id: SandboxId) -> Blank:
        descriptor = self._watched.pop(sandbox_id)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
        return shelf.idle.pop(sandbox_id)[0]

    def _on_death(self, shelf: _Shelf, sandbox_id: SandboxId) -> None:
        self._bury(shelf, self._unshelve(shelf, sandbox_id))
        self._changed.set()

    def _bury(self, shelf: _Shelf, blank: Blank) -> None:
        shelf.died += 1
        _log.warning("sandbox %s of the pool died", blank.id)
        self._tasks.create_task(self._remove(blank))

    def _shelf(self, shape: Shape) -> _Shelf:
        if shape not in self._shelves:
            self._forget_one()
            self._shelves[shape] = _Shelf(shape, is_standing=False)
        return self._shelves[shape]

    def _forget_one(self) -> None:
        """Keep the number of shapes within its bound: whoever asks for many pushes the least wanted out."""
        if len(self._shelves) < MAX_SHAPES:
            return
        now = self._clock.monotonic()
        idle = [it for it in self._shelves.values() if not (it.is_standing or it.building)]
        if idle:
            least = min(idle, key=lambda it: it.demand_now(now))
            for sandbox_id in [*least.idle]:
                self._tasks.create_task(self._remove(self._unshelve(least, sandbox_id)))
            del self._shelves[least.shape]


def _has_ended(descriptor: int) -> bool:
    """Whether the process of a pidfd has ended, also where the loop has not heard of it yet."""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(0))
