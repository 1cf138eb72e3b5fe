# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll import ChangeKind, FileChange
from atoll._changes import ChangeReader
from atoll.errors import Internal, ProtocolError
from tests.unit.sdk import samples


@dataclass(frozen=True)
class Connection:
    """How one answer of the server goes."""

    early: int
    """So many changes before what was asked for it begins."""
    chunk_bytes: int
    lasts: int
    """After so many bytes it breaks."""


CONNECTIONS = st.lists(
    st.builds(Connection, st.integers(0, 3), st.integers(1, 90), st.integers(0, 900)), max_size=6
)


@given(st.integers(0, 8), st.integers(0, 8), CONNECTIONS)
def test_every_change_is_told_once_wherever_connections_break(
    count: int, since: int, connections: list[Connection]
) -> None:
    reader = ChangeReader(min(since, count))
    told: list[int] = []
    for connection in (*connections, Connection(0, 70, 1 << 20)):
        reader.reconnect()
        begin = max(0, reader.last - connection.early)
        lines = [samples.change_line(number=n) for n in range(begin + 1, count + 1)]
        said = b"".join([*lines, samples.end_line(last=count)])[: connection.lasts]
        for at in range(0, len(said), connection.chunk_bytes):
            told += [
                change.number for change in reader.feed(said[at : at + connection.chunk_bytes])
            ]
        if reader.is_over:
            break

    assert reader.is_over
    assert told == list(range(min(since, count) + 1, count + 1))


def test_a_change_is_what_the_server_said() -> None:
    line = samples.change_line(
        number=3, kind="renamed", path="/w/b", fromPath="/w/a", isDirectory=True
    )

    (change,) = ChangeReader(2).feed(line)

    assert change == FileChange(3, ChangeKind.RENAMED, "/w/b", "/w/a", True, samples.INSTANT)


def test_what_was_lost_is_a_change_of_its_own_and_can_be_resumed_behind() -> None:
    reader = ChangeReader(2)

    (change,) = reader.feed(samples.change_line(number=90, kind="overflow", path=None))

    assert (change.kind, change.path, reader.last) == (ChangeKind.OVERFLOW, None, 90)


@pytest.mark.parametrize("ended", ["removed", "stopped", None])
def test_the_end_says_why(ended: str | None) -> None:
    reader = ChangeReader(0)

    assert [*reader.feed(samples.end_line(ended=ended))] == []

    assert (reader.is_over, reader.ended) == (True, ended)


def test_what_came_before_an_error_is_told_first() -> None:
    error = b'{"type":"error","error":{"code":"INTERNAL","message":"no","retryable":true}}\n'

    changes = ChangeReader(0).feed(samples.change_line(number=1) + error)

    assert next(changes).number == 1
    with pytest.raises(Internal):
        next(changes)


def test_a_heartbeat_is_news_and_no_change() -> None:
    reader = ChangeReader(0)

    assert [*reader.feed(b'{"type":"heart')] == []
    begun = reader.has_news
    assert [*reader.feed(b'beat"}\n')] == []

    assert (begun, reader.has_news) == (False, True)


@pytest.mark.parametrize(
    "line",
    [
        b"{}\n",
        b"[]\n",
        b"no JSON\n",
        b'{"type":"party"}\n',
        b'{"type":"change"}\n',
        b'{"type":"end","ended":5}\n',
        b'{"type":"error"}\n',
        samples.change_line(kind="party"),
        samples.change_line(number="1"),
    ],
)
def test_what_is_no_stream_of_changes_is_a_protocol_error(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(ChangeReader(0).feed(line))
