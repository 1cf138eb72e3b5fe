# SPDX-License-Identifier: Apache-2.0
"""The way out: what passes through the proxy of a sandbox's network, beside a veth pair alone, and among 200 sandboxes.

All of it in the tests' internet, which is a namespace of this host.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from atoll import Atoll, Sandbox
from atoll_server.network.namespace import entered, make_bare
from atoll_server.runtimes import kernel
from benchmarks.bench import CREATORS, Bench
from benchmarks.measure import Row, rotated
from benchmarks.promises import EGRESS, EGRESS_200
from tests.support.internet import NAME_SERVER, SHARED, Internet, run_on_thread
from tests.support.internet import run as run_program
from tests.support.server import ServerProcess
from tests.support.waiting import wait_until

FAMILY = "egress"
PORT = 8080
NAME = "a.test"
POLICY = {"allow": [f"{NAME}:{PORT}"]}
OTHERS = 200
_TOLD = "serving"

# Answers GET /SIZE with so many bytes.
_SOURCE = """
import socketserver, sys
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        size = int(self.rfile.readline().split()[1][1:])
        while self.rfile.readline() != b"\\r\\n":
            pass
        self.request.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % size)
        piece = bytes(min(size, 1 << 20))
        for _ in range(size // len(piece)):
            self.request.sendall(piece)
class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
with Server((sys.argv[1], int(sys.argv[2])), Handler) as server:
    print("serving", flush=True)
    server.serve_forever()
"""
# Fetches so many bytes, then so often one: how long the first took, and from connecting to an answer the others.
_FETCH = """
import json, socket, sys, time
host, port, size, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
address = socket.gethostbyname(host)
buffer = bytearray(1 << 20)
def fetch(size):
    begun = time.perf_counter()
    with socket.create_connection((address, port)) as peer:
        head = "GET /%d HTTP/1.1\\r\\nHost: a.test:%d\\r\\nConnection: close\\r\\n\\r\\n" % (size, port)
        peer.sendall(head.encode())
        left = peer.recv_into(buffer)
        first = time.perf_counter() - begun
        while count := peer.recv_into(buffer):
            left += count
    assert left > size, left
    return first, time.perf_counter() - begun
print(json.dumps({"whole": fetch(size)[1], "first": [fetch(1)[0] for _ in range(rounds)]}))
"""


@dataclass(frozen=True)
class Fetched:
    """Medians: megabytes a second of a large answer, milliseconds to the first byte of a small one."""

    rate: float
    first_ms: float


Fetch = Callable[[int, int], str]
"""What the program above prints, for a size and a number of rounds."""


def run(bench: Bench) -> Iterator[Row]:
    """Rows of every runtime."""
    with _internet() as (internet, server), ExitStack() as stack:
        direct = stack.enter_context(_beside(internet))
        client = stack.enter_context(
            Atoll(api_url=f"unix://{server.socket}", api_key=server.api_key)
        )
        fetches: dict[str, Fetch] = {"direct": direct}
        for runtime in bench.runtimes:
            made = client.sandboxes.create("host", runtime=runtime, network=POLICY)
            fetches[runtime] = _within(stack.enter_context(made))
        bench.say("egress of one sandbox of each runtime")
        alone = _measure(bench, fetches)
        for runtime in bench.runtimes:
            yield from _beside_direct(runtime, alone[runtime], alone["direct"])
        count = bench.rounds(OTHERS, 10)
        bench.say(f"egress beside {count} other sandboxes")
        with _others(client, count):
            among = _measure(bench, fetches)
        for runtime in bench.runtimes:
            yield from _beside_alone(runtime, count, among, alone)


def _beside_direct(runtime: str, through: Fetched, direct: Fetched) -> Iterator[Row]:
    beside = "a veth pair, no proxy"
    name = f"{runtime}, a download through the egress proxy"
    yield Row(FAMILY, name, "MB/s", through.rate, beside, direct.rate, EGRESS)
    name = f"{runtime}, from connecting to the first byte, p50"
    yield Row(FAMILY, name, "ms", through.first_ms, beside, direct.first_ms)


def _beside_alone(
    runtime: str, count: int, among: dict[str, Fetched], alone: dict[str, Fetched]
) -> Iterator[Row]:
    """As shares of what passes without a proxy at the same time: minutes lie between the two."""
    name = f"{runtime}, the same download with {count} other sandboxes"
    shares = [each[runtime].rate / each["direct"].rate for each in (among, alone)]
    yield Row(FAMILY, name, "of the veth pair", shares[0], "alone", shares[1], EGRESS_200)
    name = f"{runtime}, the same to the first byte, p50"
    yield Row(FAMILY, name, "ms", among[runtime].first_ms, "alone", alone[runtime].first_ms)


def _measure(bench: Bench, fetches: dict[str, Fetch]) -> dict[str, Fetched]:
    size, repeats = bench.rounds(256, 32) << 20, bench.rounds(20, 5)
    told: dict[str, list[dict[str, object]]] = {name: [] for name in fetches}
    names = list(fetches)
    for turn in range(bench.rounds(6, 2)):
        for name in rotated(names, turn):
            told[name].append(json.loads(fetches[name](size, repeats)))
    return {name: _median(size, runs) for name, runs in told.items()}


def _median(size: int, runs: list[dict[str, object]]) -> Fetched:
    wholes = [run["whole"] for run in runs if isinstance(run["whole"], float)]
    firsts = [first for run in runs if isinstance(run["first"], list) for first in run["first"]]
    return Fetched(size / 1e6 / statistics.median(wholes), 1000 * statistics.median(firsts))


@contextmanager
def _internet() -> Iterator[tuple[Internet, ServerProcess]]:
    """An internet with a source of bytes, and a server that lives in it."""
    with Internet() as internet, _source(internet):
        # What the proxy can do, not what a sandbox may take of it.
        settings = {"ATOLL_NAME_SERVERS": NAME_SERVER, "ATOLL_NETWORK_MB_PER_SECOND": "0"}
        server = ServerProcess(settings)
        try:
            internet.run_within(server.start)
            yield internet, server
            internet.run_within(server.end_sandboxes)
            internet.run_within(server.stop)
        finally:
            server.kill()
            server.remove()


@contextmanager
def _source(internet: Internet) -> Iterator[None]:
    command = [sys.executable, "-c", _SOURCE, SHARED, str(PORT)]
    source = internet.run_within(
        lambda: subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    )
    try:
        assert source.stdout is not None
        assert source.stdout.readline().strip() == _TOLD
        yield
    finally:
        source.kill()
        source.communicate()


@contextmanager
def _beside(internet: Internet) -> Iterator[Fetch]:
    """Another namespace of that internet, joined to it by a veth pair and nothing else."""
    namespace = Path(internet.namespace.parent, "direct")
    run_on_thread(lambda: make_bare(namespace))
    try:
        internet.run_within(lambda: _join(namespace))

        def fetch(size: int, rounds: int) -> str:
            return run_on_thread(lambda: _fetch_in(namespace, size, rounds))

        yield fetch
    finally:
        kernel.unmount(str(namespace))


def _join(namespace: Path) -> None:
    """Run in the internet; the addresses are nobody's."""
    peer = ("peer", "name", "direct1", "netns", str(namespace))
    run_program("ip", "link", "add", "direct0", "type", "veth", *peer)
    run_program("ip", "address", "add", "192.0.2.1/30", "dev", "direct0")
    run_program("ip", "link", "set", "direct0", "up")
    with entered(namespace):
        run_program("ip", "address", "add", "192.0.2.2/30", "dev", "direct1")
        run_program("ip", "link", "set", "direct1", "up")
        run_program("ip", "route", "add", "default", "via", "192.0.2.1")


def _fetch_in(namespace: Path, size: int, rounds: int) -> str:
    with entered(namespace):
        return subprocess.check_output(_command(sys.executable, SHARED, size, rounds), text=True)


def _within(sandbox: Sandbox) -> Fetch:
    def fetch(size: int, rounds: int) -> str:
        return sandbox.exec(_command("python3", NAME, size, rounds), check=True).stdout

    wait_until(lambda: fetch(1, 1), what="a first answer")
    return fetch


def _command(python: str, host: str, size: int, rounds: int) -> list[str]:
    return [python, "-c", _FETCH, host, str(PORT), str(size), str(rounds)]


@contextmanager
def _others(client: Atoll, count: int) -> Iterator[None]:
    """So many containers with policies of their own, which do nothing."""
    made: list[Sandbox] = []

    def create(number: int) -> None:
        policy = {"allow": [f"{number}.test", f"*.{number}.test"]}
        made.append(client.sandboxes.create("host", runtime="container", network=policy))

    with ThreadPoolExecutor(CREATORS) as threads:
        try:
            list(threads.map(create, range(count)))
            yield
        finally:
            list(threads.map(lambda sandbox: sandbox.terminate(), made))
