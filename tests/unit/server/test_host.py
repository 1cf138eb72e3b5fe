# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import time

import pytest

from atoll_server import host


def test_both_streams_are_the_output_of_a_program() -> None:
    finished = host.run(["sh", "-c", "echo out; echo err >&2"], timeout=10)

    assert finished.output == "out\nerr"


def test_only_the_end_of_long_output_is_kept() -> None:
    finished = host.run(["sh", "-c", "yes | head -c 5000000; echo end"], timeout=10)

    assert len(finished.output) <= host.OUTPUT_LIMIT
    assert finished.output.endswith("y\nend")


@pytest.mark.parametrize(
    "script", ["exec sleep 1000", "exec yes", "exec >&- 2>&-; exec sleep 1000"]
)
def test_a_program_that_does_not_end_is_killed(script: str) -> None:
    began = time.monotonic()

    with pytest.raises(host.HostCommandFailed, match=r"no end after 0\.2 s"):
        host.run(["sh", "-c", script], timeout=0.2)

    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["/nonexistent"], "No such file"),
        (["sh", "-c", "echo broken; exit 3"], "status 3: broken"),
        (["sh", "-c", "kill -9 $$"], "status -9"),
    ],
)
def test_a_program_that_fails_is_an_error_that_says_how(argv: list[str], why: str) -> None:
    with pytest.raises(host.HostCommandFailed, match=why):
        host.run(argv, timeout=10)


def test_a_program_reads_what_it_is_given() -> None:
    assert host.run(["cat"], timeout=10, stdin="a text\n").output == "a text"


def test_a_program_in_the_background_goes_on_until_it_is_killed() -> None:
    program = host.Background(["sh", "-c", "echo ready; exec sleep 1000"], timeout=10)

    assert program.is_running
    assert os.getsid(program.pid) == program.pid
    program.kill()
    program.kill()
    assert not program.is_running


def test_a_program_that_ends_before_it_is_ready_is_an_error() -> None:
    with pytest.raises(host.HostCommandFailed, match="before it was ready"):
        host.Background(["true"], timeout=10)


def test_a_program_in_the_background_that_does_not_end_in_time_is_an_error() -> None:
    program = host.Background(["sh", "-c", "echo ready; exec sleep 1000"], timeout=10)
    try:
        with pytest.raises(host.HostCommandFailed, match="no end after"):
            program.wait(0.05)
    finally:
        program.kill()
