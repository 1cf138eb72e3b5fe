# SPDX-License-Identifier: Apache-2.0
"""Followers of one process share a connection to its agent, and each gets what it would have got alone."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll_server.agent.errors import AgentError
from atoll_server.engine import broadcast
from tests.unit.engine.followers import WINDOW, Limits, Stage, Taker, limits, staged
from tests.unit.engine.journal import ALL

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    with limits(Limits()):
        async with staged(tmp_path) as stage:
            yield stage


async def test_all_who_stand_together_share_one_connection(stage: Stage) -> None:
    takers = await stage.gathered(10)

    for _ in range(50):
        stage.journal.write(b"x" * 100)
        await stage.until_all_have(takers)
    stage.journal.exit()
    await asyncio.gather(*(taker.task for taker in takers))

    assert stage.journal.opened <= 10
    assert all(taker.taken == stage.journal.since(0) for taker in takers)
    assert all(taker.exit is not None for taker in takers)


async def test_one_who_comes_later_joins_where_the_others_are(stage: Stage) -> None:
    takers = await stage.gathered(2)
    for _ in range(50):
        stage.journal.write(b"x" * 100)
    await stage.until_all_have(takers)

    late = stage.join(since=7)
    late.grant()
    await stage.until_all_have(takers)
    await stage.until(lambda: late.begun is not None)
    await stage.until_all_have([late])

    await stage.until_connections(1)
    assert late.taken == stage.journal.since(7)


async def test_one_who_is_ahead_takes_the_others_along(stage: Stage) -> None:
    behind = stage.join()
    await stage.until_connections(1)
    for _ in range(50):
        stage.journal.write(b"x" * 100)
    ahead = stage.join(since=None)
    await stage.until(lambda: ahead.begun is not None)
    ahead.grant()
    behind.grant()

    await stage.until_connections(1)

    stage.journal.write(b"end")
    await stage.until_all_have(stage.takers)
    assert behind.taken == stage.journal.since(0)
    assert ahead.taken == stage.journal.since(5000)


async def test_one_who_takes_nothing_does_not_stop_the_others(stage: Stage) -> None:
    takers = await stage.gathered(2)
    stopped = stage.join()
    stopped.grant(3)
    stage.journal.write(b"c")
    await stage.until(lambda: len(stopped.taken) == 3)

    for _ in range(100):
        stage.journal.write(b"x" * 100)
    await stage.until_all_have(takers)
    await stage.until_connections(2)
    stopped.grant()
    await stage.until_all_have(stage.takers)

    assert stopped.taken == stage.journal.since(0)
    stage.journal.write(b"end")
    await stage.until_all_have(stage.takers)
    await stage.until_connections(1)


async def stopped_at_its_place(stage: Stage) -> tuple[Taker, Taker]:
    """One who goes on, and one who has joined it and then takes nothing; the agent drops what it has sent."""
    quick, stopped = stage.join(), stage.join()
    await stage.until_connections(2)
    quick.grant()
    stopped.grant(2)
    for size in (1, 2):
        stage.journal.write(b"x")
        await stage.until(lambda size=size: quick.size == stopped.size == size)  # type: ignore[misc]  # bound now
    stopped.grant(1)
    await stage.until_connections(1)
    stage.journal.write(b"x")
    await stage.until_all_have([quick, stopped])
    for _ in range(100):
        stage.journal.write(b"x" * 100)
    return quick, stopped


async def test_what_the_agent_has_dropped_is_kept_for_who_has_yet_to_take_it(
    tmp_path: Path,
) -> None:
    with limits(Limits()):
        async with staged(tmp_path, kept=0) as stage:
            quick, stopped = await stopped_at_its_place(stage)
            await stage.until(lambda: stage.journal.opened == 3)
            await stage.until(lambda: quick.size > WINDOW)
            assert quick.size <= WINDOW + 3 + 100

            stopped.grant()
            await stage.until_all_have([quick, stopped])

            assert stopped.taken == quick.taken == stage.journal.since(0)


async def test_one_who_holds_up_the_others_for_too_long_is_let_go(tmp_path: Path) -> None:
    with limits(Limits(slow=0.05)):
        async with staged(tmp_path, kept=0) as stage:
            quick, stopped = await stopped_at_its_place(stage)

            await stage.until_all_have([quick])
            stopped.grant()
            await stopped.task

            assert isinstance(stopped.error, AgentError)
            assert stopped.error.code == "slow"
            assert stopped.size == 3
            assert quick.error is None


async def test_smallest_events_are_bounded_too(tmp_path: Path) -> None:
    with limits(Limits(parting=50.0)) as _, pytest.MonkeyPatch.context() as patch:
        patch.setattr(broadcast, "EVENT_BYTES", 99)
        async with staged(tmp_path) as stage:
            quick, _ = await stage.gathered(2)
            stopped = stage.join(since=2)
            await stage.until(lambda: stopped.begun is not None)
            stopped.grant(1)
            stage.journal.write(b"c")
            await stage.until(lambda: len(stopped.taken) == 1)
            stopped.grant(1)
            stage.journal.write(b"d")
            await stage.until_all_have(stage.takers)
            await stage.until_connections(1)

            for _ in range(1000):
                stage.journal.write(b"x")
            await stage.until(lambda: quick.size > 4 + WINDOW // 100)
            for _ in range(1000):
                await asyncio.sleep(0)

            assert quick.size == 4 + WINDOW // 100 + 1


async def test_whoever_reads_for_all_may_leave(stage: Stage) -> None:
    takers = await stage.gathered(5)

    while len(takers) > 1:
        await takers.pop(0).leave()
        stage.journal.write(b"more")
        await stage.until_all_have(takers)

    assert takers[0].taken == stage.journal.since(0)
    assert len(stage.journal.readers) == 1


@pytest.mark.parametrize("code", ["slow", "io"])
async def test_error_reaches_each_behind_its_output(stage: Stage, code: str) -> None:
    takers = await stage.gathered(3)
    late = stage.join(since=None)
    await stage.until(lambda: late.begun is not None)
    late.grant(1)
    stage.journal.write(b"x")
    await stage.until_all_have([*takers, late])
    stage.journal.write(b"y")
    stage.journal.fail(code)
    await asyncio.gather(*(taker.task for taker in takers))
    late.grant()
    await late.task

    errors = [taker.error for taker in stage.takers]
    assert all(isinstance(error, AgentError) and error.code == code for error in errors)
    assert takers[0].taken == takers[2].taken == stage.journal.since(0)
    assert late.taken == stage.journal.since(2)


async def test_one_alone_has_one_connection_from_beginning_to_end(stage: Stage) -> None:
    taker = stage.join()
    taker.grant()
    for _ in range(100):
        stage.journal.write(b"x" * 100)
    stage.journal.exit()
    await taker.task

    assert taker.taken == stage.journal.since(0)
    assert stage.journal.opened == 1


async def test_one_who_begins_where_another_stands_asks_the_agent_nothing(stage: Stage) -> None:
    first = stage.join()
    first.grant()
    await stage.until_connections(1)
    stage.journal.write(b"out")
    stage.journal.write(b"err", 2)
    await stage.until_all_have([first])

    second = stage.join(since=3)
    second.grant()
    await stage.until(lambda: second.taken == stage.journal.since(3))

    assert second.offsets == (3, 0)
    assert stage.journal.opened == 1


@pytest.fixture
def brief_patience(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long enough for those who do take what comes."""
    monkeypatch.setattr(broadcast, "PARTING_SECONDS", 0.05)


