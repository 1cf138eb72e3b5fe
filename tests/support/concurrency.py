# SPDX-License-Identifier: Apache-2.0
"""Many calls at once, in both colours; `tools/unasync.py` swaps them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

MANY = 128


async def async_at_once(
    calls: Iterable[Callable[[], Awaitable[Result]]], *, at_most: int = MANY
) -> list[Result]:
    """The results of all calls, in their order."""
    free = asyncio.Semaphore(at_most)

    async def call_when_free(call: Callable[[], Awaitable[Result]]) -> Result:
        async with free:
            return await call()

    return await asyncio.gather(*map(call_when_free, calls))


def sync_at_once(calls: Iterable[Callable[[], Result]], *, at_most: int = MANY) -> list[Result]:
    """The results of all calls, in their order."""
    with ThreadPoolExecutor(at_most) as pool:
        return list(pool.map(lambda call: call(), calls))
