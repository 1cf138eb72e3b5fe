# SPDX-License-Identifier: Apache-2.0
"""Requests that bring a socket, through the real agent, which runs here as a plain process."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atoll_server.agent.client import AgentClient
from atoll_server.agent.frames import FrameDecoder, decode_control, encode_control
from tests.support.waiting import wait_until

AGENT = Path(__file__).parents[2] / "server" / "src" / "atoll_server" / "_bin" / "atoll-agent"
HELLO = encode_control({"op": "hello", "generation": 4})
LARGE = 1 << 20


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[tuple[int, str]]:
    """Its process and where it listens."""
    if not AGENT.exists():
        pytest.skip("needs the agent: make agent")
    path = str(tmp_path / "agent.sock")
    command = [str(AGENT), "--socket", path]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid, path
        process.kill()


def test_all_is_said_on_the_socket_that_came_with_the_request(agent: tuple[int, str]) -> None:
    ours, theirs = socket.socketpair()

    with ours, connect(agent) as peer:
        with theirs:
            socket.send_fds(peer, [HELLO + b"nobody reads this"], [theirs.fileno()])

        assert peer.recv(1) == b""
        assert "sockets" in read_hello(ours)["features"]


def test_request_that_comes_in_pieces_brings_its_socket_with_any(agent: tuple[int, str]) -> None:
    ours, theirs = socket.socketpair()

    with ours, connect(agent) as peer:
        peer.sendall(HELLO[:5])
        with theirs:
            socket.send_fds(peer, [HELLO[5:10]], [theirs.fileno()])
        peer.sendall(HELLO[10:])

        assert read_hello(ours)["generation"] == 4


def test_agent_keeps_nothing_of_what_it_is_given(agent: tuple[int, str], tmp_path: Path) -> None:
    before = open_files(agent)
    pairs = [socket.socketpair() for _ in range(3)]
    fds = [end.fileno() for pair in pairs for end in pair]

    with (tmp_path / "file").open("wb") as file:
        for given in (fds, [file.fileno()], [fds[0]] * 200):
            with connect(agent) as peer:
                socket.send_fds(peer, [HELLO], given)
                assert peer.recv(1) == b""
    for end in (end for pair in pairs for end in pair):
        end.close()

    with connect(agent) as peer:
        peer.sendall(HELLO)
        assert read_hello(peer)["generation"] == 4
    wait_until(lambda: open_files(agent) == before, what="closing all")


async def test_port_is_reached_over_the_clients_own_socket(agent: tuple[int, str]) -> None:
    served = await asyncio.start_server(echo, "127.0.0.1", 0)
    client = AgentClient(agent[1])
    await client.hello(5)
    before = open_files(agent)

    assert client.takes_sockets
    async with served:
        stream = await client.dial(served.sockets[0].getsockname()[1], b"early ")
        assert await stream.send(b"x" * LARGE)
        stream.end_sending()
        received = b""
        while piece := await stream.receive():
            received += piece
        stream.close()

    assert received == b"early " + b"x" * LARGE
    # The epoll of all connections stays.
    await asyncio.to_thread(wait_until, lambda: open_files(agent) <= before + 1)


async def test_visitor_that_does_not_read_holds_the_program_up(agent: tuple[int, str]) -> None:
    written = 0
    is_full = asyncio.Event()

    async def pour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        try:
            while True:
                writer.write(bytes(LARGE))
                await asyncio.wait_for(writer.drain(), 1)
                written += LARGE
        except TimeoutError:
            is_full.set()
        finally:
            writer.transport.abort()

    served = await asyncio.start_server(pour, "127.0.0.1", 0)
    client = AgentClient(agent[1])
    await client.hello(5)

    async with served:
        stream = await client.dial(served.sockets[0].getsockname()[1])
        await asyncio.wait_for(is_full.wait(), 30)
        stream.close()

    assert written < 64 * LARGE


def connect(agent: tuple[int, str]) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(20)
    peer.connect(agent[1])
    return peer


def read_hello(peer: socket.socket) -> dict[str, Any]:
    decoder = FrameDecoder()
    peer.settimeout(20)
    while data := peer.recv(4096):
        for frame in decoder.feed(data):
            return decode_control(frame.payload)
    raise AssertionError("no answer")


def open_files(agent: tuple[int, str]) -> int:
    return len(os.listdir(f"/proc/{agent[0]}/fd"))


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()
