# SPDX-License-Identifier: Apache-2.0
"""Sockets of the client's own that travel with a request: to agents that take them, and to no others."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll_server.agent.client import AgentClient
from atoll_server.agent.errors import AgentUnavailable
from atoll_server.agent.frames import FrameDecoder, decode_control, encode_control

WORDS = {"event": "done", "generation": 4, "version": "1", "pid": 1}
CONNECTED = encode_control({"event": "connected", "address": "127.0.0.1"})
DEFAULT_ROOM = 212_992


class Host:
    """An agent's end, by hand: one connection at a time, with all that came with its first bytes."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()

    def close(self) -> None:
        self._listener.close()

    def take(self) -> tuple[socket.socket, dict[str, object], list[socket.socket]]:
        """The connection, the request, and the sockets that it brought."""
        peer, _ = self._listener.accept()
        peer.settimeout(5)
        data, fds, _, _ = socket.recv_fds(peer, 4096, 8)
        (frame,) = FrameDecoder().feed(data)
        return peer, decode_control(frame.payload), [socket.socket(fileno=fd) for fd in fds]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path / "agent.sock")
    yield made
    made.close()


async def meet(host: Host, path: Path, features: list[str]) -> AgentClient:
    client = AgentClient(str(path / "agent.sock"))
    greeting = asyncio.create_task(client.hello(5))
    peer, _, brought = await asyncio.to_thread(host.take)
    peer.sendall(encode_control({**WORDS, "features": features}))
    await greeting
    peer.close()
    assert brought == []
    return client


async def test_dialling_goes_on_over_a_socket_of_the_clients_own(
    host: Host, tmp_path: Path
) -> None:
    client = await meet(host, tmp_path, ["sockets"])

    dialling = asyncio.create_task(client.dial(3000, b"early"))
    peer, request, (ours,) = await asyncio.to_thread(host.take)
    with peer, ours:
        assert request == {"op": "dial", "generation": 4, "port": 3000}
        assert peer.recv(1) == b""
        assert ours.recv(100) == b"early"
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) >= DEFAULT_ROOM
        ours.sendall(CONNECTED + b"and more")
        stream = await dialling

        assert await stream.receive() == b"and more"
        stream.close()
        assert ours.recv(1) == b""


async def test_agent_that_takes_no_sockets_is_sent_none(host: Host, tmp_path: Path) -> None:
    client = await meet(host, tmp_path, ["ends"])

    dialling = asyncio.create_task(client.dial(3000))
    peer, _, brought = await asyncio.to_thread(host.take)
    with peer:
        peer.sendall(CONNECTED)
        (await dialling).close()

    assert brought == []


async def test_agent_that_drops_the_socket_has_gone_away(host: Host, tmp_path: Path) -> None:
    client = await meet(host, tmp_path, ["sockets"])

    dialling = asyncio.create_task(client.dial(3000))
    peer, _, (ours,) = await asyncio.to_thread(host.take)
    ours.close()

    with pytest.raises(AgentUnavailable):
        await dialling
    peer.close()
