# SPDX-License-Identifier: Apache-2.0
"""Watches over HTTP, with an engine in memory."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from atoll_server.engine.ids import watch_id
from atoll_server.engine.keys import Scope
from atoll_server.engine.model import ChangeKind, SandboxId, WatchEnd
from tests.unit.api.memory import KEY, Answered, Client, Exchange, make_scope
from tests.unit.api.memory_watches import Kept

pytestmark = pytest.mark.anyio

NDJSON, EVENTS = "application/x-ndjson", "text/event-stream"
STARTED = "2023-11-14T22:13:20.000Z"


class Watched:
    """One watch of one sandbox, over HTTP."""

    def __init__(self, client: Client, sandbox_id: SandboxId) -> None:
        self.client = client
        self.root = f"/v1/sandboxes/{sandbox_id}/watches"
        self.one = f"{self.root}/watch_1"
        self._sandbox_id = sandbox_id

    @property
    def kept(self) -> Kept:
        return self.client.engine.watched[self._sandbox_id].kept[watch_id(1)]

    async def request(self, method: str, path: str, body: Any = None, **headers: str) -> Answered:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.request(method, path, body, headers=named)

    async def read(self, query: str = "", **headers: str) -> bytes:
        answer = await self.request("GET", f"{self.one}/changes{query}", **headers)
        assert answer.status == 200, answer.body
        return answer.body


@pytest.fixture
async def watched() -> Watched:
    client = Client()
    found = Watched(client, await client.create())
    answer = await found.request("POST", found.root, {"path": "src"})
    assert answer.status == 201, answer.body
    return found


def lines(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in body.splitlines()]


def change(number: int, **members: Any) -> dict[str, Any]:
    told = {"type": "change", "number": number, "kind": "created", "path": "/w/a"}
    return {**told, "fromPath": None, "isDirectory": False, "at": STARTED, **members}


async def test_watch_is_shown_from_its_start_to_its_end(watched: Watched) -> None:
    shown = {
        "id": "watch_1",
        "path": "/workspace/src",
        "recursive": False,
        "createdAt": STARTED,
        "first": 1,
        "last": 0,
        "ended": None,
    }
    listed = (await watched.request("GET", watched.root)).json
    await watched.kept.happen(ChangeKind.CREATED, b"/workspace/src/a")
    await watched.kept.end(WatchEnd.REMOVED)
    ended = (await watched.request("GET", watched.one)).json
    stopped = await watched.request("DELETE", watched.one)
    again = await watched.request("DELETE", watched.one)

    assert listed["data"] == [shown]
    assert listed["pagination"] == {"total": 1, "limit": 64, "offset": 0, "hasMore": False}
    assert ended == {**shown, "last": 1, "ended": "removed"}
    assert (stopped.status, stopped.body) == (204, b"")
    assert (again.status, again.code) == (404, "WATCH_NOT_FOUND")


async def test_all_that_is_asked_for_reaches_the_engine(watched: Watched) -> None:
    body = {"path": "L/8=", "pathEncoding": "base64", "recursive": True, "lingerMs": 1500}

    answer = await watched.request("POST", watched.root, body)

    assert (answer.json["path"], answer.json["recursive"]) == ("/\ufffd", True)
    second = next(iter(watched.client.engine.watched.values())).kept[watch_id(2)]
    assert (second.record.path, second.linger) == (b"/\xff", 1.5)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"path": 1},
        {"path": "a\0"},
        {"path": "a", "pathEncoding": "hex"},
        {"path": "%%", "pathEncoding": "base64"},
        {"path": "a", "recursive": "yes"},
        {"path": "a", "lingerMs": 0},
        {"path": "a", "lingerMs": 86_400_001},
        {"path": "a", "keep": 5},
    ],
)
async def test_watch_that_cannot_be_is_refused(watched: Watched, body: dict[str, Any]) -> None:
    answer = await watched.request("POST", watched.root, body)
    assert (answer.status, answer.code) == (400, "INVALID_REQUEST")


async def test_directory_that_is_missing_is_not_found(watched: Watched) -> None:
    answer = await watched.request("POST", watched.root, {"path": "/missing"})
    assert (answer.status, answer.code) == (404, "FILE_NOT_FOUND")


async def test_changes_are_objects_and_the_last_says_why_there_are_no_more(
    watched: Watched,
) -> None:
    await watched.kept.happen(ChangeKind.CREATED, b"/w/a")
    await watched.kept.happen(ChangeKind.RENAMED, b"/w/\xff\n", from_path=b"/w/a")
    await watched.kept.happen(ChangeKind.OVERFLOW, None)
    await watched.kept.end(WatchEnd.REMOVED)

    assert lines(await watched.read(accept=NDJSON)) == [
        change(1),
        change(2, kind="renamed", path="/w/\ufffd\n", fromPath="/w/a"),
        change(3, kind="overflow", path=None),
        {"type": "end", "last": 3, "ended": "removed"},
    ]


async def test_events_are_named_and_numbered_and_resume(watched: Watched) -> None:
    for _ in range(3):
        await watched.kept.happen(ChangeKind.CREATED, b"/w/a")
    await watched.kept.end(WatchEnd.STOPPED)

    body = await watched.read("?since=0", accept=EVENTS, last_event_id="2")
    nothing = await watched.read("?since=3", accept=EVENTS)

    first, end = (block.split("\n") for block in body.decode().split("\n\n")[:-1])
    assert first[:2] == ["event: change", "id: 3"]
    assert json.loads(first[2].removeprefix("data: ")) == change(3)
    assert end == ["event: end", "id: 3", 'data: {"type":"end","last":3,"ended":"stopped"}']
    assert nothing.decode().split("\n")[1] == "id: 3"


async def test_changes_of_now_end_with_what_there_is(watched: Watched) -> None:
    await watched.kept.happen(ChangeKind.MODIFIED, b"/w/a")

    assert lines(await watched.read("?follow=false")) == [
        change(1, kind="modified"),
        {"type": "end", "last": 1, "ended": None},
    ]


async def test_change_is_told_while_the_watch_goes_on(watched: Watched) -> None:
    exchange = Exchange([b""])
    scope = make_scope("GET", f"{watched.one}/changes", {"accept": NDJSON}, KEY)

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(watched.client.call(scope, exchange))
        await exchange.wait_sent(1)
        await watched.kept.happen(ChangeKind.CREATED, b"/w/a")
        await exchange.wait_sent(2)
        told = lines(exchange.content)
        await watched.request("DELETE", watched.one)

    assert told == [change(1)]
    assert lines(exchange.content)[-1] == {"type": "end", "last": 1, "ended": "stopped"}


@pytest.mark.parametrize("query", ["?since=1", "?since=-1", "?since=x", "?follow=1", "?x=1"])
async def test_changes_that_cannot_be_are_refused(watched: Watched, query: str) -> None:
    answer = await watched.request("GET", f"{watched.one}/changes{query}")
    assert (answer.status, answer.code) == (400, "INVALID_REQUEST")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "", {"path": "a"}, 201),
        ("GET", "", None, 200),
        ("GET", "/watch_1", None, 200),
        ("GET", "/watch_1/changes?follow=false", None, 200),
        ("DELETE", "/watch_1", None, 204),
    ],
)
async def test_watching_needs_the_scope_of_files(
    watched: Watched, method: str, path: str, body: Any, status: int
) -> None:
    engine, url = watched.client.engine, f"{watched.root}{path}"
    others = Client(engine, scopes=frozenset(Scope) - {Scope.FILES})
    files = Client(engine, scopes=frozenset({Scope.FILES}))

    assert (await others.request(method, url, body)).code == "FORBIDDEN"
    assert (await files.request(method, url, body)).status == status
