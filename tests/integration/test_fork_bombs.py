# SPDX-License-Identifier: Apache-2.0
"""A sandbox that forks without end: attack 48."""

from __future__ import annotations

import os
import time

import pytest

from atoll import Atoll, CommandNotStarted, Sandbox, SandboxFailed
from tests.support.processes import host_processes
from tests.support.waiting import wait_until

PIDS_MAX = 4096
RECOVERED = 5.0
BOMB = "(:(){ :|:& };:) >/dev/null 2>&1 &"


@pytest.mark.slow
def test_a_fork_bomb_stays_within_its_limit_and_the_host_recovers(
    client: Atoll, runtime: str
) -> None:
    with client.sandboxes.create("host", runtime=runtime) as bombed:
        bombed.exec(BOMB)

        most = 0
        deadline = time.monotonic() + 8
        while time.monotonic() < deadline:
            most = max(most, len(host_processes(bombed.id)))
            assert answers_or_says_why(bombed)
        sandbox_id = bombed.id

    assert 1 < most <= PIDS_MAX
    wait_until(lambda: not host_processes(sandbox_id), within=RECOVERED, what="its end")
    # What makes a process here is not kept waiting either.
    assert (
        os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)[1]) == 0
    )


def answers_or_says_why(sandbox: Sandbox) -> bool:
    try:
        return sandbox.exec(["echo", "here"], timeout_ms=3000).stdout in ("here\n", "")
    except CommandNotStarted as error:
        return error.reason == "spawn_failed"
    except SandboxFailed as error:
        # gVisor has no bound of its own on processes, and gets to nothing else.
        return "silent" in error.message