async def one_about_to_be_parted_with(stage: Stage) -> Taker:
    """It has taken nothing for a while, and another is opening a connection for it."""
    await stage.gathered(2)
    stopped = stage.join(since=2)
    await stage.until(lambda: stopped.begun is not None)
    stage.journal.answers.clear()
    for _ in range(100):
        stage.journal.write(b"x" * 100)
    opened = stage.journal.opened
    await stage.until(lambda: stage.journal.opened == opened + 1)
    return stopped


@pytest.mark.usefixtures("brief_patience")
async def test_one_who_goes_on_while_it_is_parted_with_loses_nothing(stage: Stage) -> None:
    stopped = await one_about_to_be_parted_with(stage)

    stopped.grant(3)
    await stage.until(lambda: len(stopped.taken) == 3)
    stage.journal.answers.set()
    stopped.grant()
    await stage.until_all_have(stage.takers)

    assert stopped.taken == stage.journal.since(2)


@pytest.mark.usefixtures("brief_patience")
async def test_one_who_leaves_while_it_is_parted_with_leaves_nothing(stage: Stage) -> None:
    stopped = await one_about_to_be_parted_with(stage)

    await stopped.leave()
    stage.journal.answers.set()

    await stage.until_all_have(stage.takers[:2])
    await stage.until_connections(1)


