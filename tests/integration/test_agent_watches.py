# SPDX-License-Identifier: Apache-2.0
"""Watched directories through the real agent, which runs here as a plain process, without a sandbox around it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from atoll_server.agent.client import AgentClient
from atoll_server.agent.errors import AgentError
from atoll_server.engine.model import ChangeKind, FileChange, WatchEnd, WatchRecord

AGENT = Path(__file__).parents[2] / "server" / "src" / "atoll_server" / "_bin" / "atoll-agent"
CREATED, MODIFIED, REMOVED = ChangeKind.CREATED, ChangeKind.MODIFIED, ChangeKind.REMOVED


@pytest.fixture
def socket(tmp_path: Path) -> Iterator[str]:
    if not AGENT.exists():
        pytest.skip("needs the agent: make agent")
    (tmp_path / "work").mkdir()
    path = str(tmp_path / "agent.sock")
    command = [str(AGENT), "--socket", path]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        yield path
        process.kill()


@pytest.fixture
async def agent(socket: str) -> AgentClient:
    client = AgentClient(socket)
    await client.hello(5)
    return client


@pytest.fixture
def work(tmp_path: Path) -> bytes:
    return os.fsencode(tmp_path / "work")


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    yield data


def make(path: bytes) -> None:
    os.mkdir(path)


async def now(agent: AgentClient, watch: WatchRecord, since: int = 0) -> list[FileChange]:
    async with agent.changes(watch.number, since=since, follow=False) as changes:
        return [change async for change in changes]


def told(changes: list[FileChange]) -> list[tuple[ChangeKind, bytes | None]]:
    return [(change.kind, change.path) for change in changes]


async def test_watch_is_known_as_it_was_asked_for(agent: AgentClient, work: bytes) -> None:
    first = await agent.watch(work)
    second = await agent.watch(work + b"/../work/.", recursive=True)

    assert (first.number, first.recursive, first.first, first.last) == (1, False, 1, 0)
    assert (second.number, second.path, second.ended) == (2, work, None)
    assert await agent.watches() == [first, second]
    assert await agent.watches(2) == [second]


async def test_what_a_finished_call_did_is_in_the_next_answer(
    agent: AgentClient, work: bytes
) -> None:
    watch = await agent.watch(work, recursive=True)
    since = 0
    for number in range(50):
        path = work + b"/%d\xff/deep" % number
        await agent.write(path, chunks(b"content"))
        changes = await now(agent, watch, since)
        since = changes[-1].number

        assert told(changes)[0] == (CREATED, os.path.dirname(path))
        assert told(changes).count((CREATED, path)) == 1


async def test_file_that_replaces_another_has_modified_it(agent: AgentClient, work: bytes) -> None:
    await agent.write(work + b"/a", chunks(b"old"))
    watch = await agent.watch(work)

    await agent.write(work + b"/a", chunks(b"new"))
    await agent.copy(work + b"/a", work + b"/b")
    await agent.remove(work + b"/a", recursive=False)

    a, b = work + b"/a", work + b"/b"
    expected = [(MODIFIED, a), (CREATED, b), (MODIFIED, b), (REMOVED, a)]
    assert told(await now(agent, watch)) == expected


async def test_reader_that_breaks_off_anywhere_hears_each_change_once(
    agent: AgentClient, work: bytes
) -> None:
    watch = await agent.watch(work)

    async def make_all() -> None:
        for number in range(300):
            make(work + b"/%d" % number)
            await asyncio.sleep(0)

    heard: list[FileChange] = []
    async with asyncio.TaskGroup() as group:
        group.create_task(make_all())
        while len(heard) < 300:
            since = heard[-1].number if heard else 0
            async with agent.changes(watch.number, since=since) as changes:
                for _ in range(1 + len(heard) % 7):
                    if len(heard) < 300:
                        heard.append(await anext(changes))

    assert [change.number for change in heard] == list(range(1, 301))
    assert told(heard) == [(CREATED, work + b"/%d" % number) for number in range(300)]


async def test_two_readers_hear_the_same_and_how_it_ends(agent: AgentClient, work: bytes) -> None:
    watch = await agent.watch(work)

    async def follow(begun: asyncio.Event) -> tuple[list[FileChange], WatchEnd | None]:
        async with agent.changes(watch.number) as changes:
            begun.set()
            return [change async for change in changes], changes.ended

    begun = [asyncio.Event(), asyncio.Event()]
    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(follow(each)) for each in begun]
        for each in begun:
            await each.wait()
        make(work + b"/d")
        await now(agent, watch)
        await agent.unwatch(watch.number)

    for reader in readers:
        changes, ended = reader.result()
        assert told(changes) == [(CREATED, work + b"/d")]
        assert ended is WatchEnd.STOPPED


async def test_removed_directory_ends_its_watch(agent: AgentClient, work: bytes) -> None:
    watch = await agent.watch(work)

    await agent.remove(work, recursive=True)

    assert told(await now(agent, watch)) == [(REMOVED, work)]
    assert (await agent.watches(watch.number))[0].ended is WatchEnd.REMOVED


async def test_watches_are_limited_and_those_that_stop_make_room(
    agent: AgentClient, work: bytes
) -> None:
    for _ in range(3):
        watches = [await agent.watch(work) for _ in range(40)]
        for watch in watches:
            await agent.unwatch(watch.number)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(64):
            watch = await agent.watch(work)
            stack.push_async_callback(agent.unwatch, watch.number)
        with pytest.raises(AgentError) as raised:
            await agent.watch(work)

    assert raised.value.code == "limit"
    assert await agent.watches() == []


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (b"/nowhere", "not_found"),
        (b"/etc/passwd", "not_a_directory"),
        (b"relative", "invalid"),
        (b"/a\0b", "invalid"),
        (b"/" + b"n" * 5000, "name_too_long"),
    ],
)
async def test_what_cannot_be_watched_is_refused(
    agent: AgentClient, path: bytes, code: str
) -> None:
    with pytest.raises(AgentError) as raised:
        await agent.watch(path)

    assert raised.value.code == code


async def test_changes_that_have_not_happened_cannot_be_waited_past(
    agent: AgentClient, work: bytes
) -> None:
    watch = await agent.watch(work)
    with pytest.raises(AgentError, match="since") as raised:
        await now(agent, watch, since=1)
    assert raised.value.code == "invalid"

    await agent.unwatch(watch.number)
    with pytest.raises(AgentError, match="no such watch"):
        await now(agent, watch)
