# SPDX-License-Identifier: Apache-2.0
"""Reading what processes write: how soon it comes, beside a slow reader, and by ten readers of one process."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext

from atoll import Process, ProcessEvent, Sandbox, Stdout
from benchmarks.bare import TRUE
from benchmarks.bench import Bench
from benchmarks.inside import agent_seconds
from benchmarks.measure import Call, Row, Series, interleave, rotated
from benchmarks.promises import READERS_APART, READERS_TEN, STREAM_FIRST_BYTE
from tests.support.waiting import wait_until

FAMILY = "reader"
READERS = 10
_STAYS = ["/bin/sh", "-c", "echo here; exec sleep 60"]
_PIECE = 1 << 16
_SOURCE = f'echo ready; read _; exec dd if=/dev/zero bs={_PIECE} count="$0" status=none'
_APART_BYTES = {"container": 1 << 28, "gvisor": 1 << 27}
"""About half a second each."""
_SLOW_PAUSE = 0.05
_BEHIND = 8 << 20
"""Of the 10 MiB that a journal holds: the process waits for its slow reader from then on."""


def run(bench: Bench) -> Iterator[Row]:
    """Rows of every runtime."""
    for runtime in bench.runtimes:
        yield from _first_byte(bench, runtime)
        yield _apart(bench, runtime)
        yield from _ten(bench, runtime)


class _SeenError(Exception):
    """Leaves a command at its first line."""


def _first_byte(bench: Bench, runtime: str) -> Iterator[Row]:
    """Of a command that writes a line at once and then stays."""
    bench.say(f"first byte in {runtime}")
    with bench.unix.sandboxes.create(image="host", runtime=runtime) as sandbox:
        open_streams: list[Generator[ProcessEvent, None]] = []

        def end_all() -> None:
            """It must not take the next subject's time from it."""
            while open_streams:
                open_streams.pop().close()
            for process in sandbox.processes.list(status="running"):
                process.kill()
                process.wait()

        def start_then_stream() -> None:
            open_streams.append(sandbox.processes.start(_STAYS).stream())
            next(open_streams[-1])

        subjects: dict[str, Call] = {
            "exec": lambda: sandbox.exec(TRUE, check=True),
            "on_stdout": lambda: _exec_until_line(sandbox),
            "stream": start_then_stream,
        }
        after: dict[str, Call] = {"on_stdout": end_all, "stream": end_all}
        series = interleave(subjects, rounds=bench.rounds(60, 8), after=after)
    for name, subject in (("on_stdout", "exec with on_stdout"), ("stream", "start, then stream")):
        yield Row(
            FAMILY,
            f"{runtime}, first byte, {subject}, p50",
            "ms",
            series[name].median_ms,
            "exec, p50",
            series["exec"].median_ms,
            STREAM_FIRST_BYTE,
        )


def _exec_until_line(sandbox: Sandbox) -> None:
    def leave(line: str) -> None:
        raise _SeenError

    try:
        sandbox.exec(_STAYS, on_stdout=leave)
    except _SeenError:
        return
    raise AssertionError("no line came")


def _apart(bench: Bench, runtime: str) -> Row:
    """A fast reader of one process, with a slow reader of another and without, in turn."""
    size = bench.rounds(_APART_BYTES[runtime], 1 << 25)
    bench.say(f"a fast reader beside a slow one, {size >> 20} MiB, {runtime}")
    series = {"alone": Series(), "beside": Series()}
    with bench.unix.sandboxes.create(image="host", runtime=runtime) as sandbox:
        for number in range(bench.rounds(7, 2)):
            for name in rotated(list(series), number):
                with _slow_reader(sandbox) if name == "beside" else nullcontext():
                    series[name].seconds.append(_time_readers(sandbox, size, readers=1))
    beside, alone = (size / 1e6 / series[name].percentile(50) for name in ("beside", "alone"))
    return Row(
        FAMILY,
        f"{runtime}, reader beside a slow one",
        "MB/s",
        beside,
        "alone",
        alone,
        READERS_APART,
    )


@contextmanager
def _slow_reader(sandbox: Sandbox) -> Iterator[None]:
    """Takes a piece now and then of a process that would write without end, and that has to wait for it already."""
    stopped, process = threading.Event(), _start_source(sandbox, 1 << 40)
    events = process.stream()
    next(events)
    process.write_stdin("\n")

    def read_slowly() -> None:
        with closing(events):
            for _ in events:
                if stopped.wait(_SLOW_PAUSE):
                    return

    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(read_slowly)
        try:
            wait_until(lambda: _position(process) > _BEHIND, what="a full journal")
            yield
        finally:
            stopped.set()
            reading.result()
            process.kill()
            process.wait()


def _position(process: Process) -> int:
    process.refresh()
    return process.position


def _ten(bench: Bench, runtime: str) -> Iterator[Row]:
    """What ten readers of one process cost the agent, beside one.

    The one reads ten such processes, because the kernels count this time in hundredths of a second. Of gVisor the whole
    sandbox's time is compared, which the host counts.
    """
    size = bench.rounds(1 << 25, 1 << 24)
    bench.say(f"{READERS} readers of {size >> 20} MiB, {runtime}")
    agent = {READERS: Series(), 1: Series()}
    whole = {READERS: Series(), 1: Series()}
    with bench.unix.sandboxes.create(image="host", runtime=runtime) as sandbox:
        for number in range(bench.rounds(3, 1)):
            for readers in rotated(list(agent), number):
                processes = READERS // readers
                before = agent_seconds(sandbox), _sandbox_seconds(sandbox)
                for _ in range(processes):
                    _time_readers(sandbox, size, readers=readers)
                after = agent_seconds(sandbox), _sandbox_seconds(sandbox)
                agent[readers].seconds.append((after[0] - before[0]) / processes)
                whole[readers].seconds.append((after[1] - before[1]) / processes)
    promised = "sandbox's" if runtime == "gvisor" else "agent's"
    for whose, series in (("agent's", agent), ("sandbox's", whole)):
        yield Row(
            FAMILY,
            f"{runtime}, {whose} time, {READERS} readers of {size >> 20} MiB",
            "ms",
            series[READERS].median_ms,
            "1 of the same",
            series[1].median_ms,
            READERS_TEN if whose == promised else None,
        )


def _sandbox_seconds(sandbox: Sandbox) -> float:
    return sandbox.metrics().cpu_ms / 1e3


def _time_readers(sandbox: Sandbox, size: int, *, readers: int) -> float:
    """Seconds from the word to a process until each of its readers, who are there before, has had all it writes."""
    process = _start_source(sandbox, size)
    streams = [process.stream() for _ in range(readers)]
    for events in streams:
        next(events)
    with ThreadPoolExecutor(readers) as threads:
        started = time.perf_counter()
        process.write_stdin("\n")
        for taken in threads.map(_count_bytes, streams):
            assert taken == size, f"{taken} bytes came of {size}"
        return time.perf_counter() - started


def _start_source(sandbox: Sandbox, size: int) -> Process:
    """A process that says a line, waits for one, and then writes so many bytes."""
    command = ["/bin/sh", "-c", _SOURCE, str(size // _PIECE)]
    return sandbox.processes.start(command, stdin_open=True)


def _count_bytes(events: Generator[ProcessEvent, None]) -> int:
    with closing(events):
        return sum(len(event.data) for event in events if isinstance(event, Stdout))
