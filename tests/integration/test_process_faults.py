# SPDX-License-Identifier: Apache-2.0
"""Ends, timeouts, environments and terminals of processes at their edges: attacks 35, 43, 46 and 47."""

from __future__ import annotations

import json

import pytest

from atoll import (
    Atoll,
    InvalidRequest,
    ProcessEnded,
    ProcessNotFound,
    PtySize,
    Sandbox,
)

LEAVES = "setsid sleep {0} & (sh -c 'sleep {0} & exec sleep {0}' &) ; nohup sleep {0} & sleep 1e9"
SHOW = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))"


def test_a_timeout_of_a_second_ends_all_that_was_left_behind_soon_after(sandbox: Sandbox) -> None:
    """Attack 35. The best of three: the machine may have other things to do."""
    took = []
    for mark in ("581.25", "582.25", "583.25"):
        result = sandbox.exec(LEAVES.format(mark), timeout_ms=1000)
        sandbox.exec(f"while pgrep -f '[s]leep {mark}'; do sleep 0.1; done", check=True)

        assert (result.timed_out, result.signal) == (True, "SIGTERM")
        took.append(result.duration_ms)
    assert 1000 <= min(took) <= 1500


@pytest.mark.parametrize("code", [0, 1, 126, 127, 137, 255])
def test_exit_codes_come_as_they_are(sandbox: Sandbox, code: int) -> None:
    """Attack 43."""
    result = sandbox.processes.start(["sh", "-c", f"exit {code}"]).wait(20_000)

    assert (result.exit_code, result.signal, result.status) == (code, None, "exited")
    assert result.ok == (code == 0)


def test_a_process_killed_for_want_of_memory_says_so(client: Atoll, runtime: str) -> None:
    """Attack 43."""
    with client.sandboxes.create("host", memory_mb=2048, runtime=runtime) as sandbox:
        process = sandbox.processes.start(["python3", "-c", "held = b'x' * (3 << 30)"])

        result = process.wait(30_000)

        assert (result.exit_code, result.signal, result.oom_killed) == (137, "SIGKILL", True)


def test_words_and_environment_of_a_process_arrive_as_they_are(sandbox: Sandbox) -> None:
    """Attack 46."""
    words = ["", "\n", "ü🏝", "a=b", "x" * 131_071]
    env = {"LINES_": "one\ntwo=2\n", "EQUALS": "=a=b=", "EMPTY": "", "ÜMLAUT": "ü🏝"}

    process = sandbox.processes.start(["python3", "-c", SHOW, *words], env=env)

    seen_words, seen_env = json.loads(process.wait(20_000).stdout)
    assert seen_words == words
    assert {name: seen_env.get(name) for name in env} == env


def test_no_words_at_all_are_refused(sandbox: Sandbox) -> None:
    """Attack 46."""
    with pytest.raises(InvalidRequest):
        sandbox.processes.start([])
    with pytest.raises(InvalidRequest):
        sandbox.exec([])


@pytest.mark.parametrize("size", [(1, 1), (65535, 65535), (1, 65535)])
def test_a_terminal_may_have_any_size_that_fits(sandbox: Sandbox, size: tuple[int, int]) -> None:
    process = sandbox.processes.start(["sh", "-c", "read go; stty size"], pty=(24, 80))

    process.resize(*size)
    process.write_stdin("\n")

    assert process.wait(20_000).stdout.split() == [str(number) for number in size]
    assert process.pty == PtySize(*size)


@pytest.mark.parametrize("size", [(0, 0), (0, 80), (65536, 80), (24, -1)])
def test_a_size_that_cannot_be_is_refused_and_changes_nothing(
    sandbox: Sandbox, size: tuple[int, int]
) -> None:
    process = sandbox.processes.start(["sleep", "100"], pty=(24, 80))

    with pytest.raises(InvalidRequest):
        process.resize(*size)

    process.refresh()
    assert process.pty == PtySize(24, 80)
    process.kill()


def test_what_is_done_to_a_process_that_has_ended_says_so(sandbox: Sandbox) -> None:
    process = sandbox.processes.start("exit 3", pty=(24, 80), tag="gone")
    process.wait(20_000)

    with pytest.raises(ProcessEnded):
        process.signal("TERM")
    with pytest.raises(ProcessEnded):
        process.resize(24, 80)
    process.kill()

    assert sandbox.processes.get(tag="gone").exit_code == 3
    with pytest.raises(ProcessNotFound):
        sandbox.processes.get(tag="never")
