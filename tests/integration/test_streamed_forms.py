# SPDX-License-Identifier: Apache-2.0
"""Streamed commands over plain HTTP: NDJSON, server-sent events and frames. Item 90 of the checklist."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPResponse
from typing import Any

import pytest

from tests.support.api import Api

NDJSON, EVENTS, FRAMES = (
    "application/x-ndjson",
    "text/event-stream",
    "application/vnd.atoll.frames",
)
FORMS = (NDJSON, EVENTS, FRAMES)
TWO_LINES = "echo one; sleep 0.5; echo two >&2; exit 4"


@contextmanager
def streamed(
    api: Api, sandbox_id: str, form: str, command: str, **fields: object
) -> Iterator[HTTPResponse]:
    with api.open(
        "POST",
        f"/v1/sandboxes/{sandbox_id}/execute",
        {"command": command, **fields},
        headers={"Accept": form},
    ) as (response, _):
        yield response


def read_ndjson(response: HTTPResponse) -> list[dict[str, Any]]:
    return [json.loads(line) for line in response.read().splitlines()]


def read_events(response: HTTPResponse) -> list[tuple[str, dict[str, Any]]]:
    events = []
    for block in response.read().decode().split("\n\n")[:-1]:
        lines = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if lines:
            events.append((lines["event"], json.loads(lines["data"])))
    return events


def read_frames(response: HTTPResponse) -> list[tuple[int, int, bytes]]:
    data, frames = response.read(), []
    while data:
        length, kind, offset = struct.unpack(">IB3xQ", data[:16])
        frames.append((kind, offset, data[16 : 16 + length]))
        data = data[16 + length :]
    return frames


def test_ndjson_has_a_line_an_object_and_ends_with_the_result(api: Api, sandbox_id: str) -> None:
    with streamed(api, sandbox_id, NDJSON, TWO_LINES) as response:
        objects = read_ndjson(response)

    assert response.getheader("Content-Type", "").startswith(NDJSON)
    assert objects[:-1] == [
        {"type": "stdout", "line": "one", "partial": False, "offset": 0},
        {"type": "stderr", "line": "two", "partial": False, "offset": 0},
    ]
    result = objects[-1]
    assert (result["type"], result["exitCode"], result["stdout"], result["stderr"]) == (
        "result",
        4,
        "",
        "",
    )


def test_events_are_the_same_objects_named_by_their_type(api: Api, sandbox_id: str) -> None:
    with streamed(api, sandbox_id, EVENTS, TWO_LINES) as response:
        events = read_events(response)

    assert response.getheader("Content-Type", "").startswith(EVENTS)
    assert [name for name, _ in events] == ["stdout", "stderr", "result"]
    assert events[0][1]["line"] == "one"
    assert events[1][1]["line"] == "two"
    assert events[2][1]["exitCode"] == 4


def test_frames_hold_the_bytes_with_offsets_and_end_with_the_result(
    api: Api, sandbox_id: str
) -> None:
    with streamed(
        api, sandbox_id, FRAMES, r"printf 'a\377'; sleep 0.2; printf b; printf c >&2"
    ) as response:
        frames = read_frames(response)

    assert response.getheader("Content-Type", "").startswith(FRAMES)
    assert b"".join(data for kind, _, data in frames if kind == 2) == b"a\xffb"
    assert [offset for kind, offset, _ in frames if kind == 2][0] == 0
    assert [(offset, data) for kind, offset, data in frames if kind == 3] == [(0, b"c")]
    kind, _, end = frames[-1]
    assert kind == 0
    assert json.loads(end)["event"] == "exit"
    assert json.loads(end)["exitCode"] == 0


@pytest.mark.parametrize("form", FORMS)
def test_the_first_line_comes_before_the_end(api: Api, sandbox_id: str, form: str) -> None:
    started = time.perf_counter()
    with streamed(api, sandbox_id, form, "echo first; sleep 1.5; echo last") as response:
        seen = b""
        while b"first" not in seen:
            seen += response.read1()
        first_after = time.perf_counter() - started
        response.read()
        last_after = time.perf_counter() - started

    assert first_after < last_after - 0.7


@pytest.mark.parametrize("form", FORMS)
def test_what_cannot_start_is_an_error_answer_before_any_stream(
    api: Api, sandbox_id: str, form: str
) -> None:
    answer = api.call(
        "POST",
        f"/v1/sandboxes/{sandbox_id}/execute",
        {"command": ["/no/such/program"]},
        headers={"Accept": form},
    )

    assert (answer.status, answer.error["code"]) == (422, "COMMAND_NOT_STARTED")
    assert answer.error["reason"] == "not_found"


@pytest.mark.parametrize("form", FORMS)
def test_wrong_requests_are_refused_in_every_form(api: Api, sandbox_id: str, form: str) -> None:
    answer = api.call(
        "POST",
        f"/v1/sandboxes/{sandbox_id}/execute",
        {"command": "true", "nonsense": 1},
        headers={"Accept": form},
    )

    assert (answer.status, answer.error["code"]) == (400, "INVALID_REQUEST")


def test_lines_never_split_a_character_and_long_ones_come_in_pieces(
    api: Api, sandbox_id: str
) -> None:
    command = "python3 -c \"print('é' * 100_000); print('end', end='')\""

    with streamed(api, sandbox_id, NDJSON, command) as response:
        objects = read_ndjson(response)

    lines = [item for item in objects if item["type"] == "stdout"]
    assert "".join(item["line"] for item in lines) == "é" * 100_000 + "end"
    assert all(len(item["line"].encode()) <= 65536 for item in lines)
    assert [item["partial"] for item in lines] == [True] * (len(lines) - 2) + [False, True]
    assert lines[0]["offset"] == 0
    assert lines[-1]["offset"] == 200_001


def test_bytes_that_are_not_utf8_stand_as_replacement_characters(api: Api, sandbox_id: str) -> None:
    with streamed(api, sandbox_id, NDJSON, r"printf '\377\303\250\n'") as response:
        assert read_ndjson(response)[0]["line"] == "\ufffdè"


def test_silent_commands_are_told_to_have_started_however_many_start_at_once(
    api: Api, sandbox_id: str
) -> None:
    silent = "until [ -e /tmp/go ]; do sleep 0.2; done"
    with ExitStack() as running, ThreadPoolExecutor(max_workers=24) as pool:

        def start(_: int) -> HTTPResponse:
            # The head of the answer comes with the news of the start, and here nothing else can bring it.
            return running.enter_context(streamed(api, sandbox_id, NDJSON, silent))

        responses = list(pool.map(start, range(24)))
        assert api.execute(sandbox_id, "touch /tmp/go").status == 200

        assert [read_ndjson(response)[-1]["exitCode"] for response in responses] == [0] * 24


@pytest.mark.slow
def test_silence_is_broken_by_a_heartbeat(api: Api) -> None:
    with api.sandbox() as sandbox_id, ThreadPoolExecutor() as pool:

        def first(form: str) -> bytes:
            with streamed(api, sandbox_id, form, "sleep 15.5; echo end") as response:
                return response.read1()

        ndjson, event, frame = pool.map(first, FORMS)

    assert json.loads(ndjson) == {"type": "heartbeat"}
    assert (event[:1], event[-1:]) == (b":", b"\n")
    assert struct.unpack(">IB3xQ", frame) == (0, 5, 0)


@pytest.mark.parametrize("form", FORMS)
def test_a_timeout_is_a_result_in_every_form(api: Api, sandbox_id: str, form: str) -> None:
    with streamed(api, sandbox_id, form, "echo out; sleep 60", timeoutMs=300) as response:
        if form == NDJSON:
            result = read_ndjson(response)[-1]
        elif form == EVENTS:
            result = read_events(response)[-1][1]
        else:
            result = json.loads(read_frames(response)[-1][2])

    assert (result["exitCode"], result["signal"], result["timedOut"]) == (None, "SIGTERM", True)
