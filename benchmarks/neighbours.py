# SPDX-License-Identifier: Apache-2.0
"""What a quiet sandbox feels of one beside it that takes all it can get."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from atoll import Sandbox
from benchmarks.bare import TRUE
from benchmarks.bench import Bench
from benchmarks.measure import Call, Row, Series, interleave
from benchmarks.promises import QUIET

FAMILY = "neighbour"
# Forks, allocates and touches, floods output, fills its disk: all at once, for as long as it lives.
NOISE = """
while :; do for n in 1 2 3 4 5 6 7 8; do /bin/true & done; wait; done &
python3 -c 'while True: held = [bytearray(1 << 20) for _ in range(512)]' &
while :; do head -c 200M /dev/zero > /var/tmp/filled; rm -f /var/tmp/filled; done &
exec yes
"""
_WARM_UP = 1.0


def run(bench: Bench) -> Iterator[Row]:
    """Rows of every runtime."""
    for runtime in bench.runtimes:
        yield _quiet(bench, runtime)


def _quiet(bench: Bench, runtime: str) -> Row:
    bench.say(f"a quiet sandbox beside a loud one, {runtime}")
    rounds = bench.rounds(500, 30)
    with bench.sandboxes(runtime, 2) as (quiet, loud):
        alone = _execs(quiet, rounds)
        with _noise(loud):
            beside = _execs(quiet, rounds)
    name = f"{runtime}, exec beside a loud neighbour, p99"
    return Row(FAMILY, name, "ms", beside.p99_ms, "alone, p99", alone.p99_ms, QUIET)


def _execs(sandbox: Sandbox, rounds: int) -> Series:
    subjects: dict[str, Call] = {"exec": lambda: sandbox.exec(TRUE, check=True)}
    return interleave(subjects, rounds=rounds)["exec"]


@contextmanager
def _noise(sandbox: Sandbox) -> Iterator[None]:
    process = sandbox.processes.start(NOISE)
    try:
        threading.Event().wait(_WARM_UP)
        yield
    finally:
        process.kill()
