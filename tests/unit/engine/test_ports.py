# SPDX-License-Identifier: Apache-2.0
"""Ports of a sandbox: what is asked of the agent, and what its answers and failures become."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from atoll_server.agent.client import AgentClient
from atoll_server.clock import ManualClock
from atoll_server.engine import errors
from atoll_server.engine.exposures import Exposures
from atoll_server.engine.model import ListeningPort, SandboxId
from atoll_server.engine.ports import STREAMS_LIMIT, Ports, Streams
from atoll_server.engine.preview_tokens import PreviewTokens
from atoll_server.engine.store_sqlite import SqliteStore
from tests.unit.agent.peer import Script, Talk, peer, say

ID = SandboxId("sb_1")
CONNECTED = {"event": "connected", "address": "127.0.0.1"}


def refusal(code: str) -> Script:
    return say({"event": "error", "code": code, "errno": 0, "message": "why"})


class Ended:
    """Says whether the sandbox has ended."""

    is_so = False

    def check(self) -> None:
        if self.is_so:
            raise errors.SandboxNotFound("it has ended")


@contextlib.asynccontextmanager
async def opened(
    tmp_path: Path,
    *scripts: Script,
    streams: Streams | None = None,
    ended: Ended | None = None,
    exposable: tuple[int, ...] | None = None,
) -> AsyncIterator[Ports]:
    with contextlib.closing(SqliteStore(tmp_path / "atoll.db")) as store:
        async with peer(tmp_path, *scripts or (say(),)) as agent:
            yield make_ports(agent, store, streams or Streams(), ended or Ended(), exposable)
            if not scripts:
                with contextlib.suppress(Exception):
                    await agent.hello(1)  # the one script that has to be played


def make_ports(
    agent: AgentClient,
    store: SqliteStore,
    streams: Streams,
    ended: Ended,
    exposable: tuple[int, ...] | None = None,
) -> Ports:
    clock = ManualClock()
    tokens = PreviewTokens(bytes(32), clock)
    exposures = Exposures(store, clock)
    return Ports(agent, ID, exposures, tokens, asyncio.Lock(), streams, ended.check, exposable)


async def test_only_ports_that_the_sandbox_was_created_to_expose_are_exposed(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, exposable=(3000,)) as ports:
        assert (await ports.expose(3000)).port == 3000
        with pytest.raises(errors.InvalidPort, match="created to expose are 3000"):
            await ports.expose(3001)
        assert [exposed.port for exposed in ports.list()] == [3000]


async def test_sandbox_may_be_created_to_expose_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path, exposable=()) as ports:
        with pytest.raises(errors.InvalidPort, match="are none"):
            await ports.expose(3000)


async def test_wait_is_cut_to_what_an_agent_takes(tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []

    async def answer(talk: Talk) -> None:
        heard.append(await talk.request())
        found = {"port": 3000, "address": "::", "pid": None, "command": None}
        await talk.say({"event": "ports", "ports": [found]})
        await talk.say({"event": "done", "truncated": False})

    async with opened(tmp_path, answer) as ports:
        found = await ports.listening(3000, wait=1e9)

    assert found == (ListeningPort(3000, "::", None, None),)
    assert heard[0]["wait_ms"] == 60_000


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("refused", errors.PortNotListening),
        ("busy", errors.ResourceExhausted),
        ("limit", errors.ResourceExhausted),
        ("io", errors.Internal),
    ],
)
async def test_refused_connection_says_why_and_takes_no_room(
    tmp_path: Path, code: str, kind: type[errors.EngineError]
) -> None:
    streams = Streams()
    async with opened(tmp_path, refusal(code), streams=streams) as ports:
        with pytest.raises(kind):
            await ports.dial(3000)

    for _ in range(STREAMS_LIMIT):
        streams.take()


async def test_agent_that_is_gone_is_a_failed_sandbox(tmp_path: Path) -> None:
    async with opened(tmp_path, say()) as ports:
        with pytest.raises(errors.SandboxFailed):
            await ports.dial(3000)


@pytest.mark.parametrize("port", [0, -1, 65_536])
async def test_what_is_no_port_is_not_dialled(tmp_path: Path, port: int) -> None:
    async with opened(tmp_path) as ports:
        with pytest.raises(errors.InvalidPort):
            await ports.dial(port)
        with pytest.raises(errors.InvalidPort):
            await ports.listening(port)


async def test_connections_of_a_sandbox_are_limited_until_one_is_closed(tmp_path: Path) -> None:
    streams = Streams()
    for _ in range(STREAMS_LIMIT - 1):
        streams.take()

    async with opened(tmp_path, say(CONNECTED), say(CONNECTED), streams=streams) as ports:
        first = await ports.dial(3000)
        with pytest.raises(errors.ResourceExhausted, match="2048 connections"):
            await ports.dial(3000)
        first.close()
        first.close()
        second = await ports.dial(3000)
        with pytest.raises(errors.ResourceExhausted):
            await ports.dial(3000)
        second.close()


async def test_request_travels_with_the_wish_to_connect(tmp_path: Path) -> None:
    async def echo(talk: Talk) -> None:
        await talk.request()
        await talk.say(CONNECTED)
        await talk.send(await talk.rest())

    async with opened(tmp_path, echo) as ports:
        stream = await ports.dial(3000, b"early ")
        await stream.send(b"and late")
        stream.end_sending()
        received = b""
        while data := await stream.receive():
            received += data
        stream.close()

    assert received.endswith(b"and late")


async def test_ports_are_exposed_only_while_the_sandbox_lives(tmp_path: Path) -> None:
    ended = Ended()
    async with opened(tmp_path, ended=ended) as ports:
        exposed = await ports.expose(3000)
        assert ports.list() == (exposed,)
        assert ports.get(3000) == exposed
        with pytest.raises(errors.PortNotExposed):
            ports.get(3001)

        ended.is_so = True
        with pytest.raises(errors.SandboxNotFound):
            await ports.expose(3001)
        with pytest.raises(errors.SandboxNotFound):
            await ports.close(3000)
