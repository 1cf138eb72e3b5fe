# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest

import atoll
from atoll import AsyncSandbox, AsyncWatch, FileChange
from tests.support.scripted_server import (
    HANG_UP,
    Answer,
    ScriptedServer,
    answer_error,
    answer_json,
)
from tests.unit.sdk import samples

BASE = "/v1/sandboxes/sb_0123456789/watches"
GONE = Answer(204)


@pytest.fixture
async def watch(sandbox: AsyncSandbox, scripted: ScriptedServer) -> AsyncWatch:
    """Its start is forgotten: the test sees only what it does itself."""
    scripted.script.append(answer_json(samples.watch(), 201))
    watch = await sandbox.files.watch("src")
    scripted.asked.clear()
    return watch


def stream(*lines: bytes, cut: bool = False, hang: bool = False) -> Answer:
    headers = {"Content-Type": "application/x-ndjson"}
    return Answer(headers=headers, pieces=lines, cut=cut, hang=hang)


def change(number: int, **members: Any) -> bytes:
    return samples.change_line(number=number, **members)


async def read_all(watch: AsyncWatch, **options: Any) -> list[FileChange]:
    return [change async for change in watch.changes(**options)]


async def test_a_watch_says_what_was_asked_and_nothing_else(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [answer_json(samples.watch(last=3), 201)] * 2

    watch = await sandbox.files.watch("src")
    await sandbox.files.watch(b"/\xff", recursive=True, linger_ms=5)

    assert [asked.json for asked in scripted.asked] == [
        {"path": "src"},
        {"path": "L/8=", "pathEncoding": "base64", "recursive": True, "lingerMs": 5},
    ]
    assert (scripted.asked[0].method, scripted.asked[0].path) == ("POST", BASE)
    assert (watch.id, watch.path, watch.recursive) == ("watch_1", "/workspace/src", False)
    assert (watch.first, watch.last, watch.ended) == (1, 3, None)
    assert repr(watch).endswith("Watch watch_1 of '/workspace/src' in sb_0123456789>")


async def test_a_watch_whose_answer_was_lost_is_not_begun_twice(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [HANG_UP]

    with pytest.raises(atoll.ConnectionLost):
        await sandbox.files.watch("src")

    assert len(scripted.asked) == 1


async def test_an_iteration_tells_changes_until_the_watch_ends(
    watch: AsyncWatch, scripted: ScriptedServer
) -> None:
    scripted.script += [
        stream(change(1), b'{"type":"heartbeat"}\n', change(2), samples.end_line(2, "removed"))
    ]

    numbers = [change.number async for change in watch]

    assert numbers == [1, 2]
    assert (watch.last, watch.ended) == (2, "removed")
    assert scripted.asked[0].target == f"{BASE}/watch_1/changes?since=0"
    assert scripted.asked[0].headers["accept"] == "application/x-ndjson"


async def test_changes_go_on_by_themselves_where_they_broke(
    watch: AsyncWatch, scripted: ScriptedServer
) -> None:
    scripted.script += [
        stream(change(1), change(2)[:-9], cut=True),
        HANG_UP,
        stream(change(1), change(2)),
        stream(change(7, kind="overflow", path=None)),
        stream(samples.end_line(7)),
    ]

    changes = await read_all(watch)

    assert [change.number for change in changes] == [1, 2, 7]
    assert changes[-1].kind is atoll.ChangeKind.OVERFLOW
    assert [asked.query["since"] for asked in scripted.asked] == ["0", "1", "1", "2", "7"]


async def test_a_second_look_tells_what_is_new(watch: AsyncWatch, scripted: ScriptedServer) -> None:
    now = samples.end_line(2, None)
    scripted.script += [stream(change(1), change(2), now), stream(now), stream(change(1), now)]

    first = await read_all(watch, follow=False)
    second = await read_all(watch, follow=False)
    whole = await read_all(watch, since=0, follow=False)

    assert [len(first), len(second), len(whole)] == [2, 0, 1]
    assert [asked.query for asked in scripted.asked] == [
        {"since": "0", "follow": "false"},
        {"since": "2", "follow": "false"},
        {"since": "0", "follow": "false"},
    ]
    assert (watch.last, watch.ended) == (2, None)


async def test_changes_do_not_hide_what_does_not_pass(
    watch: AsyncWatch, scripted: ScriptedServer
) -> None:
    scripted.script += [stream(change(1), cut=True), answer_error("WATCH_NOT_FOUND", 404)]

    with pytest.raises(atoll.WatchNotFound):
        await read_all(watch)


async def test_leaving_the_changes_closes_their_connection(
    watch: AsyncWatch, scripted: ScriptedServer
) -> None:
    scripted.script += [stream(change(1), hang=True)]

    async with aclosing(watch.changes()) as changes:
        async for _ in changes:
            break

    assert scripted.left.wait(5)


@pytest.mark.parametrize("since", [-1, "0", 1.5, True])
async def test_a_change_has_a_number(watch: AsyncWatch, since: Any) -> None:
    with pytest.raises(atoll.InvalidRequest):
        await read_all(watch, since=since)


@pytest.mark.parametrize("code", ["WATCH_NOT_FOUND", "SANDBOX_NOT_FOUND"])
async def test_stopping_may_be_repeated(
    watch: AsyncWatch, scripted: ScriptedServer, code: str
) -> None:
    scripted.script += [GONE, answer_error(code, 404)]

    await watch.stop()
    await watch.stop()

    assert [(asked.method, asked.path) for asked in scripted.asked] == [
        ("DELETE", f"{BASE}/watch_1")
    ] * 2
    assert watch.ended == "stopped"


async def test_the_end_of_a_block_stops_the_watch(
    watch: AsyncWatch, scripted: ScriptedServer
) -> None:
    scripted.script += [GONE]

    async with watch as entered:
        assert entered is watch
        assert scripted.asked == []

    assert scripted.asked[0].method == "DELETE"


async def test_a_watch_that_was_not_stopped_is_a_note_on_what_went_wrong(
    watch: AsyncWatch, scripted: ScriptedServer
) -> None:
    scripted.script += [answer_error("SANDBOX_FAILED", 409)] * 2

    with pytest.raises(ValueError, match="mine") as raised:
        async with watch:
            raise ValueError("mine")
    with pytest.raises(atoll.SandboxFailed):
        async with watch:
            pass

    assert "watch_1 was not stopped" in raised.value.__notes__[0]


async def test_watches_are_found_again(sandbox: AsyncSandbox, scripted: ScriptedServer) -> None:
    scripted.script += [
        answer_json(samples.watches(samples.watch(), samples.watch(id="watch_2"))),
        answer_json(samples.watch(id="watch_2", last=4)),
        answer_json(samples.watch(id="watch_2", last=9, ended="removed")),
    ]

    found = await sandbox.files.watches()
    one = await sandbox.files.get_watch("watch_2")
    last = one.last
    await one.refresh()

    assert [watch.id for watch in found] == ["watch_1", "watch_2"]
    assert (last, one.last, one.ended) == (4, 9, "removed")
    assert [asked.path for asked in scripted.asked] == [BASE, *[f"{BASE}/watch_2"] * 2]
