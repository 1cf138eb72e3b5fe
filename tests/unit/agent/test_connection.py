# SPDX-License-Identifier: Apache-2.0
"""Reaching an agent: what is connected to, and what is said where nobody answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path

import pytest

from atoll_server.agent.client import AgentClient
from atoll_server.agent.errors import AgentUnavailable
from atoll_server.agent.frames import encode_control
from tests.unit.agent.peer import ENTRY


async def test_missing_agent_is_unavailable_at_once(tmp_path: Path) -> None:
    with pytest.raises(AgentUnavailable):
        await AgentClient(str(tmp_path / "agent.sock")).stat(b"/")


async def test_dead_agent_is_unavailable_at_once(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))

    with pytest.raises(AgentUnavailable):
        await AgentClient(str(path)).stat(b"/")


async def test_link_in_place_of_the_socket_is_not_followed(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "other.sock"))
        other.listen()
        (tmp_path / "agent.sock").symlink_to(tmp_path / "other.sock")

        with pytest.raises(AgentUnavailable):
            await AgentClient(str(tmp_path / "agent.sock")).stat(b"/")

        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.accept()


async def test_path_longer_than_a_socket_address_is_reached(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 200)
    directory.mkdir()
    short = os.open(directory, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/proc/self/fd/{short}/agent.sock")
            listener.listen()
            with pytest.raises(AgentUnavailable):
                # It is reached, and says nothing.
                await AgentClient(str(directory / "agent.sock")).hello(0.02)
    finally:
        os.close(short)


async def test_full_backlog_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as waiting:
        listener.bind(str(path))
        listener.listen(0)
        for _ in range(2):
            filler = waiting.enter_context(socket.socket(socket.AF_UNIX))
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(str(path))
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(AgentClient(str(path)).stat(b"/"))
            await asyncio.sleep(0.005)
            assert not asking.done()
            listener.setblocking(False)
            served: list[socket.socket] = []
            while not asking.done():
                with contextlib.suppress(BlockingIOError):
                    accepted, _ = listener.accept()
                    served.append(waiting.enter_context(accepted))
                    accepted.send(encode_control({"event": "done", "entry": ENTRY}))
                await asyncio.sleep(0.001)

    assert asking.result().size == 3
