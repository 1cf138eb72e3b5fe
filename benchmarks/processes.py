# SPDX-License-Identifier: Apache-2.0
"""Many processes: at once in one sandbox, at once in many, and one after another until the agent has seen them all."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

from atoll import Resources, Sandbox
from benchmarks.bare import TRUE
from benchmarks.bench import Bench
from benchmarks.crowd import answers_row, call_at_once, time_rows
from benchmarks.inside import agent_mb
from benchmarks.measure import Call, Row, Series
from benchmarks.promises import AGENT_IDLE, PROCESSES_100X5, PROCESSES_500

FAMILY = "process"
ALLOWED_MB = 3.0
EXECS_EACH = 5
CLIENTS = 8
TIMEOUT_MS = 300_000
"""Of a command among so many: how long it takes is measured, not cut."""
_HERE = ["/bin/sh", "-c", "echo here; read _"]
"""Answers at once, and then lives until its input ends."""
_WRITES = ["head", "-c", "4096", "/dev/zero"]
"""So much that what the agent keeps of ended ones does not fit the memory that it may use for them."""


def run(bench: Bench) -> Iterator[Row]:
    """Rows of every runtime."""
    for runtime in bench.runtimes:
        yield from _in_one(bench, runtime)
        yield from _in_many(bench, runtime)
        yield from _agent(bench, runtime)


def _in_one(bench: Bench, runtime: str) -> Iterator[Row]:
    """All of them started at the same time, each has answered, and all live."""
    count = bench.rounds(500, 50)
    bench.say(f"{count} processes at once in {runtime}")
    limits = Resources(memory_mb=8192)
    with bench.unix.sandboxes.create(image="host", runtime=runtime, resources=limits) as sandbox:
        crowd = call_at_once([lambda: _start_and_hear(sandbox)] * count)
        alive = sum(1 for _ in sandbox.processes.list(status="running"))
    name = f"{runtime}, {count} at once"
    yield answers_row(FAMILY, f"{name}, answering", crowd, PROCESSES_500)
    yield Row(FAMILY, f"{name}, alive then", "", alive, "started", count, PROCESSES_500)
    host = _on_host(count)
    yield from time_rows(FAMILY, f"{name}, start to answer", crowd, "host Popen", host)


def _start_and_hear(sandbox: Sandbox) -> None:
    process = sandbox.processes.start(_HERE, stdin_open=True)
    with closing(process.stream()) as events:
        next(events)


def _on_host(count: int) -> Series:
    """The same without a sandbox, in as many threads."""
    with ExitStack() as ending:
        lock = threading.Lock()

        def start_and_hear() -> None:
            process = subprocess.Popen(_HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            with lock:
                ending.enter_context(process)  # closes its input, and waits
            assert process.stdout is not None
            process.stdout.readline()

        return call_at_once([start_and_hear] * count).series


def _in_many(bench: Bench, runtime: str) -> Iterator[Row]:
    """So many commands in each of so many sandboxes, all at the same time."""
    count = bench.rounds(100, 10)
    bench.say(f"{EXECS_EACH} execs at once in each of {count} sandboxes, {runtime}")
    with bench.sandboxes(runtime, count) as sandboxes:
        calls = [_exec_true(sandbox) for sandbox in sandboxes for _ in range(EXECS_EACH)]
        crowd = call_at_once(calls)
    host = call_at_once([_host_true] * len(calls)).series
    name = f"{runtime}, {EXECS_EACH} execs in each of {count}"
    yield answers_row(FAMILY, f"{name}, answered", crowd, PROCESSES_100X5)
    yield from time_rows(FAMILY, name, crowd, f"host, {len(calls)} at once", host)


def _exec_true(sandbox: Sandbox) -> Call:
    return lambda: sandbox.exec(TRUE, timeout_ms=TIMEOUT_MS, check=True)


def _host_true() -> None:
    subprocess.run(TRUE, check=True)


def _agent(bench: Bench, runtime: str) -> Iterator[Row]:
    """The agent's memory once so many processes have come and gone."""
    # gVisor starts a tenth as many a second, and nothing is promised of it.
    count = bench.rounds(10_000, 500) // (1 if runtime == "container" else 20)
    bench.say(f"{count} processes one after another in {runtime}")
    with bench.unix.sandboxes.create(image="host", runtime=runtime) as sandbox:
        before = agent_mb(sandbox)
        with ThreadPoolExecutor(CLIENTS) as threads:
            for future in [threads.submit(_write, sandbox) for _ in range(count)]:
                future.result()
        after = agent_mb(sandbox)
    name = f"{runtime}, agent after {count} processes"
    yield Row(FAMILY, name, "MiB", after, "at first", before)
    if runtime == "container":
        yield Row(FAMILY, name, "MiB", after, "allowed", ALLOWED_MB, AGENT_IDLE)


def _write(sandbox: Sandbox) -> None:
    sandbox.exec(_WRITES, check=True)
