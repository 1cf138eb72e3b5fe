# SPDX-License-Identifier: Apache-2.0
"""Watches: what is asked of the agent, and what its answers and failures become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from atoll_server.agent.client import AgentClient
from atoll_server.agent.messages import GENERATION
from atoll_server.engine import errors
from atoll_server.engine.model import (
    ChangeKind,
    ChangesEnd,
    FileChange,
    SandboxId,
    WatchEnd,
    WatchId,
)
from atoll_server.engine.watches import Watches
from tests.unit.agent.peer import Script, Talk, peer, say

ID = WatchId("watch_7")
DONE: dict[str, Any] = {"event": "done"}


def record(**fields: Any) -> dict[str, Any]:
    return {
        "watch": 7,
        "path": "/work/src",
        "recursive": False,
        "started_ns": 1,
        "first": 1,
        "last": 0,
        "ended": None,
        **fields,
    }


def listed(*records: dict[str, Any]) -> Script:
    return say({"event": "watches", "watches": [*records]}, DONE)


def change(number: int, **fields: Any) -> dict[str, Any]:
    told = {"number": number, "kind": "created", "path": "/work/a", "from": None}
    return {**told, "directory": False, "at_ns": 5, **fields}


def told(*changes: dict[str, Any]) -> dict[str, Any]:
    return {"event": "changes", "changes": [*changes]}


def refusal(code: str) -> Script:
    return say({"event": "error", "code": code, "errno": 0, "message": "why"})


def watches_of(agent: AgentClient) -> Watches:
    return Watches(agent, "/work", SandboxId("sb-1"))


async def test_watch_begins_with_all_that_was_asked_for(tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []

    async def script(talk: Talk) -> None:
        heard.append(await talk.request())
        await talk.say({**DONE, "watch": 7, "path": "/work/src"})

    async with peer(tmp_path, script, listed(record(recursive=True))) as agent:
        watch = await watches_of(agent).start("./src", recursive=True, linger=1.5)

    assert (watch.id, watch.record.path, watch.record.recursive) == (ID, b"/work/src", True)
    assert {name: heard[0][name] for name in ("op", "generation", "path", "linger_ms")} == {
        "op": "watch",
        "generation": GENERATION,
        "path": "/work/src",
        "linger_ms": 1500,
    }
    assert heard[0]["recursive"] is True


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("not_found", errors.FileNotFound),
        ("not_a_directory", errors.FileError),
        ("invalid", errors.InvalidRequest),
        ("limit", errors.ResourceExhausted),
        ("unsupported", errors.Internal),
    ],
)
async def test_watch_that_cannot_begin_says_why(
    tmp_path: Path, code: str, error: type[errors.EngineError]
) -> None:
    async with peer(tmp_path, refusal(code)) as agent:
        with pytest.raises(error) as raised:
            await watches_of(agent).start("src")

    assert "src" in raised.value.message or code == "limit"
    assert raised.value.sandbox_id == "sb-1"


@pytest.mark.parametrize("path", ["", "a\0b"])
async def test_path_that_cannot_be_is_not_asked_for(tmp_path: Path, path: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        await watches_of(AgentClient(str(tmp_path / "nobody"))).start(path)


async def test_watches_are_listed_with_their_ends(tmp_path: Path) -> None:
    async with peer(tmp_path, listed(record(), record(watch=8, ended="removed"))) as agent:
        first, second = await watches_of(agent).list()

    assert (first.id, first.record.ended) == ("watch_7", None)
    assert (second.id, second.record.ended) == ("watch_8", WatchEnd.REMOVED)


@pytest.mark.parametrize("records", [[], [record(watch=8)], [record(), record(watch=8)]])
async def test_agent_that_answers_for_another_watch_has_failed(
    tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    script = listed(*records) if records else say(DONE)
    async with peer(tmp_path, script) as agent:
        with pytest.raises(errors.SandboxFailed):
            await watches_of(agent).get(ID)


async def test_unknown_watch_is_not_found_in_every_way(tmp_path: Path) -> None:
    async with peer(tmp_path, *[refusal("not_found")] * 3) as agent:
        watches = watches_of(agent)
        with pytest.raises(errors.WatchNotFound, match="watch_7"):
            await watches.get(ID)
        with pytest.raises(errors.WatchNotFound):
            await watches.stop(ID)
        with pytest.raises(errors.WatchNotFound):
            async with watches.changes(ID):
                pass


@pytest.mark.parametrize("text", ["7", "watch_", "watch_07", "watch_-1", "watch_9" * 9, "proc_7"])
async def test_what_is_no_id_is_no_watch(tmp_path: Path, text: str) -> None:
    watches = watches_of(AgentClient(str(tmp_path / "nobody")))
    with pytest.raises(errors.WatchNotFound):
        await watches.get(WatchId(text))
    with pytest.raises(errors.WatchNotFound):
        watches.changes(WatchId(text))


async def test_changes_end_with_why(tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []

    async def script(talk: Talk) -> None:
        heard.append(await talk.request())
        await talk.say(told())
        await talk.say(told(change(4), change(5, kind="renamed", **{"from": "/work/b"})))
        await talk.say({**DONE, "last": 5, "ended": "stopped"})

    async with peer(tmp_path, script) as agent:
        async with watches_of(agent).changes(ID, since=3) as changes:
            events = [event async for event in changes]

    assert (heard[0]["watch"], heard[0]["since"], heard[0]["follow"]) == (7, 3, True)
    assert events == [
        FileChange(4, ChangeKind.CREATED, b"/work/a", None, False, 5),
        FileChange(5, ChangeKind.RENAMED, b"/work/a", b"/work/b", False, 5),
        ChangesEnd(5, WatchEnd.STOPPED),
    ]


async def test_changes_after_one_that_is_not_there_yet_are_refused(tmp_path: Path) -> None:
    async with peer(tmp_path, refusal("invalid")) as agent:
        with pytest.raises(errors.InvalidRequest):
            async with watches_of(agent).changes(ID, since=9):
                pass


@pytest.mark.parametrize(
    "messages",
    [
        [told(change(2), change(2))],
        [told(change(3), change(2))],
        [told(change(1))],
        [told(change(2, kind="party"))],
        [told(change(2, path=None))],
        [told(change(2, kind="renamed"))],
        [],
    ],
    ids=["twice", "back", "known", "kind", "no path", "no old path", "silence"],
)
async def test_changes_that_cannot_be_are_a_failed_sandbox(
    tmp_path: Path, messages: list[dict[str, Any]]
) -> None:
    async with peer(tmp_path, say(told(), *messages)) as agent:
        async with watches_of(agent).changes(ID, since=1) as changes:
            with pytest.raises(errors.SandboxFailed):
                async for _ in changes:
                    pass


async def test_agent_of_an_older_generation_is_not_asked(tmp_path: Path) -> None:
    words = {**DONE, "generation": 2, "version": "1", "pid": 1, "features": []}

    async with peer(tmp_path, say(words)) as agent:
        await agent.hello(1)
        with pytest.raises(errors.EngineError, match="older than this operation"):
            await watches_of(agent).list()
