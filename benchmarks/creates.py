# SPDX-License-Identifier: Apache-2.0
"""Making sandboxes: one cold create, many at once, and whole cycles, beside the bare runtime doing as much."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from atoll import Sandbox
from benchmarks.bare import FOREVER, TRUE
from benchmarks.bench import Bench
from benchmarks.measure import Call, Row, interleave
from benchmarks.peers import Peer
from benchmarks.promises import CREATE_100, CREATE_COLD

FAMILY = "create"
CLIENTS = 16
ALLOWED_AT_ONCE_S = {"container": 10.0}


def run(bench: Bench) -> Iterator[Row]:
    """Rows of every runtime, then those of peers."""
    for runtime in bench.runtimes:
        yield from _cold(bench, runtime)
        yield _at_once(bench, runtime)
        yield _cycles(bench, runtime)
    for peer in bench.peers:
        yield from _peer_rows(bench, peer)


def _cold(bench: Bench, runtime: str) -> Iterator[Row]:
    bench.say(f"cold create of {runtime}")
    made: list[Sandbox] = []
    started: list[str] = []
    with bench.bare(runtime) as bare:
        bundle = bare.bundle(FOREVER)
        subjects: dict[str, Call] = {
            "create": lambda: made.append(
                bench.unix.sandboxes.create(image="host", runtime=runtime)
            ),
            "bare": lambda: started.append(bare.start(bundle)),
        }
        after: dict[str, Call] = {
            "create": lambda: made.pop().terminate(),
            "bare": lambda: bare.delete(started.pop()),
        }
        series = interleave(subjects, rounds=bench.rounds(30, 6), after=after)
    subject, baseline, beside = series["create"], series["bare"], f"{bare.program} run"
    yield Row(
        FAMILY,
        f"{runtime}, p50",
        "ms",
        subject.median_ms,
        f"{beside}, p50",
        baseline.median_ms,
        CREATE_COLD,
    )
    yield Row(FAMILY, f"{runtime}, p99", "ms", subject.p99_ms, f"{beside}, p99", baseline.p99_ms)


def _at_once(bench: Bench, runtime: str) -> Row:
    """All of them created at the same time, and each has answered a command."""
    count = bench.rounds(100, 16)
    bench.say(f"{count} creates of {runtime} at once")
    took = time_at_once(count, lambda: bench.unix.sandboxes.create(image="host", runtime=runtime))
    name = f"{runtime}, {count} at once, all answering"
    if runtime not in ALLOWED_AT_ONCE_S:
        return Row(FAMILY, name, "s", took)
    return Row(FAMILY, name, "s", took, "allowed", ALLOWED_AT_ONCE_S[runtime], CREATE_100)


def time_at_once(
    count: int, create: Callable[[], Sandbox], *, before_ending: Call = lambda: None
) -> float:
    """Seconds until so many were created at the same time and each has answered a command. Then they are ended."""
    made: list[Sandbox] = []

    def create_and_ask() -> None:
        sandbox = create()
        made.append(sandbox)
        sandbox.exec(TRUE, check=True)

    with ThreadPoolExecutor(count) as threads:
        started = time.perf_counter()
        try:
            for future in [threads.submit(create_and_ask) for _ in range(count)]:
                future.result()
            return time.perf_counter() - started
        finally:
            before_ending()
            for future in [threads.submit(sandbox.terminate) for sandbox in made]:
                future.result()


def _cycles(bench: Bench, runtime: str) -> Row:
    """create → exec → terminate by 16 clients, beside 16 loops of the bare runtime's `run`."""
    bench.say(f"cycles of {runtime} with {CLIENTS} clients")
    seconds = bench.rounds(10, 3)

    def cycle() -> None:
        with bench.unix.sandboxes.create(image="host", runtime=runtime) as sandbox:
            sandbox.exec(TRUE, check=True)

    with bench.bare(runtime, threads=CLIENTS) as bare:
        bundle = bare.bundle(TRUE)
        halves = [
            (_rate(cycle, seconds / 2), _rate(lambda: bare.run(bundle), seconds / 2))
            for _ in range(2)
        ]
    subject, baseline = (sum(rates) / 2 for rates in zip(*halves, strict=True))
    name = f"{runtime}, whole cycles, {CLIENTS} clients"
    return Row(FAMILY, name, "/s", subject, f"{bare.program} run, {CLIENTS} loops", baseline)


def _rate(cycle: Call, seconds: float) -> float:
    """Cycles a second of `CLIENTS` threads; what is under way at the end counts, and its time too."""
    started = time.perf_counter()

    def loop() -> int:
        count = 0
        while time.perf_counter() - started < seconds:
            cycle()
            count += 1
        return count

    with ThreadPoolExecutor(CLIENTS) as threads:
        total = sum(future.result() for future in [threads.submit(loop) for _ in range(CLIENTS)])
    return total / (time.perf_counter() - started)


def _peer_rows(bench: Bench, peer: Peer) -> Iterator[Row]:
    started, cycles = f"{peer.name} run, p50", f"{peer.name}, whole cycles, {CLIENTS} loops"
    if peer.missing:
        yield Row(FAMILY, started, "ms", None, note=peer.missing)
        yield Row(FAMILY, cycles, "/s", None, note=peer.missing)
        return
    bench.say(f"starts and cycles of {peer.name}")
    made: list[str] = []
    subjects: dict[str, Call] = {"start": lambda: made.append(peer.start())}
    after: dict[str, Call] = {"start": lambda: peer.delete(made.pop())}
    series = interleave(subjects, rounds=bench.rounds(10, 3), after=after)
    yield Row(FAMILY, started, "ms", series["start"].median_ms)
    yield Row(FAMILY, cycles, "/s", _rate(peer.run, bench.rounds(10, 3)))
