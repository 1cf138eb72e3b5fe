# SPDX-License-Identifier: Apache-2.0
"""The pool with a builder that only starts `sleep`: what is held, handed out and given up."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from atoll_server.agent.client import AgentClient
from atoll_server.clock import SystemClock
from atoll_server.engine.builder import Blank
from atoll_server.engine.errors import Internal
from atoll_server.engine.model import RuntimeKind, SandboxId
from atoll_server.engine.pool import MAX_SHAPES, Pool
from atoll_server.engine.pool_plan import Load, PoolSettings, Shape
from atoll_server.engine.site import Site
from atoll_server.runtimes.cgroups import Group
from atoll_server.runtimes.fake import Unisolated

pytestmark = pytest.mark.anyio

HOST = Shape("host", RuntimeKind.CONTAINER, 4096, 10240)
OTHER = Shape("other", RuntimeKind.CONTAINER, 4096, 10240)


class Sleepers:
    """Builds blanks of which nothing but the first process is real."""

    def __init__(self) -> None:
        self.processes: dict[SandboxId, subprocess.Popen[bytes]] = {}
        self.removed: list[SandboxId] = []
        self.is_broken = False
        self.built = 0

    async def build(self, shape: Shape) -> Blank:
        await asyncio.sleep(0)
        if self.is_broken:
            raise Internal("it does not work today")
        self.built += 1
        sandbox_id = SandboxId(f"sb_{self.built}")
        self.processes[sandbox_id] = start_sleeping()
        group = Group(2, {"unified": Path("/nonexistent")})
        site = Site(sandbox_id, shape.spec(), Unisolated(Path("/nonexistent")), group)
        site.pid = self.processes[sandbox_id].pid
        return Blank(site, AgentClient("/nonexistent"), "/")

    async def remove(self, blank: Blank) -> None:
        self.removed.append(blank.id)
        process = self.processes.pop(blank.id)
        process.kill()
        process.wait()

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


@asynccontextmanager
async def open_pool(
    sleepers: Sleepers, settings: PoolSettings, *standing: Shape
) -> AsyncIterator[Pool]:
    pool = Pool(
        settings,
        SystemClock(),
        build=sleepers.build,
        remove=sleepers.remove,
        load=Load,
        standing=standing,
    )
    running = asyncio.create_task(pool.run())
    try:
        yield pool
    finally:
        pool.close()
        await running
        sleepers.stop()


def start_sleeping() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "1000"])


def kill_and_leave(process: subprocess.Popen[bytes]) -> None:
    """Return once it has ended; its parent has yet to hear of it."""
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the pool tells nobody of what it does
            await asyncio.sleep(0.001)


def idle(pool: Pool, shape: Shape = HOST) -> int:
    return sum(it.idle for it in pool.statistics() if it.shape == shape)


async def test_a_standing_shape_is_held_before_anybody_asks() -> None:
    sleepers = Sleepers()
    async with open_pool(sleepers, PoolSettings(size=3), HOST) as pool:
        await until(lambda: idle(pool) == 3)

        blank = pool.take(HOST)

        assert blank is not None
        assert blank.id in sleepers.processes
        await until(lambda: idle(pool) == 3)
        (statistics,) = pool.statistics()
        assert (statistics.hits, statistics.misses, statistics.built) == (1, 0, 4)


async def test_what_was_taken_is_not_the_pools_to_end() -> None:
    sleepers = Sleepers()
    async with open_pool(sleepers, PoolSettings(size=1), HOST) as pool:
        await until(lambda: idle(pool) == 1)
        blank = pool.take(HOST)
        assert blank is not None
        taken = sleepers.processes.pop(blank.id)
    try:
        assert blank.id not in sleepers.removed
        assert taken.poll() is None
    finally:
        taken.kill()
        taken.wait()


async def test_closing_ends_all_that_is_held() -> None:
    sleepers = Sleepers()
    async with open_pool(sleepers, PoolSettings(size=3), HOST) as pool:
        await until(lambda: idle(pool) >= 1)

    assert sleepers.processes == {}
    assert len(sleepers.removed) == sleepers.built


async def test_one_that_has_died_is_never_handed_out() -> None:
    """Attack 102."""
    sleepers = Sleepers()
    async with open_pool(sleepers, PoolSettings(size=3), HOST) as pool:
        await until(lambda: idle(pool) == 3)
        dead = list(sleepers.processes)
        for process in sleepers.processes.values():
            kill_and_leave(process)

        # Before the loop had a turn in which to hear of it.
        assert pool.take(HOST) is None

        await until(lambda: idle(pool) == 3)
        assert set(dead) <= set(sleepers.removed)
        blank = pool.take(HOST)
        assert blank is not None
        assert blank.id not in dead
        assert pool.statistics()[0].died == 3


async def test_a_death_is_noticed_without_being_asked() -> None:
    sleepers = Sleepers()
    async with open_pool(sleepers, PoolSettings(size=1), HOST) as pool:
        await until(lambda: idle(pool) == 1)
        (process,) = sleepers.processes.values()

        process.kill()

        await until(lambda: sleepers.built == 2 and idle(pool) == 1)
        assert len(sleepers.removed) == 1


async def test_a_shape_that_was_asked_for_is_held_from_then_on() -> None:
    async with open_pool(Sleepers(), PoolSettings(size=2), HOST) as pool:
        await until(lambda: idle(pool) == 2)

        assert pool.take(OTHER) is None

        await until(lambda: idle(pool, OTHER) == 1)
        assert idle(pool) == 1
        assert pool.take(OTHER) is not None


async def test_another_size_holds_from_then_on() -> None:
    sleepers = Sleepers()
    async with open_pool(sleepers, PoolSettings(size=1), HOST) as pool:
        await until(lambda: idle(pool) == 1)

        pool.resize(PoolSettings(size=3))
        await until(lambda: idle(pool) == 3)
        pool.resize(PoolSettings(size=0))
        await until(lambda: idle(pool) == 0)

        assert pool.take(HOST) is None
        assert sleepers.processes == {}


async def test_what_cannot_be_built_is_tried_again_later() -> None:
    sleepers = Sleepers()
    sleepers.is_broken = True
    async with open_pool(sleepers, PoolSettings(size=1), HOST) as pool:
        await until(lambda: pool.statistics()[0].failed == 1)
        sleepers.is_broken = False

        await until(lambda: idle(pool) == 1)

        assert pool.statistics()[0].failed == 1


async def test_one_that_is_too_old_is_replaced() -> None:
    sleepers = Sleepers()
    async with open_pool(sleepers, PoolSettings(size=1, max_idle=0.05), HOST) as pool:
        await until(lambda: len(sleepers.removed) >= 2)

        assert pool.statistics()[0].retired >= 2


async def test_asking_for_many_shapes_does_not_make_the_pool_grow() -> None:
    sleepers = Sleepers()
    async with open_pool(sleepers, PoolSettings(size=2), HOST) as pool:
        for number in range(10 * MAX_SHAPES):
            pool.take(Shape(f"image-{number}", RuntimeKind.CONTAINER, 4096, 10240))
            await asyncio.sleep(0)

        await until(lambda: sum(it.building for it in pool.statistics()) == 0)
        assert len(pool.statistics()) <= MAX_SHAPES
        assert sum(it.idle for it in pool.statistics()) <= 2 + MAX_SHAPES
        assert any(it.shape == HOST for it in pool.statistics())
