# SPDX-License-Identifier: Apache-2.0
"""The log of events: its bounds, who reads what, and what is said of what is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from atoll_server.clock import ManualClock
from atoll_server.engine import errors
from atoll_server.engine.events import (
    EVENT_BYTES,
    LATEST,
    READERS_LIMIT,
    EventFilter,
    EventLog,
    EventsEnd,
    Reading,
    SandboxEvent,
)
from atoll_server.engine.happenings import (
    EventsLost,
    ExecStarted,
    LossReason,
    SandboxStarted,
    SandboxTerminated,
)
from atoll_server.engine.model import Cause, SandboxId

T = TypeVar("T")
A, B = SandboxId("sb_a"), SandboxId("sb_b")
ALL = EventFilter()
STARTED = SandboxStarted(0.5)
ENDED = SandboxTerminated(1.0, Cause.USER, None)


def exec_started(text: str = "true") -> ExecStarted:
    return ExecStarted(None, text, False, cwd="/")


def make_log(**bounds: int) -> EventLog:
    return EventLog(ManualClock(), **bounds)


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of what never has to wait."""
    try:
        work.send(None)
    except StopIteration as result:
        value: T = result.value
        return value
    work.close()
    raise AssertionError("it waits")


async def read_now(
    log: EventLog, wanted: EventFilter = ALL, since: str | None = None
) -> list[SandboxEvent]:
    async with log.read(wanted, since=since, follow=False) as reading:
        return [event async for event in reading if isinstance(event, SandboxEvent)]


def numbers(events: list[SandboxEvent]) -> list[int]:
    return [event.number for event in events]


def losses(events: list[SandboxEvent]) -> list[EventsLost]:
    return [event.what for event in events if isinstance(event.what, EventsLost)]


async def test_events_are_read_in_order_with_ids_that_go_up() -> None:
    log = make_log()
    for _ in range(3):
        log.add(A, STARTED)

    events = await read_now(log)

    assert numbers(events) == [1, 2, 3]
    assert [event.id for event in events] == [f"evt_{log.epoch}_{n}" for n in (1, 2, 3)]


async def test_reader_gets_only_what_it_asked_for() -> None:
    log = make_log()
    for sandbox_id, what in [(A, STARTED), (B, STARTED), (A, exec_started()), (A, ENDED)]:
        log.add(sandbox_id, what)

    assert numbers(await read_now(log, EventFilter(A))) == [1, 3, 4]
    assert numbers(await read_now(log, EventFilter(None, frozenset({"sandbox.started"})))) == [1, 2]
    assert numbers(await read_now(log, EventFilter(A, frozenset({"exec.started"})))) == [3]


async def test_reading_begins_after_the_event_that_is_known() -> None:
    log = make_log()
    for _ in range(3):
        log.add(A, STARTED)
    first = (await read_now(log))[0]

    assert numbers(await read_now(log, since=first.id)) == [2, 3]
    assert await read_now(log, since=LATEST) == []


async def test_reader_that_follows_is_woken_by_what_it_asked_for() -> None:
    log = make_log()
    async with log.read(EventFilter(A)) as reading:
        coming = asyncio.ensure_future(anext(reading))
        await asyncio.sleep(0)
        log.add(B, STARTED)
        await asyncio.sleep(0)
        assert not coming.done()
        log.add(A, STARTED)
        event = await coming

    assert isinstance(event, SandboxEvent)
    assert event.number == 2


async def test_reading_of_a_sandbox_ends_with_it_whatever_was_asked_for() -> None:
    log = make_log()
    async with log.read(EventFilter(A, frozenset({"exec.started"}))) as reading:
        coming = asyncio.ensure_future(anext(reading))
        await asyncio.sleep(0)
        log.add(A, ENDED)
        end = await coming
        with pytest.raises(StopAsyncIteration):
            await anext(reading)

    assert isinstance(end, EventsEnd)
    assert end.id == f"evt_{log.epoch}_1"


async def test_sandbox_that_was_over_before_has_only_its_past() -> None:
    log = make_log()
    log.add(A, STARTED)
    async with log.read(EventFilter(A), is_over=lambda: True) as reading:
        told = [await anext(reading), await anext(reading)]

    assert isinstance(told[0], SandboxEvent)
    assert isinstance(told[1], EventsEnd)


async def test_slow_reader_is_told_how_many_it_missed_and_goes_on() -> None:
    log = make_log(keep=4)
    async with log.read(EventFilter(A)) as slow:
        for number in range(10):
            log.add(A if number % 2 else B, STARTED)
        told = [await anext(slow) for _ in range(3)]

    events = [event for event in told if isinstance(event, SandboxEvent)]
    assert losses(events) == [EventsLost(3, LossReason.OVERFLOW)]
    assert numbers(events) == [6, 8, 10]


async def test_reader_of_another_life_of_the_server_is_told_of_the_gap() -> None:
    earlier, log = make_log(), make_log()
    earlier.add(A, STARTED)
    known = (await read_now(earlier))[0].id
    log.add(B, STARTED)

    events = await read_now(log, since=known)

    assert losses(events) == [EventsLost(None, LossReason.RESTART)]
    assert numbers(events) == [0, 1]


