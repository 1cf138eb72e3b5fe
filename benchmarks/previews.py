# SPDX-License-Identifier: Apache-2.0
"""Previews: what the way through the server adds to a program's own time, how much passes, what WebSockets cost."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter

from atoll import Atoll, Sandbox
from benchmarks.bench import Bench
from benchmarks.measure import Promise, Row, interleave
from benchmarks.memory import resident_mb
from benchmarks.nginx import nginx_before
from benchmarks.promises import PREVIEW_LATENCY, PREVIEW_THROUGHPUT
from tests.support.preview import APP, Visitor, read_answer, serve_app
from tests.support.preview_app import LARGE_BYTES
from tests.support.server import ServerProcess
from tests.support.waiting import wait_until

FAMILY = "preview"
PORT = 3000
ALLOWED_MS = 2.0
WEBSOCKETS = 1000
CROWD = 16
_INSIDE = """
import http.client, statistics, time
connection = http.client.HTTPConnection("127.0.0.1", {port})
def ask():
    begun = time.perf_counter()
    connection.request("GET", "/kept")
    connection.getresponse().read()
    return 1000 * (time.perf_counter() - begun)
print(statistics.median(ask() for _ in range({rounds})))
"""


def run(bench: Bench) -> Iterator[Row]:
    """Rows of every runtime."""
    with _on_the_host() as direct, nginx_before(direct.port, _free_port()) as nginx:
        for runtime in bench.runtimes:
            bench.say(f"previews of {runtime}")
            with bench.unix.sandboxes.create(image="host", runtime=runtime) as sandbox:
                serve_app(sandbox, PORT)
                visitor = Visitor.of(bench.server, sandbox.expose_port(PORT))
                yield _latency(bench, runtime, sandbox, visitor)
                yield from _throughput(bench, runtime, visitor, direct, nginx)
                yield _small_answers(bench, runtime, visitor, nginx)
            yield _websockets(bench, runtime)


def _latency(bench: Bench, runtime: str, sandbox: Sandbox, visitor: Visitor) -> Row:
    """Beyond what the program takes where it is. Both on connections that are kept."""
    connection = http.client.HTTPConnection("127.0.0.1", visitor.port)

    def ask() -> None:
        connection.request("GET", "/kept", headers={"Host": visitor.host})
        connection.getresponse().read()

    rounds = bench.rounds(300, 30)
    through = interleave({"preview": ask}, rounds=rounds)["preview"].median_ms
    connection.close()
    script = _INSIDE.format(port=PORT, rounds=rounds)
    inside = float(sandbox.exec(["python3", "-c", script], check=True).stdout)
    return Row(
        FAMILY,
        f"{runtime}, a small answer through a preview, above {inside:.2f} ms from inside, p50",
        "ms",
        through - inside,
        "allowed",
        ALLOWED_MS,
        PREVIEW_LATENCY,
    )


def _throughput(
    bench: Bench, runtime: str, visitor: Visitor, direct: Visitor, nginx: Visitor | None
) -> Iterator[Row]:
    subjects = {"preview": lambda: _download(visitor), "direct": lambda: _download(direct)}
    if nginx is not None:
        subjects["nginx"] = lambda: _download(nginx)
    series = interleave(subjects, rounds=bench.rounds(8, 2))
    rates = {name: LARGE_BYTES / 1e6 / (one.median_ms / 1000) for name, one in series.items()}
    name = f"{runtime}, 64 MiB through a preview"
    beside = "the same program on the host, direct"
    yield Row(FAMILY, name, "MB/s", rates["preview"], beside, rates["direct"])
    yield _beside_nginx(name, "MB/s", rates["preview"], rates.get("nginx"), PREVIEW_THROUGHPUT)


def _download(visitor: Visitor) -> None:
    with visitor.connect() as peer:
        head = f"GET /large HTTP/1.1\r\nHost: {visitor.host}\r\nConnection: close\r\n\r\n"
        peer.sendall(head.encode())
        received, buffer = 0, bytearray(1 << 20)
        while count := peer.recv_into(buffer):
            received += count
    assert received > LARGE_BYTES, received


def _small_answers(bench: Bench, runtime: str, visitor: Visitor, nginx: Visitor | None) -> Row:
    """Sixteen clients with connections that they keep, each of whom asks as soon as all have their answers."""
    with ExitStack() as stack:
        subjects = {"preview": _crowd(stack, visitor)}
        if nginx is not None:
            subjects["nginx"] = _crowd(stack, nginx)
        series = interleave(subjects, rounds=bench.rounds(200, 20))
    rates = {name: CROWD / (one.median_ms / 1000) for name, one in series.items()}
    name = f"{runtime}, small answers to {CROWD} clients at once"
    return _beside_nginx(name, "a second", rates["preview"], rates.get("nginx"), None)


def _crowd(stack: ExitStack, visitor: Visitor) -> Callable[[], None]:
    peers = [stack.enter_context(visitor.connect()) for _ in range(CROWD)]
    request = f"GET /kept HTTP/1.1\r\nHost: {visitor.host}\r\n\r\n".encode()

    def ask() -> None:
        for peer in peers:
            peer.sendall(request)
        for peer in peers:
            read_answer(peer)

    return ask


def _beside_nginx(
    name: str, unit: str, value: float, nginx: float | None, promise: Promise | None
) -> Row:
    beside = "nginx before the same program on the host"
    if nginx is None:
        beside = "nginx, which is not installed"
    return Row(FAMILY, name, unit, value, beside, nginx, promise)


def _websockets(bench: Bench, runtime: str) -> Row:
    """How much a server's memory grows for those that are held, and that they come about at all.

    It is a new one: any other would have room that something before has left.
    """
    count = bench.rounds(WEBSOCKETS, 100)
    with (
        ServerProcess() as server,
        Atoll(api_url=f"unix://{server.socket}", api_key=server.api_key) as client,
        client.sandboxes.create(image="host", runtime=runtime) as sandbox,
        ExitStack() as stack,
    ):
        serve_app(sandbox, PORT)
        visitor = Visitor.of(server, sandbox.expose_port(PORT))
        before, begun = resident_mb(server.pid), perf_counter()
        for _ in range(count):
            _shake_hands(visitor, stack.enter_context(visitor.connect()))
        taken = perf_counter() - begun
        held = resident_mb(server.pid) - before
    return Row(
        FAMILY,
        f"{runtime}, the server's memory for {count} WebSockets, made in {taken:.1f} s",
        "MiB",
        held,
    )


def _shake_hands(visitor: Visitor, peer: socket.socket) -> None:
    lines = [
        "GET /raw-ws HTTP/1.1",
        f"Host: {visitor.host}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "",
        "",
    ]
    peer.sendall("\r\n".join(lines).encode())
    assert peer.recv(1000).startswith(b"HTTP/1.1 101 ")


@contextmanager
def _on_the_host() -> Iterator[Visitor]:
    port = _free_port()
    program = subprocess.Popen([sys.executable, str(APP), str(port)])
    try:
        wait_until(lambda: _listens(port))
        yield Visitor(port, "127.0.0.1")
    finally:
        program.terminate()
        program.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
