# SPDX-License-Identifier: Apache-2.0
"""One command's round trip: SDK → HTTP → agent → process and back, beside the host's own and the runtime's `exec`."""

from __future__ import annotations

from collections.abc import Iterator

from atoll import Sandbox
from benchmarks.bare import FOREVER, TRUE, run_on_host
from benchmarks.bench import Bench
from benchmarks.measure import Call, Promise, Row, Series, interleave
from benchmarks.peers import Peer
from benchmarks.promises import EXEC_CONTAINER, EXEC_GVISOR

FAMILY = "exec"
HOST = "host subprocess.run"
INSIDE = "subprocess.run inside"
BURST = 5
_TIME_INSIDE = """
import subprocess, sys, time
for _ in range(int(sys.argv[1])):
    started = time.perf_counter()
    subprocess.run(["/bin/sh", "-c", "true"], check=True)
    print(time.perf_counter() - started)
"""


def run(bench: Bench) -> Iterator[Row]:
    """Rows of every runtime, then those of peers."""
    for runtime in bench.runtimes:
        yield from _runtime_rows(bench, runtime)
    for peer in bench.peers:
        yield _peer_row(bench, peer)


def _runtime_rows(bench: Bench, runtime: str) -> Iterator[Row]:
    bench.say(f"exec in {runtime}")
    with (
        bench.unix.sandboxes.create(image="host", runtime=runtime) as sandbox,
        bench.bare(runtime) as bare,
    ):
        over_tcp = bench.tcp.sandboxes.get(sandbox.id)
        container = bare.start(bare.bundle(FOREVER))
        subjects: dict[str, Call] = {
            "unix": lambda: sandbox.exec(TRUE, check=True),
            "tcp": lambda: over_tcp.exec(TRUE, check=True),
            "host": run_on_host,
            "bare": lambda: bare.exec(container, TRUE),
        }
        try:
            series = interleave(subjects, rounds=bench.rounds(60, 8), warmup=2, burst=BURST)
            inside = _measure_inside(sandbox, count=bench.rounds(100, 20))
        finally:
            bare.delete(container)
    host, own = (HOST, series["host"]), (f"{bare.program} exec", series["bare"])
    on_host = EXEC_CONTAINER if runtime == "container" else None
    on_own = EXEC_GVISOR if runtime == "gvisor" else None
    yield from _pair(f"{runtime}, unix", series["unix"], host, on_host)
    yield from _pair(f"{runtime}, unix", series["unix"], own, on_own)
    yield from _pair(f"{runtime}, unix", series["unix"], (INSIDE, inside), None)
    yield from _pair(f"{runtime}, TCP", series["tcp"], host, None)


def _measure_inside(sandbox: Sandbox, *, count: int) -> Series:
    """What starting the command costs a program in the sandbox, which no exec from outside can undercut by much."""
    printed = sandbox.exec(["python3", "-c", _TIME_INSIDE, str(count)], check=True).stdout
    return Series([float(line) for line in printed.split()])


def _pair(
    name: str, subject: Series, baseline: tuple[str, Series], promise: Promise | None
) -> Iterator[Row]:
    beside, series = baseline
    yield Row(
        FAMILY, f"{name}, p50", "ms", subject.median_ms, f"{beside}, p50", series.median_ms, promise
    )
    yield Row(FAMILY, f"{name}, p99", "ms", subject.p99_ms, f"{beside}, p99", series.p99_ms)


def _peer_row(bench: Bench, peer: Peer) -> Row:
    name = f"{peer.name} exec, p50"
    if peer.missing:
        return Row(FAMILY, name, "ms", None, note=peer.missing)
    bench.say(f"exec in {peer.name}")
    container = peer.start()
    try:
        subjects: dict[str, Call] = {"peer": lambda: peer.exec(container), "host": run_on_host}
        series = interleave(subjects, rounds=bench.rounds(50, 10))
    finally:
        peer.delete(container)
    return Row(FAMILY, name, "ms", series["peer"].median_ms, HOST, series["host"].median_ms)
