# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll._output import (
    Dropped,
    Exit,
    OutputReader,
    ProcessEvent,
    Stderr,
    Stdout,
)
from atoll.errors import Internal, ProtocolError
from tests.unit.sdk import samples

STDOUT, STDERR = 2, 3


@dataclass(frozen=True)
class Connection:
    """How one answer of the server goes."""

    early: int
    """So much before what was asked for it begins."""
    frame_bytes: int
    chunk_bytes: int
    lasts: int
    """After so many bytes it breaks."""


CONNECTIONS = st.lists(
    st.builds(
        Connection, st.integers(0, 5), st.integers(1, 9), st.integers(1, 40), st.integers(0, 400)
    ),
    max_size=6,
)
WRITES = st.lists(
    st.tuples(st.sampled_from([STDOUT, STDERR]), st.text("aé€😀\n", min_size=1, max_size=6)),
    max_size=12,
)


def answer(writes: list[tuple[int, bytes]], begin: int, dropped: int, frame_bytes: int) -> bytes:
    """What a server sends of a process that wrote `writes` and ended, from position `begin`."""
    output = [(kind, byte) for kind, data in writes for byte in data]
    offsets = {
        kind: sum(1 for other, _ in output[:begin] if other == kind) for kind in (STDOUT, STDERR)
    }
    frames = [samples.attached(offsets[STDOUT], offsets[STDERR], dropped)]
    at = begin
    while at < len(output):
        kind = output[at][0]
        data = bytearray()
        while at < len(output) and output[at][0] == kind and len(data) < frame_bytes:
            data.append(output[at][1])
            at += 1
        frames.append(samples.frame(kind, bytes(data), offsets[kind]))
        offsets[kind] += len(data)
    return b"".join((*frames, samples.process_exit(position=len(output))))


def read_all(
    writes: list[tuple[int, bytes]], connections: list[Connection], since: int
) -> list[ProcessEvent]:
    """What a reader tells over these connections and a last one that does not break."""
    reader = OutputReader(since)
    events: list[ProcessEvent] = []
    for connection in (*connections, Connection(0, 7, 13, 1 << 20)):
        reader.reconnect()
        begin = max(0, reader.position - connection.early) if events else reader.position
        said = answer(writes, begin, 0, connection.frame_bytes)[: connection.lasts]
        for at in range(0, len(said), connection.chunk_bytes):
            events += reader.feed(said[at : at + connection.chunk_bytes])
        if reader.end is not None:
            break
    return events


def bytes_of(events: list[ProcessEvent], kind: type[Stdout] | type[Stderr]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, kind))


@given(WRITES, CONNECTIONS, st.data())
def test_every_byte_is_told_once_wherever_connections_break(
    texts: list[tuple[int, str]], connections: list[Connection], data: st.DataObject
) -> None:
    writes = [(kind, text.encode()) for kind, text in texts]
    output = [(kind, byte) for kind, written in writes for byte in written]
    since = data.draw(st.integers(0, len(output)))

    events = read_all(writes, connections, since)

    for kind, event_type in ((STDOUT, Stdout), (STDERR, Stderr)):
        expected = bytes(byte for other, byte in output[since:] if other == kind)
        assert bytes_of(events, event_type) == expected
    position = since
    for event in events:
        if isinstance(event, Stdout | Stderr):
            position += len(event.data)
        assert event.position == position
    assert position == len(output)
    assert isinstance(events[-1], Exit)
    assert not any(isinstance(event, Dropped) for event in events)


@given(WRITES, CONNECTIONS)
def test_texts_are_whole_characters(
    texts: list[tuple[int, str]], connections: list[Connection]
) -> None:
    events = read_all([(kind, text.encode()) for kind, text in texts], connections, 0)

    said = "".join(event.text for event in events if isinstance(event, Stdout))
    assert said == "".join(text for kind, text in texts if kind == STDOUT)


def test_what_is_not_kept_any_more_is_told_first() -> None:
    reader = OutputReader(5)

    events = reader.feed(samples.attached(70, 30, 95) + samples.frame(STDERR, b"x", 30))

    assert [*events] == [Dropped(95, 100), Stderr(b"x", "x", 30, 101)]


def test_what_was_dropped_between_two_connections_is_told() -> None:
    reader = OutputReader(0)
    list(reader.feed(samples.attached() + samples.frame(STDOUT, b"abc")))
    reader.reconnect()

    events = reader.feed(samples.attached(8, 2, 7) + samples.frame(STDOUT, b"d", 8))

    assert [*events] == [Dropped(7, 10), Stdout(b"d", "d", 8, 11)]


def test_a_gap_within_a_connection_is_told() -> None:
    reader = OutputReader(0)

    events = reader.feed(samples.attached() + samples.frame(STDOUT, b"d", 8))

    assert [*events] == [Dropped(8, 8), Stdout(b"d", "d", 8, 9)]


def test_half_a_character_before_a_gap_is_left_out_of_the_text() -> None:
    reader = OutputReader(0)

    events = reader.feed(
        samples.attached()
        + samples.frame(STDOUT, b"a\xe2\x82")
        + samples.frame(STDOUT, b"b", 9)
        + samples.frame(STDERR, b"\xff")
    )

    assert [event.text for event in events if isinstance(event, Stdout | Stderr)] == [
        "a",
        "b",
        "\ufffd",
    ]


def test_the_exit_says_how_it_ended() -> None:
    (event,) = OutputReader(0).feed(
        samples.process_exit(exitCode=143, signal="SIGTERM", status="killed", position=7)
    )

    assert isinstance(event, Exit)
    assert (event.exit_code, event.signal, event.position) == (143, "SIGTERM", 7)
    assert event.info.ended


def test_the_last_word_on_a_process_that_runs_is_no_exit() -> None:
    reader = OutputReader(0)

    events = reader.feed(samples.control("exit", **samples.process()))

    assert [*events] == []
    assert reader.is_over


@pytest.mark.parametrize(
    "stream",
    [
        samples.frame(STDOUT, b"before the beginning"),
        samples.control("party"),
        samples.control("attached", position=0, stdout=-1, stderr=0, dropped=0),
        samples.control("attached", position=0, stdout=True, stderr=0, dropped=0),
        samples.control("exit", id=5),
        samples.control("error", error=5),
        samples.frame(0, b"[]"),
        samples.frame(9, b"x"),
    ],
)
def test_what_is_no_stream_of_a_process_is_a_protocol_error(stream: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(OutputReader(0).feed(stream))


def test_what_came_before_an_error_is_told_first() -> None:
    reader = OutputReader(0)
    error = samples.control("error", error={"code": "INTERNAL", "message": "no", "retryable": True})

    events = reader.feed(samples.attached() + samples.frame(STDOUT, b"abc") + error)

    assert next(events) == Stdout(b"abc", "abc", 0, 3)
    with pytest.raises(Internal):
        next(events)


def test_a_connection_that_only_begins_brings_no_news() -> None:
    reader = OutputReader(0)

    list(reader.feed(samples.attached()))
    begun = reader.has_news
    list(reader.feed(samples.frame(5, b"")))

    assert (begun, reader.has_news) == (False, True)
    reader.reconnect()
    assert not reader.has_news
