# SPDX-License-Identifier: Apache-2.0
"""Connections to programs: who gets one that was kept, and who never does."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from atoll_server.agent.connection import Connection
from atoll_server.engine import errors
from atoll_server.engine.model import ExposedPort, SandboxId
from atoll_server.engine.ports import PortStream
from atoll_server.proxy.door import Admitted
from atoll_server.proxy.lines import KEPT_LIMIT, KEPT_OF_ONE, Line, Lines

pytestmark = pytest.mark.anyio

EXPOSED = ExposedPort(SandboxId("sb_1"), 3000, "a" * 20, True, datetime(2026, 1, 1, tzinfo=UTC))
VISITOR = Admitted(EXPOSED, "token")


class Programs:
    """Sandboxes whose programs are sockets of the test: `dialled` holds the other ends."""

    def __init__(self) -> None:
        self.dialled: list[socket.socket] = []
        self.streams: list[PortStream] = []
        self.is_running = True

    def ports(self, sandbox_id: SandboxId) -> Programs:
        if not self.is_running:
            raise errors.SandboxNotRunning("it is paused", sandbox_id=sandbox_id)
        return self

    async def dial(self, port: int, early: bytes = b"") -> PortStream:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.dialled.append(theirs)
        stream = PortStream(Connection(ours))
        self.streams.append(stream)
        await stream.send(early)
        return stream


@pytest.fixture
async def programs() -> AsyncIterator[Programs]:
    programs = Programs()
    yield programs
    for stream in programs.streams:
        stream.close()
    for peer in programs.dialled:
        peer.close()


@pytest.fixture
async def lines(programs: Programs) -> AsyncIterator[Lines]:
    lines = Lines(programs)
    yield lines
    lines.close()


async def ask(lines: Lines, visitor: Admitted = VISITOR, *, may_repeat: bool = True) -> Line:
    return await lines.open(visitor, b"asked", may_repeat=may_repeat)


async def test_kept_line_serves_the_next_request(lines: Lines, programs: Programs) -> None:
    (await ask(lines)).end(may_serve_again=True)

    second = await ask(lines)

    assert second.is_used
    assert [peer.recv(100) for peer in programs.dialled] == [b"askedasked"]


async def test_line_that_may_not_serve_again_is_closed(lines: Lines, programs: Programs) -> None:
    (await ask(lines)).end(may_serve_again=False)

    assert programs.dialled[0].recv(100) == b"asked"
    assert programs.dialled[0].recv(100) == b""


@pytest.mark.parametrize(
    "other",
    [
        Admitted(EXPOSED, "another token"),
        Admitted(EXPOSED, None),
        Admitted(replace(EXPOSED, label="b" * 20), "token"),
    ],
)
async def test_kept_line_is_for_one_preview_and_one_token(
    lines: Lines, programs: Programs, other: Admitted
) -> None:
    (await ask(lines)).end(may_serve_again=True)

    line = await ask(lines, other)

    assert not line.is_used


async def test_request_that_may_not_be_repeated_has_a_line_of_its_own(
    lines: Lines, programs: Programs
) -> None:
    (await ask(lines)).end(may_serve_again=True)

    line = await ask(lines, may_repeat=False)

    assert not line.is_used


@pytest.mark.parametrize("last_words", [b"HTTP/1.1 200 OK\r\n", None])
async def test_line_on_which_anything_came_meanwhile_is_not_used(
    lines: Lines, programs: Programs, last_words: bytes | None
) -> None:
    (await ask(lines)).end(may_serve_again=True)
    if last_words is None:
        programs.dialled[0].close()
    else:
        programs.dialled[0].send(last_words)

    line = await ask(lines)

    assert not line.is_used


async def test_line_on_which_more_has_come_is_not_kept(lines: Lines, programs: Programs) -> None:
    line = await ask(lines)
    programs.dialled[0].send(b"more")
    line.end(may_serve_again=True)

    assert not (await ask(lines)).is_used


async def test_sandbox_that_does_not_run_is_not_reached_by_a_kept_line(
    lines: Lines, programs: Programs
) -> None:
    (await ask(lines)).end(may_serve_again=True)
    programs.is_running = False

    with pytest.raises(errors.SandboxNotRunning):
        await ask(lines)


async def test_who_waits_for_a_program_has_its_kept_lines_closed(
    lines: Lines, programs: Programs
) -> None:
    first, busy = await ask(lines), await ask(lines)
    first.end(may_serve_again=True)

    lines.hurry(EXPOSED)  # as `busy` does, once it has no patience left

    assert programs.dialled[0].recv(100) == b"asked"
    assert programs.dialled[0].recv(100) == b""
    busy.end(may_serve_again=True)
    assert programs.dialled[1].recv(100) == b"asked"
    assert programs.dialled[1].recv(100) == b""
    lines.calm(EXPOSED)
    (await ask(lines)).end(may_serve_again=True)
    assert (await ask(lines)).is_used


async def test_lines_are_kept_for_a_moment_only(programs: Programs) -> None:
    lines = Lines(programs, kept_seconds=0.0)
    (await ask(lines)).end(may_serve_again=True)
    stream = Connection(programs.dialled[0])

    assert await stream.receive_bare() == b"asked"
    assert await stream.receive_bare() == b""


async def test_so_many_lines_are_kept_and_no_more(lines: Lines, programs: Programs) -> None:
    visitors = [Admitted(EXPOSED, str(number)) for number in range(KEPT_LIMIT // KEPT_OF_ONE + 1)]
    for visitor in visitors:
        for line in [await ask(lines, visitor) for _ in range(KEPT_OF_ONE + 1)]:
            line.end(may_serve_again=True)

    kept = [peer for peer in programs.dialled if peer.recv(100) and _is_open(peer)]

    assert len(kept) == KEPT_LIMIT
    lines.close()
    assert not any(_is_open(peer) for peer in kept)


def _is_open(peer: socket.socket) -> bool:
    try:
        return bool(peer.recv(100))
    except BlockingIOError:
        return True
