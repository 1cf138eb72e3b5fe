# SPDX-License-Identifier: Apache-2.0
"""The client: the handshake, and what it asks for each operation."""

from __future__ import annotations

import asyncio
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from atoll_server.agent.client import AgentClient
from atoll_server.agent.errors import AgentProtocolError, AgentUnavailable
from atoll_server.agent.messages import StartRequest
from tests.unit.agent.peer import EXIT, STARTED, Talk, peer, say, send

TRUE = StartRequest(program=("true",), cwd="/")
DONE = {"event": "done"}


async def test_hello_gives_what_the_agent_says_of_itself(tmp_path: Path) -> None:
    words = {"event": "done", "generation": 4, "version": "1", "pid": 1, "features": ["x"]}

    async with peer(tmp_path, say({**words, "new": {"later": [1]}})) as agent:
        hello = await agent.hello(1)

    assert (hello.generation, hello.version, hello.pid, hello.features) == (4, "1", 1, ["x"])


async def test_hello_waits_for_an_agent_that_does_not_listen_yet(tmp_path: Path) -> None:
    agent = AgentClient(str(tmp_path / "agent.sock"))
    words = {"event": "done", "generation": 1, "version": "1", "pid": 1, "features": []}

    async with asyncio.TaskGroup() as group:
        hello = group.create_task(agent.hello(5))
        await asyncio.sleep(0)
        async with peer(tmp_path, say(words)):
            await hello

    assert hello.result().pid == 1


async def test_hello_gives_up_after_its_time(tmp_path: Path) -> None:
    with pytest.raises(AgentUnavailable):
        await AgentClient(str(tmp_path / "agent.sock")).hello(0.01)


async def test_silent_agent_is_unavailable(tmp_path: Path) -> None:
    async def silence(talk: Talk) -> None:
        await talk.wait_closed()

    async with peer(tmp_path, silence) as agent:
        with pytest.raises(AgentUnavailable):
            await agent.hello(0.02)


async def test_each_operation_says_its_fields(tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []

    async def script(talk: Talk) -> None:
        heard.append(await talk.request())
        await talk.say(DONE)

    async with peer(tmp_path, *[script] * 6) as agent:
        await agent.mkdir(b"/\xff", parents=True, mode=0o700)
        await agent.move(b"/a", b"/b")
        await agent.copy(b"/a", b"/b")
        await agent.remove(b"/a", recursive=True)
        await agent.chmod(b"/a", 0o600, recursive=False)
        await agent.chown(b"/a", "user", None, recursive=True)

    common = {"generation": 4}
    assert heard == [
        {"op": "mkdir", **common, "path": b"/\xff", "parents": True, "mode": 0o700, "user": None},
        {"op": "move", **common, "source": "/a", "destination": "/b"},
        {"op": "copy", **common, "source": "/a", "destination": "/b"},
        {"op": "remove", **common, "path": "/a", "recursive": True},
        {"op": "chmod", **common, "path": "/a", "mode": 0o600, "recursive": False},
        {
            "op": "chown",
            **common,
            "path": "/a",
            "user": "user",
            "group": None,
            "recursive": True,
        },
    ]


async def test_signal_says_how_many_it_reached(tmp_path: Path) -> None:
    async with peer(tmp_path, say({"event": "done", "signalled": 3})) as agent:
        assert await agent.signal(7, 15, tree=True) == 3


async def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    refusal = struct.pack(">IB3sQ", 0, 9, bytes(3), 0)

    async def use_all() -> int:
        async with peer(tmp_path, send(refusal), say(STARTED, EXIT), say(DONE)) as agent:
            with pytest.raises(AgentProtocolError):
                await agent.stat(b"/")
            async with agent.start(TRUE) as process:
                assert len([event async for event in process]) == 1
            await agent.move(b"/a", b"/b")
        await asyncio.sleep(0)
        return len(os.listdir("/proc/self/fd"))

    # The loop opens some of its own at its first use.
    assert await use_all() == await use_all()
