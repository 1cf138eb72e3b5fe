# SPDX-License-Identifier: Apache-2.0
"""Several who follow one process: each gets all of it, and together they are one reader to the agent."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from atoll import Atoll, Dropped, Process, ProcessEvent, Sandbox, Stdout
from tests.support.processes import first_process
from tests.support.server import ServerProcess
from tests.support.waiting import wait_until

FOLLOWERS = 10
PIECE, PIECES = 512 << 10, 40
HELD = 18
"""Of these pieces a journal holds at least so many, whoever follows."""
SOURCE = f"""
head -c {PIECE * PIECES} /dev/urandom > /tmp/source; n=0
while read -r _; do dd if=/tmp/source bs={PIECE} skip=$n count=1 status=none; n=$((n + 1)); done
"""
"""Writes one piece for each line, 20 MiB in all."""


class Reading:
    """One follower, in a thread of its own from its first event on."""

    def __init__(self, process: Process, threads: ThreadPoolExecutor) -> None:
        self.size = 0
        self._digest = hashlib.sha256()
        self._events = process.stream()
        self._go = threading.Event()
        self._done = threads.submit(self._read)

    def go_on(self) -> None:
        self._go.set()

    def digest(self) -> str:
        """Of all that came, once it has ended."""
        self._done.result()
        return self._digest.hexdigest()

    def _read(self) -> None:
        with closing(self._events):
            for event in self._events:
                self._take(event)
                self._go.wait()

    def _take(self, event: ProcessEvent) -> None:
        assert not isinstance(event, Dropped)
        if isinstance(event, Stdout):
            self._digest.update(event.data)
            self.size += len(event.data)


@contextmanager
def readings(process: Process) -> Iterator[Generator[Reading, None, None]]:
    """Followers, as many as are asked for. None is left waiting at the end, nor is the process."""
    begun: list[Reading] = []

    def begin() -> Generator[Reading, None, None]:
        while True:
            begun.append(Reading(process, threads))
            yield begun[-1]

    with ThreadPoolExecutor(FOLLOWERS) as threads:
        try:
            yield begin()
        finally:
            for reading in begun:
                reading.go_on()
            process.kill()


def connections(sandbox: Sandbox) -> int:
    """How many sockets the agent has open.

    Looked at more than once: an operation that has just been answered may have its connection still.
    """
    return min(_count_sockets(sandbox) for _ in range(5))


def _count_sockets(sandbox: Sandbox) -> int:
    """gVisor alone knows of those in it, and lets them be seen inside; a container's can be seen from outside alone."""
    listed = sandbox.exec("ls -l /proc/1/fd 2>&1").stdout
    if sandbox.info.runtime == "gvisor":
        return listed.count("socket:")
    files = Path(f"/proc/{first_process(sandbox.id)}/fd").iterdir()
    return sum(_target(file).startswith("socket:") for file in files)


def _target(file: Path) -> str:
    try:
        return str(file.readlink())
    except FileNotFoundError:  # closed meanwhile
        return ""


def source_digest(sandbox: Sandbox, size: int) -> str:
    return sandbox.exec(f"head -c {size} /tmp/source | sha256sum", check=True).stdout.split()[0]


def test_followers_who_come_one_by_one_have_the_same_over_one_connection(sandbox: Sandbox) -> None:
    process = sandbox.processes.start(SOURCE, stdin_open=True)
    with readings(process) as begin:
        first = next(begin)
        first.go_on()
        process.write_stdin("\n")
        wait_until(lambda: first.size == PIECE, what="the first piece")
        alone = connections(sandbox)
        others = []
        for _ in range(FOLLOWERS - 1):
            others.append(next(begin))
            others[-1].go_on()
            process.write_stdin("\n")
        so_far = FOLLOWERS * PIECE
        wait_until(lambda: {r.size for r in (first, *others)} == {so_far}, what="all of it so far")
        wait_until(lambda: connections(sandbox) == alone, what="sharing")

        process.write_stdin("\n" * (PIECES - FOLLOWERS), eof=True)
        digests = {reading.digest() for reading in (first, *others)}

    assert digests == {source_digest(sandbox, PIECES * PIECE)}


def test_one_who_takes_nothing_holds_up_nobody_and_loses_nothing(sandbox: Sandbox) -> None:
    process = sandbox.processes.start(SOURCE, stdin_open=True)
    unfollowed = connections(sandbox)
    with readings(process) as begin:
        stopped, first, second = (next(begin) for _ in range(3))
        first.go_on()
        second.go_on()
        process.write_stdin("\n" * HELD)
        wait_until(lambda: first.size == second.size == HELD * PIECE, what="all for the others")

        assert stopped.size < PIECE
        # Those two share one; the other has its own.
        wait_until(lambda: connections(sandbox) == unfollowed + 2, what="sharing")
        stopped.go_on()
        process.close_stdin()
        digests = {reading.digest() for reading in (stopped, first, second)}

    assert digests == {source_digest(sandbox, HELD * PIECE)}


@pytest.mark.isolated
def test_followers_go_on_when_the_server_was_killed(
    own_server: ServerProcess, runtime: str
) -> None:
    with (
        Atoll(own_server.url, own_server.api_key) as client,
        client.sandboxes.create(image="host", runtime=runtime) as sandbox,
    ):
        process = sandbox.processes.start(SOURCE, stdin_open=True)
        with readings(process) as begin:
            followers = [next(begin) for _ in range(FOLLOWERS)]
            for follower in followers:
                follower.go_on()
            process.write_stdin("\n" * 4)
            wait_until(lambda: min(f.size for f in followers) > PIECE, what="the middle")

            own_server.kill()
            own_server.start()

            process.write_stdin("\n" * (HELD - 4), eof=True)
            digests = {follower.digest() for follower in followers}

        assert digests == {source_digest(sandbox, HELD * PIECE)}
