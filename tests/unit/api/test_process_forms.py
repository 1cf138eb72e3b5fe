# SPDX-License-Identifier: Apache-2.0
"""How a process's output is written: text where it is text, positions that one can resume from."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.api.forms import FRAMES_TYPE, NDJSON_TYPE, SSE_TYPE
from atoll_server.api.process_forms import PROCESS_FORMS, PieceCutter
from atoll_server.engine.model import Output

PIECES = (
    st.binary(max_size=6)
    | st.text(max_size=4).map(str.encode)
    | st.sampled_from(
        [b"\xc3", b"\xa4", b"\xe2\x82", b"\xac", b"\xf0\x9f\x98", b"\x80", b"\xff", b"a"]
    )
)
WRITTEN = st.lists(st.tuples(st.sampled_from([1, 2]), PIECES.filter(bool)), max_size=12)


@dataclass(frozen=True)
class Begun:
    position: int = 0
    stdout: int = 0
    stderr: int = 0
    dropped: int = 0


def outputs(written: list[tuple[int, bytes]]) -> list[Output]:
    offsets = {1: 0, 2: 0}
    made = []
    for stream, data in written:
        made.append(Output(stream, offsets[stream], data))
        offsets[stream] += len(data)
    return made


def written_as(form_type: str, begun: Begun, written: list[Output]) -> bytes:
    form = PROCESS_FORMS[form_type]()
    body = form.begin(begun)
    for output in written:
        body += b"".join(form.event(output))
    return body + form.end({"id": "proc_1"})


def objects(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in body.splitlines()]


def data_of(value: dict[str, Any]) -> bytes:
    if value.get("encoding") == "base64":
        return base64.b64decode(value["data"])
    data: str = value["data"]
    return data.encode()


@given(WRITTEN)
def test_every_byte_comes_once_in_the_order_in_which_it_was_written(
    written: list[tuple[int, bytes]],
) -> None:
    found = objects(written_as(NDJSON_TYPE, Begun(), outputs(written)))[:-1]

    for stream, name in ((1, "stdout"), (2, "stderr")):
        expected = b"".join(data for number, data in written if number == stream)
        of_stream = [value for value in found if value["type"] == name]
        assert b"".join(map(data_of, of_stream)) == expected
        offset = 0
        for value in of_stream:
            assert value["offset"] == offset
            offset += len(data_of(value))
    assert b"".join(map(data_of, found)) == b"".join(data for _, data in written)


@given(WRITTEN)
def test_position_after_an_event_counts_all_that_came_until_then(
    written: list[tuple[int, bytes]],
) -> None:
    position = 0
    for value in objects(written_as(NDJSON_TYPE, Begun(), outputs(written)))[:-1]:
        position += len(data_of(value))
        assert value["position"] == position


@given(st.text(max_size=40), st.lists(st.integers(1, 5), min_size=1))
def test_well_formed_text_of_one_stream_is_never_base64(text: str, sizes: list[int]) -> None:
    raw = text.encode()
    parts: list[tuple[int, bytes]] = []
    while raw:
        size = sizes[len(parts) % len(sizes)]
        parts.append((1, raw[:size]))
        raw = raw[size:]

    found = objects(written_as(NDJSON_TYPE, Begun(), outputs(parts)))[:-1]

    assert all("encoding" not in value for value in found)
    assert "".join(value["data"] for value in found) == text


@given(st.text(max_size=60).map(str.encode) | st.binary(max_size=60), st.integers(4, 9))
def test_pieces_are_bounded_and_end_with_whole_characters(data: bytes, limit: int) -> None:
    cutter = PieceCutter(limit)

    pieces = [*cutter.cut(Output(1, 0, data)), *cutter.finish()]

    assert b"".join(piece.data for piece in pieces) == data
    assert all(len(piece.data) <= limit for piece in pieces)
    try:
        data.decode()
    except UnicodeDecodeError:
        return
    assert all(piece.text is not None for piece in pieces)


@given(WRITTEN, st.integers(0, 1000))
def test_ids_of_events_are_positions(written: list[tuple[int, bytes]], beginning: int) -> None:
    begun = Begun(position=beginning, stdout=beginning, dropped=3)

    blocks = written_as(SSE_TYPE, begun, outputs(written)).decode().split("\n\n")[:-1]

    ids = []
    for block in blocks:
        name, number, data = (line.partition(": ")[2] for line in block.split("\n"))
        value = json.loads(data)
        assert value["type"] == name
        ids.append(int(number))
        if "position" in value:
            assert value["position"] == ids[-1]
    assert ids[0] == beginning
    assert ids[-1] == beginning + sum(len(data) for _, data in written)
    assert ids == sorted(ids)


def test_held_part_of_a_character_is_said_in_a_silence() -> None:
    form = PROCESS_FORMS[NDJSON_TYPE]()
    form.begin(Begun())

    spoken = b"".join(form.event(Output(1, 0, b"a\xc3")))
    silence = objects(form.heartbeat())
    after = objects(b"".join(form.event(Output(1, 2, b"\xa4b"))))

    assert objects(spoken) == [{"type": "stdout", "data": "a", "offset": 0, "position": 1}]
    assert (data_of(silence[0]), silence[0]["position"]) == (b"\xc3", 2)
    assert silence[1] == {"type": "heartbeat"}
    assert (data_of(after[0]), after[0]["offset"], after[0]["position"]) == (b"\xa4b", 2, 4)


@pytest.mark.parametrize("form_type", [NDJSON_TYPE, SSE_TYPE])
def test_what_was_dropped_is_said_before_all_else(form_type: str) -> None:
    body = PROCESS_FORMS[form_type]().begin(Begun(position=7, stdout=7, dropped=7))

    assert b'{"type":"dropped","bytes":7,"position":7}' in body
    assert PROCESS_FORMS[form_type]().begin(Begun()) == b""


def test_frames_begin_with_where_they_begin() -> None:
    body = PROCESS_FORMS[FRAMES_TYPE]().begin(Begun(9, 4, 5, 2))

    assert json.loads(body[16:]) == {
        "event": "attached",
        "position": 9,
        "stdout": 4,
        "stderr": 5,
        "dropped": 2,
    }
