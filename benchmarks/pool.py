# SPDX-License-Identifier: Apache-2.0
"""Sandboxes out of the pool: one when it is full, a hundred at once when it holds so many."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from atoll import Atoll, Sandbox
from benchmarks.bare import TRUE, run_on_host
from benchmarks.bench import Bench
from benchmarks.creates import time_at_once
from benchmarks.measure import Call, Row, Series, interleave
from benchmarks.promises import CREATE_100_WARM, CREATE_WARM, CREATE_WARM_P99, FIRST_TRUE
from tests.support.server import ServerProcess

FAMILY = "pool"
SIZE = 4
"""As the server has it by itself."""
ALLOWED_AT_ONCE_S = 1.0
ALLOWED_FIRST_MS = {"container": 20.0, "gvisor": 45.0}
_LOOK = 0.05
_PATIENCE = 120.0


def run(bench: Bench) -> Iterator[Row]:
    """Rows of every runtime."""
    for runtime in bench.runtimes:
        with _serving(runtime) as client:
            yield from _one(bench, runtime, client)
            yield _at_once(bench, runtime, client)
        with _serving(runtime) as client:
            yield _networked(bench, runtime, client)


@contextmanager
def _serving(runtime: str) -> Iterator[Atoll]:
    with (
        ServerProcess({"ATOLL_POOL_SIZE": str(SIZE), "ATOLL_RUNTIME": runtime}) as server,
        Atoll(api_url=f"unix://{server.socket}", api_key=server.api_key) as client,
    ):
        yield client


def _one(bench: Bench, runtime: str, client: Atoll) -> Iterator[Row]:
    """Each create finds the pool full, and the host at rest."""
    bench.say(f"create from the pool, {runtime}")
    made: list[Sandbox] = []
    answered = Series()

    def create() -> None:
        made.append(client.sandboxes.create(image="host"))

    def finish() -> None:
        started = time.perf_counter()
        made[-1].exec(TRUE, check=True)
        answered.seconds.append(time.perf_counter() - started)
        made.pop().terminate()
        _wait_full(client, SIZE)

    subjects: dict[str, Call] = {"create": create, "host": run_on_host}
    _wait_full(client, SIZE)
    series = interleave(subjects, rounds=bench.rounds(60, 8), after={"create": finish})
    subject, host = series["create"], series["host"]
    yield Row(
        FAMILY,
        f"{runtime}, create, p50",
        "ms",
        subject.median_ms,
        "host subprocess.run, p50",
        host.median_ms,
        CREATE_WARM,
    )
    yield Row(
        FAMILY,
        f"{runtime}, create, p99",
        "ms",
        subject.p99_ms,
        "its own p50",
        subject.median_ms,
        CREATE_WARM_P99,
    )
    yield Row(
        FAMILY,
        f"{runtime}, create and the first command's result, p50",
        "ms",
        subject.median_ms + answered.median_ms,
        "allowed",
        ALLOWED_FIRST_MS[runtime],
        FIRST_TRUE,
    )


def _networked(bench: Bench, runtime: str, client: Atoll) -> Row:
    """In turn with a network and without one; each finds one of its kind ready, and the host at rest."""
    bench.say(f"create with a network from the pool, {runtime}")
    made: list[Sandbox] = []

    def create(network: str) -> None:
        made.append(client.sandboxes.create(image="host", network=network))

    def finish() -> None:
        made.pop().terminate()
        _wait_each(client)

    subjects: dict[str, Call] = {
        "with": lambda: create("allow"),
        "without": lambda: create("none"),
    }
    for network in ("allow", "none"):
        create(network)
        made.pop().terminate()
    _wait_each(client)
    after: dict[str, Call] = dict.fromkeys(subjects, finish)
    series = interleave(subjects, rounds=bench.rounds(60, 8), after=after)
    return Row(
        FAMILY,
        f"{runtime}, create with a network, p50",
        "ms",
        series["with"].median_ms,
        "the same without, p50",
        series["without"].median_ms,
    )


def _at_once(bench: Bench, runtime: str, client: Atoll) -> Row:
    count = bench.rounds(100, 16)
    bench.say(f"{count} creates at once from a pool that holds them, {runtime}")
    client.resize_pool(count)
    _wait_full(client, count)
    took = time_at_once(
        count,
        lambda: client.sandboxes.create(image="host"),
        before_ending=lambda: client.resize_pool(0),
    )
    name = f"{runtime}, {count} at once, all answering"
    return Row(FAMILY, name, "s", took, "allowed", ALLOWED_AT_ONCE_S, CREATE_100_WARM)


def _wait_full(client: Atoll, size: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while client.pool().shapes[0].idle < size:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the pool did not hold {size} after {_PATIENCE:g} s")
        threading.Event().wait(_LOOK)


def _wait_each(client: Atoll) -> None:
    """Until one of each kind is ready, and nothing is being built."""
    deadline = time.monotonic() + _PATIENCE
    while not all(shape.idle and not shape.building for shape in client.pool().shapes):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the pool held not one of each kind after {_PATIENCE:g} s")
        threading.Event().wait(_LOOK)