async def test_nobody_joins_where_something_went_wrong(stage: Stage) -> None:
    quick, _ = await stage.gathered(2)
    stopped = stage.join(since=quick.size)
    await stage.until(lambda: stopped.begun is not None)
    stage.journal.write(b"x")
    stage.journal.fail("slow")
    await quick.task
    stage.journal.recover()

    late = stage.join(since=stage.journal.end)
    late.grant()
    await stage.until(lambda: late.begun is not None)
    stage.journal.write(b"y")

    await stage.until_all_have([late])
    assert late.error is None


async def test_one_who_comes_late_does_not_join_those_who_have_stopped(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "STALE_SECONDS", 0.0)
    stopped = stage.join()
    stopped.grant(1)
    stage.journal.write(b"x")
    await stage.until_all_have([stopped])

    late = stage.join()
    late.grant()
    await stage.until_all_have([late])

    assert stage.journal.opened == len(stage.journal.readers) == 2


Act = tuple[str, Any]

_ACTS: st.SearchStrategy[Act] = st.one_of(
    st.tuples(st.just("write"), st.tuples(st.sampled_from([1, 2]), st.integers(1, 700))),
    st.tuples(st.just("join"), st.one_of(st.none(), st.floats(0, 1))),
    st.tuples(st.just("grant"), st.tuples(st.integers(0, 5), st.integers(1, 8))),
    st.tuples(st.just("leave"), st.integers(0, 5)),
    st.tuples(st.just("turns"), st.integers(1, 30)),
)


@settings(max_examples=60)
@given(
    acts=st.lists(_ACTS, max_size=60),
    kept=st.sampled_from([0, 500, ALL]),
    parting=st.sampled_from([0.0, 50.0]),
)
def test_each_gets_what_it_would_have_got_alone(acts: list[Act], kept: int, parting: float) -> None:
    async def play() -> None:
        with tempfile.TemporaryDirectory() as directory:
            async with staged(Path(directory), kept) as stage:
                for number, act in enumerate(acts):
                    await perform(stage, number, *act)
                await finish(stage)

    with limits(Limits(parting=parting)):
        asyncio.run(play())


async def perform(stage: Stage, number: int, verb: str, value: Any) -> None:
    journal, takers = stage.journal, stage.takers
    if verb == "write":
        stream, size = value
        journal.write(bytes([number]) * size, stream)
    elif verb == "join":
        since = None if value is None else int(value * journal.end)
        stage.join(since)
    elif verb == "turns":
        for _ in range(value):
            await asyncio.sleep(0)
    elif verb == "grant" and takers:
        takers[value[0] % len(takers)].grant(value[1])
    elif verb == "leave" and takers:
        await takers[value % len(takers)].leave()


async def finish(stage: Stage) -> None:
    """Everybody goes on to the end, where all share one connection and have had all of it."""
    staying = [taker for taker in stage.takers if not taker.task.done()]
    await stage.until(lambda: all(taker.begun is not None for taker in staying))
    for taker in staying:
        taker.grant()
    await stage.until_all_have(staying)
    stage.journal.write(b"last")
    await stage.until_all_have(staying)
    await stage.until_connections(min(1, len(staying)))
    stage.journal.exit()
    async with asyncio.timeout(10):
        await asyncio.gather(*(taker.task for taker in staying))
    for taker in stage.takers:
        if taker.begun is not None:
            expected = stage.journal.since(taker.begun)
            assert taker.taken == expected[: len(taker.taken)]
            assert taker.offsets == stage.journal.offsets_at(taker.begun)
            assert (taker in staying) == (taker.exit is not None)
            assert taker.exit is None or len(taker.taken) == len(expected)
