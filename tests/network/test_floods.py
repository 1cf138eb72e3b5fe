# SPDX-License-Identifier: Apache-2.0
"""A sandbox that takes all it can get of the proxy: others go on, and what it takes is bounded."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from atoll_server.network.egress import Egress, EgressSettings
from tests.network.conftest import PROXY_USER, Attach
from tests.network.test_separation import proxy_of
from tests.support.inside import TIMEOUT, Inside
from tests.support.internet import ECHO_PORT, NAME_SERVER, OTHER, SHARED
from tests.support.waiting import rest

MANY = 10_000
STALLED = 400


def memory_of(pid: int) -> int:
    """Resident bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise AssertionError(f"{pid} has no memory")


def descriptors_of(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@contextlib.contextmanager
def flooding(inside: Inside, connections: int) -> Iterator[list[int]]:
    """Send and receive as fast as it goes, over so many connections. Yields what has come back so far, in pieces."""
    over = threading.Event()
    came_back: list[int] = []
    piece = bytes(64 * 1024)

    def flood(selector: selectors.BaseSelector) -> None:
        while not over.is_set():
            for key, ready in selector.select(0.1):
                connection = cast(socket.socket, key.fileobj)
                if ready & selectors.EVENT_READ:
                    came_back.append(len(connection.recv(1 << 20)))
                elif ready & selectors.EVENT_WRITE:
                    connection.send(piece)

    with contextlib.ExitStack() as opened:
        selector = opened.enter_context(selectors.DefaultSelector())
        for _ in range(connections):
            connection = opened.enter_context(inside.connect(SHARED, ECHO_PORT))
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
        thread = threading.Thread(target=flood, args=(selector,))
        thread.start()
        try:
            yield came_back
        finally:
            over.set()
            thread.join()


def try_to_connect(times: int) -> int:
    """How many of so many connections, all held open, were answered by the echo."""
    with contextlib.ExitStack() as opened:
        answered = 0
        for _ in range(times):
            connection = socket.socket()
            connection.settimeout(TIMEOUT)
            try:
                connection.connect((SHARED, ECHO_PORT))
                connection.sendall(b"x")
                answered += connection.recv(1) == b"x"
            except ConnectionError:
                connection.close()
            else:
                opened.enter_context(connection)
        return answered


def test_quiet_sandbox_is_served_while_another_floods(attach: Attach) -> None:
    """Its requests end while the flood goes on; nothing else would let the test go on."""
    _, loud = attach("allow")
    _, quiet = attach("allow")
    with flooding(loud, 8) as came_back:
        for _ in range(20):
            assert quiet.http("a.test").status == 200
        before = len(came_back)
        while len(came_back) == before:
            assert quiet.exchange(OTHER, ECHO_PORT, b"hello") == b"hello"


def test_ten_thousand_connections_are_refused_beyond_the_limit(
    attach: Attach, egress: Egress, directory: Path
) -> None:
    pid = proxy_of(directory)
    sandbox_id, greedy = attach("allow")
    _, modest = attach("allow")
    memory, descriptors = memory_of(pid), descriptors_of(pid)

    answered = greedy.run(lambda: try_to_connect(MANY))

    assert answered == 512
    assert egress.report(sandbox_id).statistics.denied == {"limit": MANY - 512}
    assert "a sandbox may have 512" in egress.report(sandbox_id).denials[-1]["text"]
    assert modest.exchange(SHARED, ECHO_PORT, b"hello") == b"hello"
    assert memory_of(pid) - memory < 64 << 20
    assert descriptors_of(pid) - descriptors < 2 * 512 + 16


def test_stalled_downloads_fill_no_memory(attach: Attach, egress: Egress, directory: Path) -> None:
    """Each could leave more with the proxy than all of them may."""
    pid = proxy_of(directory)
    sandbox_id, greedy = attach("allow")
    before = memory_of(pid)
    with contextlib.ExitStack() as opened:
        for _ in range(STALLED):
            connection = opened.enter_context(greedy.connect(SHARED, 80))
            connection.sendall(b"GET /many/64000000 HTTP/1.1\r\nHost: a.test\r\n\r\n")

        passed = -1
        while passed != (now := egress.report(sandbox_id).statistics.bytes_received):
            passed = now
            rest(0.5)

        assert passed < 64_000_000 * STALLED
        assert memory_of(pid) - before < 48 << 20
        assert connection.recv(1) == b"H"
        assert greedy.http("a.test").status == 200


def test_heads_that_never_come_hold_up_nobody_else(attach: Attach) -> None:
    """As many as one sandbox may have. Each ends after ten seconds with a reason, which `first_bytes` is tested for."""
    _, slow = attach({"allow": ["a.test"]})
    _, modest = attach({"allow": ["a.test"]})
    with contextlib.ExitStack() as opened:
        for _ in range(500):
            connection = opened.enter_context(slow.connect(SHARED, 80))
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a.te")

        assert modest.http("a.test").status == 200


def test_datagrams_without_end_cost_the_proxy_little(attach: Attach, egress: Egress) -> None:
    """So many a second are told to it, however many are sent."""
    sandbox_id, greedy = attach("allow")

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            for _ in range(MANY):
                datagrams.sendto(b"x", (SHARED, 443))

    began = time.monotonic()
    greedy.run(send)
    assert greedy.http("a.test").status == 200
    seconds = time.monotonic() - began

    told = egress.report(sandbox_id).statistics.denied["protocol"]
    assert 50 <= told <= 50 * (seconds + 2)


class TestBandwidth:
    """With a byte a second for each sandbox, and so hours to wait for whoever sends more."""

    @pytest.fixture
    def egress_settings(self) -> EgressSettings:
        return EgressSettings(PROXY_USER, ((NAME_SERVER, 53),), bytes_per_second=1)

    def test_sandbox_that_has_had_its_share_waits_and_others_do_not(self, attach: Attach) -> None:
        _, greedy = attach("allow")
        _, modest = attach("allow")
        with greedy.connect(SHARED, ECHO_PORT) as connection:
            connection.sendall(bytes(4096))
            assert connection.recv(1) == b"\0"
            connection.sendall(b"more")

            assert modest.exchange(OTHER, ECHO_PORT, b"hello") == b"hello"

            connection.setblocking(False)
            received = b""
            with contextlib.suppress(BlockingIOError):
                while piece := connection.recv(1 << 20):
                    received += piece
            assert b"more" not in received
