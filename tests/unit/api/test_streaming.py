# SPDX-License-Identifier: Apache-2.0
import asyncio
import json
import struct
from typing import Any

import pytest

from atoll_server.api import streaming
from atoll_server.api.forms import FRAMES_TYPE, NDJSON_TYPE, SSE_TYPE, FramesForm, NdjsonForm
from atoll_server.api.streaming import MAILBOX_BYTES, SEND_BYTES, Mailbox
from atoll_server.engine.model import Exit, Output
from tests.unit.api.memory import KEY, Answered, Client, Exchange, make_scope

pytestmark = pytest.mark.anyio

RESULT = {
    "stdout": "",
    "stderr": "",
    "exitCode": 0,
    "signal": None,
    "durationMs": 12,
    "timedOut": False,
    "oomKilled": False,
    "truncated": False,
}


async def execute(command: list[str], accept: str) -> Answered:
    client = Client()
    sandbox_id = await client.create()
    return await client.request(
        "POST",
        f"/v1/sandboxes/{sandbox_id}/execute",
        {"command": command},
        headers={"accept": accept},
    )


def frames(body: bytes) -> list[tuple[int, int, bytes]]:
    found = []
    while body:
        length, kind, offset = struct.unpack(">IB3xQ", body[:16])
        found.append((kind, offset, body[16 : 16 + length]))
        body = body[16 + length :]
    return found


def line(text: str, offset: int, *, partial: bool = False) -> dict[str, Any]:
    return {"type": "stdout", "line": text, "partial": partial, "offset": offset}


async def test_ndjson_is_lines_and_one_result() -> None:
    answer = await execute(["say", "one\ntw", "o\n", "three"], NDJSON_TYPE)

    assert answer.headers[b"content-type"] == b"application/x-ndjson"
    assert [json.loads(text) for text in answer.body.splitlines()] == [
        line("one", 0),
        line("two", 4),
        line("three", 8, partial=True),
        {"type": "result", **RESULT},
    ]


async def test_character_cut_by_the_command_is_whole_in_its_line() -> None:
    answer = await execute(["say", "gr\xc3", "\xbc\xc3", "\x9fe\n"], NDJSON_TYPE)

    assert json.loads(answer.body.splitlines()[0])["line"] == "grüße"


async def test_server_sent_events_are_named_by_type() -> None:
    answer = await execute(["fail", "2"], SSE_TYPE)

    assert answer.headers[b"content-type"] == b"text/event-stream"
    events = [event.split("\n") for event in answer.body.decode().split("\n\n") if event]
    assert [name for name, _ in events] == ["event: stderr", "event: result"]
    assert [json.loads(data.removeprefix("data: ")) for _, data in events] == [
        {"type": "stderr", "line": "no", "partial": False, "offset": 0},
        {"type": "result", **RESULT, "exitCode": 2},
    ]


async def test_line_with_line_ends_of_other_kinds_is_one_event() -> None:
    answer = await execute(["say", "a\rb\x0bc\xe2\x80\xa8d\n"], SSE_TYPE)

    data = answer.body.decode().split("\n\n")[0].split("\n")[1]
    assert json.loads(data.removeprefix("data: "))["line"] == "a\rb\x0bc\u2028d"
    assert "\r" not in answer.body.decode()


async def test_frames_are_the_bytes_as_they_were() -> None:
    answer = await execute(["say", "\xff\n", "\x80b"], FRAMES_TYPE)

    assert answer.headers[b"content-type"] == b"application/vnd.atoll.frames"
    *output, (kind, offset, last) = frames(answer.body)
    assert output == [(2, 0, b"\xff\n"), (2, 2, b"\x80b")]
    assert (kind, offset, json.loads(last)) == (0, 0, {"event": "exit", **RESULT})


async def test_frame_is_never_longer_than_the_protocol_allows() -> None:
    pieces = b"".join(FramesForm().event(Output(2, 7, b"x" * (SEND_BYTES + 1))))

    assert [(kind, offset, len(data)) for kind, offset, data in frames(pieces)] == [
        (3, 7, SEND_BYTES),
        (3, 7 + SEND_BYTES, 1),
    ]


