# SPDX-License-Identifier: Apache-2.0
import asyncio
from datetime import timedelta

import pytest

from atoll_server.clock import ManualClock

pytestmark = pytest.mark.anyio


async def test_manual_clock_wakes_sleepers_in_their_time() -> None:
    clock = ManualClock()
    start = clock.now()
    async with asyncio.TaskGroup() as group:
        sleeper = group.create_task(clock.sleep(10))
        await asyncio.sleep(0)

        clock.advance(9)
        await asyncio.sleep(0)
        early = sleeper.done()
        clock.advance(1)

    assert not early
    assert clock.now() - start == timedelta(seconds=10)
    assert clock.monotonic() == 10
