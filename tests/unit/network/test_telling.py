# SPDX-License-Identifier: Apache-2.0
"""Whoever listens is told, once; whoever does not costs nothing and loses nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from atoll_server.clock import ManualClock
from atoll_server.network.news import Denied, Told, read_news
from atoll_server.network.policy import Reason, Verdict
from atoll_server.network.telling import EVERY, MOST, Teller

WHY = Verdict(False, Reason.NOT_LISTED, "why")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def teller(clock: ManualClock) -> AsyncIterator[Teller]:
    teller = Teller(clock)
    running = asyncio.create_task(teller.run())
    yield teller
    running.cancel()
    teller.close()


def connect(teller: Teller) -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for each in (ours, theirs):
        each.setblocking(False)
    teller.listen(theirs)
    return ours


async def hear(listening: socket.socket) -> list[Told]:
    return read_news(await asyncio.get_running_loop().sock_recv(listening, 1 << 20))


async def test_news_are_told_at_once_and_then_folded(teller: Teller, clock: ManualClock) -> None:
    news = teller.make_news("sb_a")
    with connect(teller) as listening:
        news.note_denied("a.test", 80, WHY)
        assert await hear(listening) == [Denied("sb_a", "a.test", 80, "not_listed", "why", 1)]

        for _ in range(5):
            news.note_denied("a.test", 80, WHY)
        with pytest.raises(BlockingIOError):
            listening.recv(1)
        clock.advance(EVERY)

        assert await hear(listening) == [Denied("sb_a", "a.test", 80, "not_listed", "why", 5)]


async def test_what_nobody_listened_to_is_told_to_who_comes(
    teller: Teller, clock: ManualClock
) -> None:
    teller.make_news("sb_a").note_denied("a.test", 80, WHY)
    await asyncio.sleep(0)

    with connect(teller) as listening:
        clock.advance(EVERY)
        assert len(await hear(listening)) == 1


async def test_who_went_away_is_followed_by_another(teller: Teller, clock: ManualClock) -> None:
    news = teller.make_news("sb_a")
    connect(teller).close()
    news.note_denied("a.test", 80, WHY)
    await asyncio.sleep(0)
    news.note_denied("b.test", 80, WHY)

    with connect(teller) as listening:
        clock.advance(EVERY)
        heard = await hear(listening)
        clock.advance(EVERY)
        heard += await hear(listening)
    assert [told.host for told in heard] == ["a.test", "b.test"]


async def test_what_is_left_of_a_sandbox_is_told_as_it_ends(teller: Teller) -> None:
    news = teller.make_news("sb_a")
    with connect(teller) as listening:
        news.note_passed("a.test", 80, sent=1, received=2)
        teller.finish("sb_a", news)

        assert [told.sandbox_id for told in read_news(listening.recv(1 << 20))] == ["sb_a"]
        await asyncio.sleep(0)
        with pytest.raises(BlockingIOError):
            listening.recv(1)


async def test_every_sandbox_has_its_turn(teller: Teller, clock: ManualClock) -> None:
    """Those who always have news do not keep others from being heard."""
    loud = [teller.make_news(f"sb_loud{n}") for n in range(2 * MOST)]
    quiet = teller.make_news("sb_quiet")
    heard: list[Told] = []
    with connect(teller) as listening:
        for turn in range(8):
            for news in loud:
                news.note_denied("a.test", 80, WHY)
            if turn == 2:
                quiet.note_denied("a.test", 80, WHY)
            heard += await hear(listening)
            clock.advance(EVERY)

    assert "sb_quiet" in {told.sandbox_id for told in heard}


async def test_whether_anybody_listens_is_known(teller: Teller) -> None:
    assert not teller.has_listener()
    with connect(teller):
        assert teller.has_listener()

    assert not teller.has_listener()
