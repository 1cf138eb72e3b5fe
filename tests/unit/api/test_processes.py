# SPDX-License-Identifier: Apache-2.0
"""Processes over HTTP and WebSockets, with an engine in memory."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from atoll_server.api.native.process_wire import parse_signal
from atoll_server.api.native.terminal import INBOX_BYTES, Inbox, Resize, SendSignal, parse_said
from atoll_server.api.object_forms import parse_resume
from atoll_server.engine.errors import InvalidRequest
from atoll_server.engine.keys import Scope
from tests.unit.api.memory import KEY, Client
from tests.unit.api.sockets import Socket

pytestmark = pytest.mark.anyio

CHANGING = [
    ("POST", "", b'{"command": "x"}'),
    ("DELETE", "/proc_1", None),
    ("POST", "/proc_1/signal", b'{"signal": 9}'),
    ("POST", "/proc_1/stdin", b""),
    ("POST", "/proc_1/resize", b"{}"),
    ("GET", "/proc_1/attach", None),
]
READING = [
    ("GET", "", None),
    ("GET", "/proc_1", None),
    ("GET", "/proc_1/stream", None),
    ("POST", "/proc_1/wait", b"{}"),
]


async def with_process(command: list[str], **fields: Any) -> tuple[Client, str]:
    client = Client()
    root = f"/v1/sandboxes/{await client.create()}/processes"
    answer = await client.request("POST", root, {"command": command, **fields})
    assert answer.status == 201, answer.body
    return client, root


async def test_process_is_shown_with_all_its_members() -> None:
    client, root = await with_process(
        ["fail", "3"], tag="t", user="nobody", pty={"rows": 2, "cols": 3}
    )
    answer = await client.request("GET", f"{root}/proc_1")

    assert answer.json == {
        "id": "proc_1",
        "pid": 100,
        "command": ["fail", "3"],
        "cwd": "/workspace",
        "user": "nobody",
        "tag": "t",
        "status": "exited",
        "exitCode": 3,
        "signal": None,
        "startedAt": "2023-11-14T22:13:20.000Z",
        "exitedAt": "2023-11-14T22:13:21.000Z",
        "stdoutBytes": 0,
        "stderrBytes": 3,
        "position": 3,
        "firstPosition": 0,
        "stdinOpen": False,
        "pty": {"rows": 2, "cols": 3},
    }


@pytest.mark.parametrize(
    ("command", "status", "code", "signal"),
    [
        (["signal", "9"], "killed", 137, "SIGKILL"),
        (["timeout"], "timed_out", None, "SIGTERM"),
        (["timeout", "x"], "timed_out", None, "SIGKILL"),
        (["sleep"], "running", None, None),
    ],
)
async def test_end_is_told_as_of_execute(
    command: list[str], status: str, code: int | None, signal: str | None
) -> None:
    client, root = await with_process(command)
    shown = (await client.request("GET", f"{root}/proc_1")).json
    assert (shown["status"], shown["exitCode"], shown["signal"]) == (status, code, signal)


@pytest.mark.parametrize(
    "fields",
    [
        {"tag": ""},
        {"tag": "x" * 257},
        {"pty": {"rows": 0, "cols": 1}},
        {"pty": {"rows": 1, "cols": 65536}},
        {"pty": {"rows": 1, "cols": 1, "x": 1}},
        {"timeoutMs": 0},
        {"idleTimeoutMs": -1},
        {"command": []},
        {"user": "a", "runAs": "b"},
        {"stdinEncoding": "x"},
        {"stdinOpen": 1},
        {"more": 1},
    ],
)
async def test_process_that_cannot_be_is_refused(fields: dict[str, Any]) -> None:
    client = Client()
    root = f"/v1/sandboxes/{await client.create()}/processes"

    answer = await client.request("POST", root, {"command": "x", **fields})

    assert (answer.status, answer.code) == (400, "INVALID_REQUEST")


@pytest.mark.parametrize("query", ["?status=x", "?limit=0", "?limit=1001", "?pid=0", "?pid=x"])
async def test_list_that_cannot_be_is_refused(query: str) -> None:
    client, root = await with_process(["echo"])
    assert (await client.request("GET", f"{root}{query}")).code == "INVALID_REQUEST"


async def test_page_says_whether_there_is_more() -> None:
    client, root = await with_process(["echo", "a"])
    await client.request("POST", root, {"command": ["echo", "b"]})

    first = (await client.request("GET", f"{root}?limit=1")).json
    last = (await client.request("GET", f"{root}?limit=1&cursor=proc_2")).json

    assert first["pagination"] == {"limit": 1, "hasMore": True, "nextCursor": "proc_2"}
    assert [process["id"] for process in first["data"]] == ["proc_2"]
    assert last["pagination"] == {"limit": 1, "hasMore": False, "nextCursor": None}


@pytest.mark.parametrize(("method", "path", "body"), READING)
async def test_reading_needs_the_scope_to_read(method: str, path: str, body: bytes | None) -> None:
    engine = (await with_process(["echo", "x"]))[0].engine
    url = f"/v1/sandboxes/sb_0000000000/processes{path}"

    reader = Client(engine, scopes=frozenset({Scope.READ}))
    runner = Client(engine, scopes=frozenset(Scope) - {Scope.READ})

    assert (await reader.request(method, url, body)).status == 200
    assert (await runner.request(method, url, body)).code == "FORBIDDEN"


@pytest.mark.parametrize(("method", "path", "body"), CHANGING)
async def test_changing_needs_the_scope_to_execute(
    method: str, path: str, body: bytes | None
) -> None:
    engine = (await with_process(["echo", "x"]))[0].engine
    reader = Client(engine, scopes=frozenset(Scope) - {Scope.EXECUTE})

    answer = await reader.request(method, f"/v1/sandboxes/sb_0000000000/processes{path}", body)

    assert answer.code == "FORBIDDEN"


async def test_input_is_written_and_ended() -> None:
    client, root = await with_process(["cat"], stdinOpen=True)
    headers = {"content-type": "application/octet-stream"}

    written = await client.request("POST", f"{root}/proc_1/stdin?eof=true", b"abc", headers=headers)
    late = await client.request("POST", f"{root}/proc_1/stdin", b"d", headers=headers)

    assert written.json == {"bytes": 3}
    assert (late.status, late.code) == (409, "STDIN_CLOSED")
    kept = next(iter(client.engine.started.values())).kept[0]
    assert kept.typed == b"abc"


async def test_input_that_is_no_bytes_is_refused() -> None:
    client, root = await with_process(["cat"], stdinOpen=True)
    answer = await client.request("POST", f"{root}/proc_1/stdin", b"{}")
    assert (answer.status, answer.code) == (415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(("value", "number"), [("TERM", 15), ("sigint", 2), (9, 9), ("64", 64)])
def test_signal_has_a_name_or_a_number(value: str | int, number: int) -> None:
    assert parse_signal(value) == number


@pytest.mark.parametrize("value", ["", "SIG", "0", "65", -1, 0, 65, "_DFL", "²", "TERM "])
def test_other_signals_are_refused(value: str | int) -> None:
    with pytest.raises(InvalidRequest):
        parse_signal(value)


@pytest.mark.parametrize(("header", "since"), [("", 3), ("0", 0), ("12", 12)])
def test_last_event_counts_before_the_query(header: str, since: int) -> None:
    assert parse_resume(header, 3) == since


@pytest.mark.parametrize("header", ["x", "-1", "1.5", "9" * 19 + "9", str(2**63), "١"])
def test_last_event_that_is_no_position_is_refused(header: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_resume(header, 0)


# WebSockets


async def test_terminal_shows_the_output_and_the_exit() -> None:
    client, root = await with_process(["echo", "hello"])
    socket = Socket(client, f"{root}/proc_1/attach")
    closed = await socket.wait_for("websocket.close")
    await socket.task

    assert [message["type"] for message in socket.sent][:1] == ["websocket.accept"]
    assert dict(socket.sent[0]["headers"])[b"x-request-id"].startswith(b"req_")
    assert [text["type"] for text in socket.texts] == ["attached", "exit"]
    assert [m["bytes"] for m in socket.sent if m.get("bytes")] == [b"hello\n"]
    assert closed["code"] == 1000


async def test_terminal_takes_bytes_size_signal_and_end() -> None:
    client, root = await with_process(["cat"], pty={"rows": 1, "cols": 1})
    kept = client.engine.started[next(iter(client.engine.started))].kept[0]
    socket = Socket(client, f"{root}/proc_1/attach")
    socket.type(b"typed")
    socket.text(type="eof")
    socket.text(type="resize", rows=5, cols=6)
    async with asyncio.timeout(5):
        while kept.typed != b"typed^D":  # noqa: ASYNC110 # the memory has no event for it
            await asyncio.sleep(0)
    socket.text(type="signal", signal="HUP")
    await socket.wait_for("websocket.close")
    await socket.task

    assert socket.texts[-1]["pty"] == {"rows": 5, "cols": 6}
    assert socket.texts[-1]["signal"] == "SIGHUP"


async def test_what_was_typed_before_leaving_is_passed_on() -> None:
    client, root = await with_process(["cat"], stdinOpen=True)
    kept = client.engine.started[next(iter(client.engine.started))].kept[0]
    socket = Socket(client, f"{root}/proc_1/attach")
    socket.type(b"last words")
    socket.leave()
    await asyncio.wait_for(socket.task, 5)

    assert kept.typed == b"last words"
    assert not kept.record.has_ended


async def test_nonsense_ends_it_with_an_error() -> None:
    client, root = await with_process(["sleep"])
    socket = Socket(client, f"{root}/proc_1/attach")
    socket.text(type="unknown")
    closed = await socket.wait_for("websocket.close")
    await socket.task

    assert socket.texts[-1]["error"]["code"] == "INVALID_REQUEST"
    assert closed["code"] == 1011


@pytest.mark.parametrize(
    ("key", "path", "status", "code"),
    [
        (None, "/proc_1/attach", 401, "UNAUTHORIZED"),
        ("wrong", "/proc_1/attach", 401, "UNAUTHORIZED"),
        (KEY, "/proc_2/attach", 404, "PROCESS_NOT_FOUND"),
        (KEY, "/proc_1/attach?since=99", 400, "INVALID_REQUEST"),
        (KEY, "/proc_1/attach?more=1", 400, "INVALID_REQUEST"),
        (KEY, "/proc_1/stream", 404, "NOT_FOUND"),
    ],
)
async def test_refusal_is_an_http_answer(
    key: str | None, path: str, status: int, code: str
) -> None:
    client, root = await with_process(["echo", "x"])
    socket = Socket(client, f"{root}{path}", key)
    await socket.task

    start, body = socket.sent
    assert (start["type"], start["status"]) == ("websocket.http.response.start", status)
    assert json.loads(body["body"])["error"]["code"] == code
    assert b"x-request-id" in dict(start["headers"])


async def test_terminal_needs_the_scope_to_execute() -> None:
    client, root = await with_process(["echo", "x"])
    reader = Client(client.engine, scopes=frozenset(Scope) - {Scope.EXECUTE})
    socket = Socket(reader, f"{root}/proc_1/attach")
    await socket.task

    assert socket.sent[0]["status"] == 403


async def test_inbox_that_is_full_stops_who_fills_it() -> None:
    inbox = Inbox()
    filling = asyncio.ensure_future(inbox.put(bytes(INBOX_BYTES)))
    await asyncio.sleep(0)
    assert not filling.done()

    assert await inbox.take() == bytes(INBOX_BYTES)
    await asyncio.wait_for(filling, 5)


async def test_inbox_that_nobody_reads_any_more_takes_everything() -> None:
    inbox = Inbox()
    filling = asyncio.ensure_future(inbox.put(bytes(INBOX_BYTES)))
    await asyncio.sleep(0)
    inbox.discard()

    await asyncio.wait_for(filling, 5)
    await asyncio.wait_for(inbox.put(bytes(2 * INBOX_BYTES)), 5)


def test_text_messages_are_records() -> None:
    assert parse_said('{"type": "resize", "rows": 1, "cols": 2}') == Resize(1, 2)
    assert parse_said('{"type": "signal", "signal": 2}') == SendSignal(2)
