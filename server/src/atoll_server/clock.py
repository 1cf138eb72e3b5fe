# SPDX-License-Identifier: Apache-2.0
"""Where time comes from. Handed down through constructors, so that tests can move it by hand."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Instants for records, a monotonic reading for durations, and waiting."""

    def now(self) -> datetime:
        """The current instant, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return once `monotonic()` has advanced by `seconds`."""
        ...


class SystemClock:
    """The host's time."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ManualClock:
    """A clock that moves only by `advance`. For tests."""

    def __init__(self, start: datetime = datetime(2030, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            return
        wakened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._elapsed + seconds, wakened))
        await wakened

    def advance(self, seconds: float) -> None:
        """Move on, and wake whoever slept until then or earlier."""
        self._elapsed += seconds
        due = [sleeper for sleeper in self._sleepers if sleeper[0] <= self._elapsed]
        self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[0] > self._elapsed]
        for _, wakened in due:
            if not wakened.done():
                wakened.set_result(None)


async def wait_for_news(clock: Clock, news: asyncio.Event, at: float | None) -> None:
    """Return when `news` is set, or once `clock.monotonic()` has reached `at`; None is never."""
    async with asyncio.TaskGroup() as waiting:
        tasks: list[asyncio.Task[object]] = [waiting.create_task(news.wait())]
        if at is not None:
            tasks.append(waiting.create_task(clock.sleep(max(0.0, at - clock.monotonic()))))
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
