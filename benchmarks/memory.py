# SPDX-License-Identifier: Apache-2.0
"""What sandboxes cost while they idle, and how a process's memory grows while something runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from atoll import Sandbox
from benchmarks.bare import TRUE
from benchmarks.bench import Bench
from benchmarks.measure import Call, Row, Series, interleave
from benchmarks.promises import IDLE_CONTAINER, IDLE_GVISOR

FAMILY = "memory"
IDLE = {"container": 500, "gvisor": 50}
ALLOWED_MB = {"container": 3.0, "gvisor": 25.0}
_PROMISES = {"container": IDLE_CONTAINER, "gvisor": IDLE_GVISOR}
_SAMPLE = 0.02
_SETTLE = 2.0


class PeakMemory:
    """Samples a process's resident memory while the block runs."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._idle = self._peak = resident_mb(pid)

    @property
    def growth_mb(self) -> float:
        """How far the peak lay above what it was at the start."""
        return self._peak - self._idle

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(_SAMPLE):
            self._peak = max(self._peak, resident_mb(self._pid))


def run(bench: Bench) -> Iterator[Row]:
    """The server itself, then idle sandboxes of every runtime."""
    yield Row(FAMILY, "server, no sandbox", "MiB", resident_mb(bench.server.pid))
    for runtime in bench.runtimes:
        yield from _idle(bench, runtime)


def _idle(bench: Bench, runtime: str) -> Iterator[Row]:
    """MemAvailable before and after many idle sandboxes, divided by their number. All of them answer then.

    Then what one more takes to be made beside them.
    """
    count = bench.rounds(IDLE[runtime], 10)
    bench.say(f"{count} idle sandboxes, {runtime}")
    alone = _create(bench, runtime)
    before = _available_mb()
    with bench.sandboxes(runtime, count) as made:
        used = (before - _available_mb()) / count
        for sandbox in made:
            sandbox.exec(TRUE, check=True)
        beside = _create(bench, runtime)
    promise, allowed = _PROMISES[runtime], ALLOWED_MB[runtime]
    yield Row(FAMILY, f"{runtime}, idle, each of {count}", "MiB", used, "allowed", allowed, promise)
    name = f"{runtime}, create with no pool beside {count}, p50"
    yield Row(FAMILY, name, "ms", beside.median_ms, "alone, p50", alone.median_ms)


def _create(bench: Bench, runtime: str) -> Series:
    made: list[Sandbox] = []
    subjects: dict[str, Call] = {
        "create": lambda: made.append(bench.unix.sandboxes.create(image="host", runtime=runtime))
    }
    after: dict[str, Call] = {"create": lambda: made.pop().terminate()}
    return interleave(subjects, rounds=bench.rounds(30, 6), after=after)["create"]


def resident_mb(pid: int) -> float:
    """A process's resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _available_mb() -> float:
    """Once settled: processes just started or ended move it for a moment."""
    threading.Event().wait(_SETTLE)
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 1024
    return 0.0
