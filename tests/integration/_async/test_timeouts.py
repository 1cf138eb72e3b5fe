# SPDX-License-Identifier: Apache-2.0
"""Commands that run out of time: items 31 to 34 of the checklist, attack 35."""

from __future__ import annotations

import pytest

from atoll import AsyncSandbox, InvalidRequest

LIMIT_MS = 1500
"""Within which a command has begun, also on a busy host."""
GRACE_MS = 5000
SLEEPS_MS = 60_000
"""How long they would go on if nobody ended them."""
# Children that left their parent's session, its group, or both, and that ignore what can be ignored.
DESCENDANTS = {
    "child": "sleep {mark} & wait",
    "setsid": "setsid sleep {mark} & sleep {mark}",
    "setsid, forked": "setsid -f sleep {mark}; sleep {mark}",
    "double fork": "(sleep {mark} &) ; (sh -c 'sleep {mark} & exec sleep {mark}' &) ; sleep {mark}",
    "nohup": "nohup sleep {mark} >/dev/null 2>&1 & sleep {mark}",
    "deep": 'sh -c "sh -c \'setsid -f sh -c \\"sleep {mark}; sleep {mark}\\"\'"; sleep {mark}',
    "new group": "set -m; sleep {mark} & sleep {mark} & sleep {mark}",
}


async def test_a_command_that_obeys_ends_with_sigterm(sandbox: AsyncSandbox) -> None:
    """Item 31."""
    result = await sandbox.exec("echo before; sleep 60; echo after", timeout_ms=LIMIT_MS)

    assert (result.exit_code, result.signal) == (None, "SIGTERM")
    assert result.timed_out
    assert not result.ok
    assert result.stdout == "before\n"
    assert LIMIT_MS <= result.duration_ms < LIMIT_MS + GRACE_MS


@pytest.mark.slow
async def test_a_command_that_ignores_sigterm_is_killed_after_the_grace(
    sandbox: AsyncSandbox,
) -> None:
    """Item 32."""
    result = await sandbox.exec("trap '' TERM; echo deaf; sleep 60; sleep 60", timeout_ms=LIMIT_MS)

    assert (result.exit_code, result.signal) == (None, "SIGKILL")
    assert result.timed_out
    assert result.stdout == "deaf\n"
    assert GRACE_MS + LIMIT_MS <= result.duration_ms < SLEEPS_MS


async def test_a_command_that_catches_sigterm_and_exits_has_still_timed_out(
    sandbox: AsyncSandbox,
) -> None:
    result = await sandbox.exec(
        "trap 'echo cleaned up; exit 0' TERM; sleep 60 & wait", timeout_ms=LIMIT_MS
    )

    assert (result.exit_code, result.signal, result.timed_out) == (None, "SIGTERM", True)
    assert result.stdout == "cleaned up\n"


async def test_after_a_timeout_the_sandbox_runs_on(sandbox: AsyncSandbox) -> None:
    """Item 33."""
    await sandbox.exec("sleep 60", timeout_ms=100)

    await sandbox.refresh()
    assert sandbox.state == "running"
    assert (await sandbox.exec("echo next")).stdout == "next\n"


async def test_a_background_process_of_an_earlier_call_survives_a_timeout(
    sandbox: AsyncSandbox,
) -> None:
    await sandbox.exec("setsid sleep 71.5 >/dev/null 2>&1 &")

    await sandbox.exec("sleep 60", timeout_ms=200)

    assert (await sandbox.exec("pkill -f 'sleep 71.5'")).exit_code == 0


@pytest.mark.parametrize("kind", DESCENDANTS)
async def test_a_timeout_ends_every_descendant(sandbox: AsyncSandbox, kind: str) -> None:
    """Attack 35."""
    mark = f"7{list(DESCENDANTS).index(kind)}3.25"

    result = await sandbox.exec(DESCENDANTS[kind].format(mark=mark), timeout_ms=LIMIT_MS)

    # The command's own end is told at once, whatever the others still do.
    await sandbox.exec(f"while pgrep -f '[s]leep {mark}'; do sleep 0.1; done", check=True)
    assert result.timed_out
    assert result.duration_ms < LIMIT_MS + GRACE_MS


@pytest.mark.slow
async def test_descendants_that_ignore_sigterm_are_killed_too(sandbox: AsyncSandbox) -> None:
    command = "trap '' TERM HUP; setsid sleep 79.25 & (setsid -f nohup sleep 79.25) ; sleep 79.25"

    result = await sandbox.exec(command, timeout_ms=LIMIT_MS)

    await sandbox.exec("while pgrep -f 'sleep 79[.]25'; do sleep 0.1; done", check=True)
    assert result.timed_out
    assert result.duration_ms < SLEEPS_MS


async def test_a_streamed_command_times_out_alike(sandbox: AsyncSandbox) -> None:
    lines: list[str] = []

    result = await sandbox.exec(
        "echo before; sleep 60", on_stdout=lines.append, timeout_ms=LIMIT_MS
    )

    assert (result.exit_code, result.signal, result.timed_out) == (None, "SIGTERM", True)
    assert lines == ["before"]
    assert result.stdout == "before\n"


@pytest.mark.parametrize("timeout_ms", [0, -1, 300_001])
async def test_a_time_limit_out_of_range_is_refused(sandbox: AsyncSandbox, timeout_ms: int) -> None:
    """Item 34."""
    with pytest.raises(InvalidRequest):
        await sandbox.exec("true", timeout_ms=timeout_ms)


async def test_the_longest_time_limit_is_taken(sandbox: AsyncSandbox) -> None:
    assert (await sandbox.exec("true", timeout_ms=300_000)).ok
