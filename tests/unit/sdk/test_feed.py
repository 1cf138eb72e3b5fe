# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll import Event, InvalidRequest
from atoll._feed import EventReader, check_sandbox_types, check_types, is_beside
from atoll._wire import camel_members, snake_members
from atoll.errors import Internal, ProtocolError
from tests.unit.sdk import samples

BEGIN = samples.event_line("begin", 0)
END = samples.event_line("end", 9)


def read(reader: EventReader, *lines: bytes) -> list[Event]:
    return list(reader.feed(b"".join(lines)))


def test_event_is_what_the_server_said_with_names_of_python() -> None:
    data = {"exitCode": 3, "error": {"someCode": [{"aB": 1}]}}

    (event,) = read(EventReader(None), samples.event_line("exec.completed", 7, data))

    assert event == Event(
        id="evt_aaaaaaaaaa_7",
        type="exec.completed",
        timestamp=samples.INSTANT,
        sandbox_id="sb_0123456789",
        trace_id="0" * 32,
        data={"exit_code": 3, "error": {"some_code": [{"a_b": 1}]}},
    )


def test_beginning_fixes_where_latest_was() -> None:
    reader = EventReader("latest")

    assert read(reader, BEGIN) == []
    assert (reader.last, reader.has_news) == ("evt_aaaaaaaaaa_0", False)


def test_reader_is_behind_what_it_was_told() -> None:
    reader = EventReader(None)
    read(reader, BEGIN, samples.event_line("exec.started", 4))

    assert (reader.last, reader.has_news, reader.is_over) == ("evt_aaaaaaaaaa_4", True, False)
    read(reader, END)
    assert (reader.last, reader.is_over) == ("evt_aaaaaaaaaa_9", True)


def test_half_a_line_is_forgotten_with_its_connection() -> None:
    reader = EventReader(None)
    line = samples.event_line("exec.started", 4)
    read(reader, line[:-10])

    reader.reconnect()

    assert [event.id for event in read(reader, line)] == ["evt_aaaaaaaaaa_4"]


def test_types_of_a_later_server_are_events() -> None:
    (event,) = read(EventReader(None), samples.event_line("moon.risen", 1))
    assert event.type == "moon.risen"


def test_heartbeats_are_news_and_no_events() -> None:
    reader = EventReader(None)
    assert read(reader, b'{"type":"heartbeat"}\n') == []
    assert reader.has_news


@pytest.mark.parametrize(
    "line",
    [
        b"[]\n",
        b'{"type":1}\n',
        b'{"type":"x"}\n',
        b'{"type":"begin"}\n',
        b'{"type":"a.b"}\n',
        b"x\n",
    ],
)
def test_what_is_no_event_is_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(EventReader(None), line)


def test_error_of_the_server_is_raised() -> None:
    with pytest.raises(Internal):
        read(EventReader(None), b'{"type":"error","error":{"code":"INTERNAL","message":"m"}}\n')


def test_types_are_one_or_several_or_all() -> None:
    assert check_types(None) == check_types("*") == check_types(["a.b", "*"]) == ()
    assert check_types("a.b") == ("a.b",)
    assert check_types(["a.b", "c.d"]) == ("a.b", "c.d")
    assert check_sandbox_types(["started", "exec.started"]) == ("sandbox.started", "exec.started")


@pytest.mark.parametrize("types", [[1], [""], "", [None]])
def test_what_is_no_type_is_refused(types: list[str]) -> None:
    with pytest.raises(InvalidRequest):
        check_types(types)


def test_loss_is_beside_what_was_asked_for() -> None:
    (lost,) = read(EventReader(None), samples.event_line("events.lost", 1))

    assert is_beside(lost, ("exec.started",))
    assert not is_beside(lost, ())
    assert not is_beside(lost, ("events.lost",))


NAMES = st.from_regex(r"[a-z]{1,4}(_[a-z]{1,4}){0,2}", fullmatch=True)


@given(
    st.recursive(
        st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=10,
    )
)
def test_names_come_back_from_the_wire(value: object) -> None:
    assert snake_members(camel_members(value)) == value