async def test_gap_is_told_to_who_was_cut_off_before_hearing_of_it() -> None:
    log = make_log()
    async with log.read(ALL, since="evt_aaaaaaaaaa_7") as reading:
        begin = reading.place

    assert losses(await read_now(log, since=begin)) == [EventsLost(None, LossReason.RESTART)]


async def test_reader_that_comes_too_late_is_told_how_much_is_gone() -> None:
    log = make_log(keep=2)
    log.add(A, STARTED)
    known = (await read_now(log))[0].id
    for _ in range(5):
        log.add(A, STARTED)

    everything = await read_now(log, since=known)
    some = await read_now(log, EventFilter(A), since=known)

    assert losses(everything) == [EventsLost(3, LossReason.OVERFLOW)]
    assert losses(some) == [EventsLost(None, LossReason.OVERFLOW)]
    assert numbers(everything) == numbers(some) == [4, 5, 6]


@pytest.mark.parametrize("since", ["", "x", "evt_", "evt_x_1", "evt_aaaaaaaaaa_-1", "1"])
async def test_what_is_no_id_is_refused(since: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        await read_now(make_log(), since=since)


async def test_id_of_an_event_yet_to_come_is_refused() -> None:
    log = make_log()
    with pytest.raises(errors.InvalidRequest):
        await read_now(log, since=f"evt_{log.epoch}_1")


async def test_there_is_room_for_a_number_of_readers() -> None:
    log = make_log()
    readings = [log.read(ALL) for _ in range(READERS_LIMIT)]
    for reading in readings:
        await reading.__aenter__()

    with pytest.raises(errors.ResourceExhausted):
        await log.read(ALL).__aenter__()
    await readings[0].__aexit__(None, None, None)
    await log.read(ALL).__aenter__()


class LogAgainstList(RuleBasedStateMachine):
    """Readers that come, read and stay behind, beside a log that is filled."""

    KEEP, KEEP_BYTES = 8, 8 * EVENT_BYTES

    def __init__(self) -> None:
        super().__init__()
        self.log = make_log(keep=self.KEEP, keep_bytes=self.KEEP_BYTES)
        self.added: list[SandboxId] = []
        self.readers: list[tuple[Reading, EventFilter, int]] = []
        """With how many events there had been when it began, and how many of its own it has been told of."""
        self.told: list[int] = []

    @rule(sandbox_id=st.sampled_from([A, B]), size=st.integers(0, 3 * EVENT_BYTES))
    def add(self, sandbox_id: SandboxId, size: int) -> None:
        self.log.add(sandbox_id, exec_started("x" * size))
        self.added.append(sandbox_id)

    @rule(sandbox_id=st.sampled_from([None, A, B]))
    def begin(self, sandbox_id: SandboxId | None) -> None:
        wanted = EventFilter(sandbox_id)
        reading = self.log.read(wanted, since=LATEST)
        run(reading.__aenter__())
        self.readers.append((reading, wanted, len(self.added)))
        self.told.append(0)

    @rule(which=st.integers(0, 20), count=st.integers(1, 10))
    def read(self, which: int, count: int) -> None:
        if not self.readers:
            return
        which %= len(self.readers)
        reading, wanted, _ = self.readers[which]
        for _ in range(min(count, self._waiting(which))):
            event = run(reading.__anext__())
            assert isinstance(event, SandboxEvent)
            lost = event.what.count if isinstance(event.what, EventsLost) else None
            self.told[which] += 1 if lost is None else lost
            if lost is None:
                assert wanted.sandbox_id in (None, event.sandbox_id)
                expected = self._of(which)[self.told[which] - 1]
                assert event.number == expected, "each event once, and each that is lost counted"
            if not self._waiting(which):
                break

    def _of(self, which: int) -> list[int]:
        _, wanted, since = self.readers[which]
        return [
            number
            for number, sandbox_id in enumerate(self.added, 1)
            if number > since and wanted.sandbox_id in (None, sandbox_id)
        ]

    def _waiting(self, which: int) -> int:
        return len(self._of(which)) - self.told[which]

    @invariant()
    def log_is_within_its_bounds(self) -> None:
        kept = list(self.log.after(0))

        assert len(kept) <= self.KEEP
        assert self.log.size == sum(event.size for event in kept)
        assert self.log.size <= self.KEEP_BYTES or len(kept) == 1
        assert [event.number for event in kept] == [
            *range(len(self.added) - len(kept) + 1, len(self.added) + 1)
        ]


TestLog = LogAgainstList.TestCase


@given(st.integers(0, 30), st.integers(1, 10))
def test_newest_event_is_always_kept(size: int, keep: int) -> None:
    log = make_log(keep=keep, keep_bytes=1)
    for _ in range(size):
        log.add(A, STARTED)

    assert [event.number for event in log.after(0)] == ([size] if size else [])