@pytest.mark.parametrize("accept", [NDJSON_TYPE, SSE_TYPE, FRAMES_TYPE])
async def test_stream_that_breaks_ends_with_the_error(accept: str) -> None:
    answer = await execute(["break"], accept)

    assert answer.status == 200
    ends = {
        NDJSON_TYPE: lambda body: json.loads(body.splitlines()[-1]),
        SSE_TYPE: lambda body: json.loads(body.decode().split("data: ")[-1]),
        FRAMES_TYPE: lambda body: json.loads(frames(body)[-1][2]),
    }
    error = ends[accept](answer.body)["error"]
    assert error["code"] == "SANDBOX_FAILED"
    assert error["requestId"].encode() == answer.headers[b"x-request-id"]
    assert b"half" in answer.body


async def test_first_line_arrives_before_the_end() -> None:
    client = Client()
    sandbox_id = await client.create()
    exchange = Exchange([b'{"command":["sleep"]}'])
    scope = make_scope("POST", f"/v1/sandboxes/{sandbox_id}/execute", {"accept": NDJSON_TYPE}, KEY)

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(client.call(scope, exchange))
        await exchange.wait_sent(2)
        received = exchange.content
        exchange.gone.set()

    assert json.loads(received) == line("started", 0)


@pytest.mark.parametrize(
    ("accept", "beat"),
    [
        (NDJSON_TYPE, b'{"type":"heartbeat"}\n'),
        (SSE_TYPE, b": heartbeat\n\n"),
        (FRAMES_TYPE, b"\0\0\0\0\x05" + b"\0" * 11),
    ],
)
async def test_silence_is_filled_with_heartbeats(
    accept: str, beat: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "HEARTBEAT_SECONDS", 0.001)  # a named limit, not code
    client = Client()
    sandbox_id = await client.create()
    exchange = Exchange([b'{"command":["sleep"]}'])
    scope = make_scope("POST", f"/v1/sandboxes/{sandbox_id}/execute", {"accept": accept}, KEY)

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(client.call(scope, exchange))
        await exchange.wait_sent(4)
        exchange.gone.set()

    assert [message["body"] for message in exchange.sent[2:4]] == [beat, beat]


async def test_slow_client_stops_the_command() -> None:
    client = Client()
    sandbox_id = await client.create()
    exchange = Exchange([b'{"command":["flood","1000000000"]}'])
    scope = make_scope("POST", f"/v1/sandboxes/{sandbox_id}/execute", {"accept": FRAMES_TYPE}, KEY)

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(client.call(scope, exchange))
        await exchange.wait_sent(1)
        exchange.writable.clear()
        for _ in range(1000):
            await asyncio.sleep(0)
        stalled_at = client.engine.played
        exchange.gone.set()
        exchange.writable.set()

    assert stalled_at <= 4 * MAILBOX_BYTES
    assert len(client.engine.left_early) == 1


async def test_many_small_pieces_are_sent_together() -> None:
    answer = await execute(["flood", str(64 * 65536)], FRAMES_TYPE)
    client = Client()
    sandbox_id = await client.create()
    exchange = Exchange([b'{"command":["flood","4194304"]}'])

    await client.call(
        make_scope("POST", f"/v1/sandboxes/{sandbox_id}/execute", {"accept": FRAMES_TYPE}, KEY),
        exchange,
    )

    assert len(frames(answer.body)) == 65
    assert len(exchange.sent) < 30
    assert max(len(message.get("body", b"")) for message in exchange.sent) < 2 * SEND_BYTES


async def test_tiny_lines_let_other_requests_in_between() -> None:
    client = Client()
    sandbox_id = await client.create()
    exchange = Exchange([json.dumps({"command": ["say", "\n" * 200_000]}).encode()])
    scope = make_scope("POST", f"/v1/sandboxes/{sandbox_id}/execute", {"accept": NDJSON_TYPE}, KEY)
    turns = 0

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        running = group.create_task(client.call(scope, exchange))
        while not running.done():
            turns += 1
            await asyncio.sleep(0)

    assert turns > 20


async def test_mailbox_keeps_order_and_says_when_nothing_comes() -> None:
    mailbox = Mailbox()
    end = Exit(0, None, False, False, 0.0, 0, 0)

    await mailbox.put(Output(1, 0, b"a"))
    await mailbox.put(end)

    assert await mailbox.take(1) == [Output(1, 0, b"a"), end]
    assert await mailbox.take(0.001) == []


async def test_dropped_output_does_not_glue_lines_together() -> None:
    form = NdjsonForm()

    texts = b"".join([*form.event(Output(1, 0, b"ab")), *form.event(Output(1, 10, b"cd\n"))])

    assert [json.loads(text) for text in texts.splitlines()] == [
        line("ab", 0, partial=True),
        line("cd", 10),
    ]
