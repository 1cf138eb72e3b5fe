# SPDX-License-Identifier: Apache-2.0
"""What is told of a network: folded, in bounds, and all of it in the end."""

from __future__ import annotations

import msgspec
import pytest

from atoll_server.clock import ManualClock
from atoll_server.network.news import (
    AT_ONCE,
    MAX_HOST,
    MAX_NEWS,
    MAX_TEXT,
    PENDING,
    Denied,
    News,
    Passed,
    Told,
    make_readable,
    read_news,
)
from atoll_server.network.policy import Reason, Verdict

NOT_LISTED = Verdict(False, Reason.NOT_LISTED, "why")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def news(clock: ManualClock) -> News:
    return News("sb_a", clock, lambda: None)


def take(news: News) -> list[Told]:
    return list(news.take())


def test_what_happens_again_before_it_is_told_is_counted(news: News) -> None:
    for _ in range(3):
        news.note_denied("a.test", 443, NOT_LISTED)
        news.note_passed("b.test", 80, sent=1, received=10)

    assert take(news) == [
        Denied("sb_a", "a.test", 443, "not_listed", "why", 3),
        Passed("sb_a", "b.test", 80, 3, 3, 30),
    ]
    assert not news.is_pending
    assert take(news) == []


def test_reasons_and_ports_are_told_apart(news: News) -> None:
    news.note_denied("a.test", 443, NOT_LISTED)
    news.note_denied("a.test", 80, NOT_LISTED)
    news.note_denied("a.test", 80, Verdict(False, Reason.DENIED, "why"))

    assert len(take(news)) == 3


def test_many_destinations_are_told_together_with_their_sums(news: News) -> None:
    for port in range(1, PENDING + 6):
        news.note_denied("a.test", port, NOT_LISTED)
        news.note_passed("a.test", port, sent=2, received=3)

    told = take(news)

    denied = [it for it in told if isinstance(it, Denied)]
    passed = [it for it in told if isinstance(it, Passed)]
    assert [it.host for it in denied] == ["a.test"] * PENDING + [None]
    assert (denied[-1].count, denied[-1].reason) == (5, None)
    assert "told together" in denied[-1].text
    assert passed[-1] == Passed("sb_a", None, None, 5, 10, 15)


def test_hammering_is_told_at_a_pace_and_nothing_is_missing(news: News, clock: ManualClock) -> None:
    told: list[Told] = []
    for second in range(100):
        for port in range(1, 101):
            news.note_denied("a.test", port, NOT_LISTED)
        told += take(news)
        assert len(told) <= AT_ONCE + 2 * second
        clock.advance(1)
    told += news.take_all()

    counts = [it.count for it in told if isinstance(it, Denied)]
    assert sum(counts) == 100 * 100


def test_refusals_do_not_keep_passages_from_being_told(news: News) -> None:
    for port in range(1, 1000):
        news.note_denied("a.test", port, NOT_LISTED)
        take(news)
    news.note_passed("b.test", 80, sent=1, received=1)

    assert take(news) == [Passed("sb_a", "b.test", 80, 1, 1, 1)]


@pytest.mark.parametrize(
    ("written", "readable"),
    [
        ("a.test port 80", "a.test port 80"),
        ("\x1b[2J\r\n\0", "\\x1b[2J\\r\\n\\x00"),
        ("\u202e\U0001f600ü", "\\u202e\\U0001f600\\xfc"),
        ("\udc80", "\\udc80"),
    ],
)
def test_only_printable_ascii_is_told(written: str, readable: str) -> None:
    assert make_readable(written, 100) == readable


def test_names_and_texts_are_bounded(news: News) -> None:
    news.note_denied("\0" * 10_000, 80, Verdict(False, Reason.MALFORMED, "\0" * 10_000))

    (told,) = take(news)

    assert isinstance(told, Denied)
    assert told.host is not None
    assert (len(told.host), len(told.text)) == (MAX_HOST, MAX_TEXT)


def test_message_is_read_as_it_was_written(news: News) -> None:
    news.note_denied("a.test", 443, NOT_LISTED)
    news.note_passed("b.test", 80, sent=1, received=10)
    told = take(news)

    assert read_news(msgspec.json.encode(told)) == told


def test_message_of_a_proxy_that_was_taken_over_is_bounded() -> None:
    hostile = Denied("sb_a", "\x1b" * 999, 1, "\x1b" * 999, "\x1b" * 9999, 1)

    told = read_news(msgspec.json.encode([hostile] * (MAX_NEWS + 1)))

    assert len(told) == MAX_NEWS
    first = told[0]
    assert isinstance(first, Denied)
    assert "\x1b" not in f"{first.host}{first.reason}{first.text}"
    assert len(first.text) == MAX_TEXT


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"[",
        b"{}",
        b'[{"type":"moon"}]',
        b"\xff",
        msgspec.json.encode([Passed("s", "h", 1, -1)]),
    ],
)
def test_message_that_cannot_be_understood_is_an_error(message: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        read_news(message)
