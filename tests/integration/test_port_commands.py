# SPDX-License-Identifier: Apache-2.0
"""`atoll port` and `atoll forward` against the real server."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from atoll import Atoll, Sandbox
from tests.support.preview import Visitor, serve_app
from tests.support.server import HOUR_MS, ServerProcess

PROGRAM = str(Path(sys.executable).with_name("atoll"))
PORT = 3000


@pytest.fixture(scope="module")
def shared(server: ServerProcess, runtime: str) -> Iterator[Sandbox]:
    with (
        Atoll(server.url, server.api_key) as client,
        client.sandboxes.create("host", runtime=runtime, timeout_ms=HOUR_MS) as sandbox,
    ):
        serve_app(sandbox, PORT)
        yield sandbox


def run(server: ServerProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *arguments],
        env=server.client_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_port_is_exposed_shown_and_closed(server: ServerProcess, shared: Sandbox) -> None:
    url = run(server, "port", shared.id, "3000").stdout.strip()
    shown = run(server, "port", shared.id).stdout
    listed = json.loads(run(server, "port", "--json", shared.id).stdout)
    closed = run(server, "port", shared.id, "3000", "--close")
    again = run(server, "port", shared.id, "3000", "--close")

    assert [one["url"] for one in listed["exposed"]] == [url]
    assert listed["listening"][0]["port"] == PORT
    assert url in shown
    assert "python3 /tmp/preview_app.py 3000" in shown
    assert closed.returncode == 0
    assert (again.returncode, "not exposed" in again.stderr) == (66, True)


def test_url_of_a_private_port_opens_it(server: ServerProcess, shared: Sandbox) -> None:
    printed = run(server, "port", shared.id, "3000", "--private").stdout.strip()
    (exposed,) = shared.get_ports()
    query = printed.removeprefix(exposed.url)

    assert Visitor.of(server, exposed).ask("/plain").status == 404
    assert Visitor.of(server, exposed).ask(f"/plain{query}").body == b"hello"
    shared.close_port(PORT)


@pytest.fixture
def local_port(server: ServerProcess, shared: Sandbox) -> Iterator[int]:
    with forwarded(server, shared, PORT) as local:
        yield local


@contextmanager
def forwarded(server: ServerProcess, shared: Sandbox, port: int) -> Iterator[int]:
    """A port of this machine that leads to one inside, until the block is over."""
    command = [PROGRAM, "forward", shared.id, f"0:{port}"]
    forwarding = subprocess.Popen(
        command, env=server.client_environment(), stderr=subprocess.PIPE, text=True
    )
    try:
        assert forwarding.stderr is not None
        line = forwarding.stderr.readline()
        assert f"leads to port {port} of {shared.id}" in line
        yield int(line.partition(" leads")[0].rpartition(":")[2])
    finally:
        forwarding.send_signal(signal.SIGINT)
        assert forwarding.wait(timeout=20) == 130
        if forwarding.stderr is not None:
            forwarding.stderr.close()


def test_connections_are_forwarded_many_at_once(local_port: int) -> None:
    def ask(number: int) -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{local_port}/{number}") as answer:
            return bool(json.load(answer)["target"] == f"/{number}")

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(40)))


def test_end_of_one_side_is_forwarded(local_port: int) -> None:
    with socket.create_connection(("127.0.0.1", local_port), timeout=30) as peer:
        peer.sendall(b"GET /http10 HTTP/1.1\r\nHost: x\r\n\r\n")
        peer.shutdown(socket.SHUT_WR)

        assert peer.makefile("rb").read().endswith(b"until the end")


ECHO = """
import socket
server = socket.create_server(("127.0.0.1", 5000))
while True:
    peer, _ = server.accept()
    while data := peer.recv(65536):
        peer.sendall(data)
    peer.close()
"""


def test_much_passes_both_ways_at_once(server: ServerProcess, shared: Sandbox) -> None:
    shared.processes.start(["python3", "-c", ECHO])
    shared.wait_for_port(5000)
    sent = bytes(range(251)) * (40_000_000 // 251)

    def send(peer: socket.socket) -> None:
        peer.sendall(sent)
        peer.shutdown(socket.SHUT_WR)

    with (
        forwarded(server, shared, 5000) as local,
        socket.create_connection(("127.0.0.1", local), timeout=60) as peer,
        ThreadPoolExecutor(1) as pool,
    ):
        sending = pool.submit(send, peer)
        received = peer.makefile("rb").read()
        sending.result()

    assert received == sent


def test_malformed_ports_are_refused(server: ServerProcess, shared: Sandbox) -> None:
    failed = run(server, "forward", shared.id, "x:y")

    assert failed.returncode == 2
    assert "a port or two with a colon" in failed.stderr
