# SPDX-License-Identifier: Apache-2.0
"""Output that is endless, has no lines, comes from the wrong process or is not read: attacks 36 to 38 and 45."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from atoll import Atoll, Exit, Sandbox, Stdout
from tests.integration.test_processes import FORMS, Processes
from tests.support.api import Api
from tests.support.processes import resident_mb
from tests.support.server import ServerProcess
from tests.support.waiting import rest, wait_until

MIB, GIB = 1 << 20, 1 << 30
# What a result keeps of each stream, a few times over while it becomes text and JSON.
RESULT_MB = 96


@contextmanager
def flat_memory(server: ServerProcess, allowed_mb: float) -> Iterator[None]:
    """Looked at all the while, the server's memory may not grow by more."""
    before = most = resident_mb(server.pid)
    ended = threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.02):
            most = max(most, resident_mb(server.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
    assert most - before < allowed_mb, f"it grew from {before:.0f} to {most:.0f} MiB"


@pytest.mark.slow
def test_endless_output_is_cut_and_costs_the_server_no_memory(
    server: ServerProcess, sandbox: Sandbox
) -> None:
    """Attack 36, buffered."""
    with flat_memory(server, RESULT_MB):
        result = sandbox.exec("timeout 5 yes; exit 9", timeout_ms=40_000)

    assert (result.exit_code, result.truncated) == (9, True)
    assert len(result.stdout) == 10 * MIB


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_slow_reader_of_endless_output_costs_the_server_no_memory(
    api: Api, sandbox_id: str, form: str
) -> None:
    """Attack 36, streamed: a piece now and then."""
    processes = Processes(api, sandbox_id)
    started = processes.start(["yes"])
    with flat_memory(api.server, 32), processes.stream(started["id"], form) as response:
        response.read(1)
        follows_from = processes.get(started["id"])["position"]
        for _ in range(20):
            assert len(response.read(4096)) == 4096
            rest(0.1)
        waits_at = processes.get(started["id"])["position"]

    # What is on its way to the reader, and a full journal; by itself it would have written gigabytes.
    assert waits_at - follows_from < 64 * MIB
    processes.call("DELETE", started["id"])


@pytest.mark.slow
def test_a_gigabyte_without_a_line_end_is_cut_and_costs_the_server_no_memory(
    server: ServerProcess, sandbox: Sandbox
) -> None:
    """Attack 37, buffered."""
    with flat_memory(server, RESULT_MB):
        result = sandbox.exec(f"head -c {GIB} /dev/zero | tr '\\0' x", timeout_ms=100_000)

    assert result.truncated
    assert result.stdout == "x" * (10 * MIB)


@pytest.mark.soak
def test_a_gigabyte_without_a_line_end_is_followed_whole(
    server: ServerProcess, sandbox: Sandbox
) -> None:
    """Attack 37, streamed."""
    process = sandbox.processes.start(["head", "-c", str(GIB), "/dev/zero"])
    size = 0

    with flat_memory(server, 32):
        for event in process.stream():
            if isinstance(event, Stdout):
                assert not event.data.strip(b"\0")
                size += len(event.data)

    assert size == GIB


def test_bytes_that_are_no_text_come_whole(sandbox: Sandbox) -> None:
    """Attack 45."""
    program = "import os; [os.write(1, bytes(range(255, -1, -1)) * 41) for _ in range(300)]"
    process = sandbox.processes.start(["python3", "-c", program])

    read = hashlib.sha256()
    for event in process.stream():
        if isinstance(event, Stdout):
            read.update(event.data)

    assert read.digest() == hashlib.sha256(bytes(range(255, -1, -1)) * 41 * 300).digest()


def test_a_process_that_closes_its_output_and_lives_is_followed_to_its_end(
    sandbox: Sandbox,
) -> None:
    """Attack 38."""
    process = sandbox.processes.start("echo out; exec >&- 2>&-; read line; exit 5", stdin_open=True)
    events = process.stream()
    assert next(events).position == 4

    process.refresh()
    assert process.status == "running"
    process.write_stdin("go\n")

    end = next(events)
    assert isinstance(end, Exit)
    assert (end.exit_code, end.position) == (5, 4)


@pytest.mark.parametrize("follow", [list, lambda events: None], ids=["followed", "not followed"])
def test_a_grandchild_that_holds_the_pipe_does_not_hold_the_process(
    sandbox: Sandbox, follow: Callable[[object], object]
) -> None:
    """Attack 38: its end is the end of its output, and what it left behind lives on."""
    process = sandbox.processes.start(
        "setsid sh -c 'touch /tmp/lives; while [ -e /tmp/lives ]; do echo more; sleep 0.01; done' &"
        " until [ -e /tmp/lives ]; do sleep 0.01; done; echo started; exit 3"
    )

    follow(process.stream())
    result = process.wait(20_000)

    assert (result.exit_code, result.status) == (3, "exited")
    assert "started\n" in result.stdout
    position = process.position
    assert sandbox.exec("sleep 0.2; pgrep -f 'e[c]ho more'").ok
    process.refresh()
    assert process.position == position
    sandbox.exec("rm /tmp/lives", check=True)


@pytest.mark.soak
@pytest.mark.timeout(240)
def test_a_reader_that_takes_nothing_for_a_minute_is_let_go(
    client: Atoll, api: Api, runtime: str
) -> None:
    """The process waits for it so long, and not for ever; one that comes back hears what is gone."""
    with client.sandboxes.create("host", runtime=runtime) as sandbox:
        process = sandbox.processes.start(["head", "-c", str(128 * MIB), "/dev/zero"])
        processes = Processes(api, sandbox.id)
        with processes.stream(process.id, FORMS[0]) as response:
            response.readline()
            rest(30)
            process.refresh()
            assert process.status == "running"
            wait_until(lambda: _has_ended(processes, process.id), within=120, what="the end")

        assert processes.get(process.id)["firstPosition"] > 0


def _has_ended(processes: Processes, process: str) -> bool:
    return bool(processes.get(process)["status"] == "exited")
