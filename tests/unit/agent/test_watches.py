# SPDX-License-Identifier: Apache-2.0
"""Watched directories as an agent reports them: read when they are as they should be, refused when not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.agent.errors import AgentError, AgentFailure, AgentProtocolError, AgentUnavailable
from atoll_server.agent.frames import HEADER_BYTES, encode_control
from atoll_server.agent.messages.watches import (
    CHANGES,
    WATCHES,
    ChangesReply,
    WatchesReply,
    read_change,
    read_watch,
)
from atoll_server.engine.model import ChangeKind, FileChange, WatchEnd, WatchRecord
from tests.unit.agent.peer import Talk, peer, say

WATCH = {
    "watch": 7,
    "path": "/work",
    "recursive": True,
    "started_ns": 5,
    "first": 1,
    "last": 0,
    "ended": None,
}
CHANGE = {
    "number": 1,
    "kind": "created",
    "path": "/work/a",
    "from": None,
    "directory": False,
    "at_ns": 9,
}
NONE: dict[str, Any] = {"event": "changes", "changes": []}
NO_SUCH = {"event": "error", "code": "not_found", "errno": 0, "message": "no such watch"}


def changes(*numbers: int, **fields: object) -> dict[str, Any]:
    return {"event": "changes", "changes": [{**CHANGE, "number": n, **fields} for n in numbers]}


def end(last: int, ended: str | None = None) -> dict[str, Any]:
    return {"event": "done", "last": last, "ended": ended}


def listed(*watches: dict[str, Any]) -> dict[str, Any]:
    return {"event": "watches", "watches": list(watches)}


async def read_all(tmp_path: Path, *answers: dict[str, Any]) -> list[int]:
    async with peer(tmp_path, say(*answers)) as agent, agent.changes(7) as following:
        return [change.number async for change in following]


async def test_watch_is_active_and_known_when_it_returns(tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []

    async def begin(talk: Talk) -> None:
        heard.append(await talk.request())
        await talk.say({"event": "done", "watch": 7, "path": "/work"})

    async def describe(talk: Talk) -> None:
        heard.append(await talk.request())
        await talk.say(listed(WATCH))
        await talk.say({"event": "done"})

    async with peer(tmp_path, begin, describe) as agent:
        watch = await agent.watch(b"/w\xff", recursive=True, linger_ms=50)

    assert watch == WatchRecord(7, b"/work", True, 5, 1, 0, None)
    assert heard == [
        {
            "op": "watch",
            "generation": 4,
            "path": b"/w\xff",
            "recursive": True,
            "keep": None,
            "linger_ms": 50,
        },
        {"op": "watches", "generation": 4, "watch": 7},
    ]


async def test_watches_are_listed_with_how_they_ended(tmp_path: Path) -> None:
    ended = {**WATCH, "watch": 8, "path": b"/\xff", "last": 3, "ended": "removed"}
    answers = [listed(WATCH), listed(ended), {"event": "done"}]
    async with peer(tmp_path, say(*answers)) as agent:
        found = await agent.watches()

    assert [(watch.number, watch.path, watch.last, watch.ended) for watch in found] == [
        (7, b"/work", 0, None),
        (8, b"/\xff", 3, WatchEnd.REMOVED),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        listed({**WATCH, "watch": 0}),
        listed({**WATCH, "first": 2}),
        listed({**WATCH, "first": 0}),
        listed({**WATCH, "last": -1}),
        listed({**WATCH, "ended": "bored"}),
        listed({**WATCH, "path": None}),
        listed(),
        listed(*[WATCH] * 65),
    ],
)
async def test_watches_that_cannot_be_are_a_protocol_error(
    tmp_path: Path, answer: dict[str, Any]
) -> None:
    async with peer(tmp_path, say(answer, {"event": "done"})) as agent:
        with pytest.raises(AgentProtocolError):
            await agent.watches()


async def test_changes_come_in_order_with_where_and_why_they_end(tmp_path: Path) -> None:
    renamed = {"kind": "renamed", "path": b"/work/\xff", "from": "/work/a"}
    lost = {"kind": "overflow", "path": None}
    answers = [NONE, changes(3), changes(5, **renamed), changes(9, **lost), end(9, "stopped")]
    async with peer(tmp_path, say(*answers)) as agent, agent.changes(7, since=2) as following:
        found = [change async for change in following]
        last, ended = following.last, following.ended

    assert found == [
        FileChange(3, ChangeKind.CREATED, b"/work/a", None, False, 9),
        FileChange(5, ChangeKind.RENAMED, b"/work/\xff", b"/work/a", False, 9),
        FileChange(9, ChangeKind.OVERFLOW, None, None, False, 9),
    ]
    assert (last, ended) == (9, WatchEnd.STOPPED)


async def test_reading_to_the_end_says_so_once_and_for_all(tmp_path: Path) -> None:
    async with peer(tmp_path, say(changes(1), end(1))) as agent:
        async with agent.changes(7, follow=False) as following:
            assert [change.number async for change in following] == [1]
            assert [change async for change in following] == []
            assert (following.last, following.ended) == (1, None)


async def test_unknown_watch_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    async with peer(tmp_path, say(NO_SUCH)) as agent:
        with pytest.raises(AgentError, match="no such watch") as raised:
            await agent.changes(7).__aenter__()

    assert raised.value.code == "not_found"


async def test_agent_that_goes_away_is_unavailable_and_not_at_an_end(tmp_path: Path) -> None:
    with pytest.raises(AgentUnavailable):
        await read_all(tmp_path, changes(1))


@pytest.mark.parametrize(
    "answers",
    [
        [changes(2), changes(2), end(2)],
        [changes(2, 1), end(2)],
        [changes(2), end(1)],
        [changes(1, kind="renamed"), end(1)],
        [changes(1, **{"from": "/work/b"}), end(1)],
        [changes(1, path=None), end(1)],
        [changes(1, path=7), end(1)],
        [changes(1, kind="eaten"), end(1)],
        [changes(0), end(1)],
        [changes(1), {"event": "done"}],
        [changes(1), end(1, "bored")],
    ],
)
async def test_changes_that_cannot_be_are_a_protocol_error(
    tmp_path: Path, answers: list[dict[str, Any]]
) -> None:
    with pytest.raises(AgentProtocolError):
        await read_all(tmp_path, *answers)


async def test_agent_of_generation_2_is_not_asked(tmp_path: Path) -> None:
    words = {"event": "done", "generation": 2, "version": "1", "pid": 1, "features": []}
    async with peer(tmp_path, say(words)) as agent:
        await agent.hello(5)
        with pytest.raises(AgentError, match="older than this operation") as raised:
            await agent.watch(b"/work")
        with pytest.raises(AgentError):
            agent.changes(1)
        with pytest.raises(AgentError):
            await agent.watches()
        with pytest.raises(AgentError):
            await agent.unwatch(1)

    assert raised.value.code == "unsupported"


@given(
    st.sampled_from([changes(1), end(3, "failed"), listed(WATCH), NONE]),
    st.integers(0, 200),
    st.binary(max_size=5),
    st.integers(0, 5),
)
def test_damaged_reply_raises_only_our_errors(
    message: dict[str, Any], at: int, damage: bytes, lost: int
) -> None:
    whole = encode_control(message)[HEADER_BYTES:]
    damaged = whole[:at] + damage + whole[at + lost :]
    for answer in (CHANGES, WATCHES):
        try:
            reply = answer.read(damaged)
            if isinstance(reply, ChangesReply):
                [read_change(change) for change in reply.changes]
            if isinstance(reply, WatchesReply):
                [read_watch(watch) for watch in reply.watches]
        except AgentFailure:
            pass
