# SPDX-License-Identifier: Apache-2.0
"""Root inside a sandbox turns on the agent that serves it: attack 41, from within."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from atoll import Atoll, Process, Sandbox, SandboxFailed
from tests.support.waiting import wait_until

NOTICED = 2.0


def test_killing_the_agent_from_inside_fails_the_sandbox_or_nothing(
    client: Atoll, runtime: str
) -> None:
    """Linux keeps the first process of a container from signals of its own sandbox. gVisor does not."""
    sandbox = client.sandboxes.create("host", runtime=runtime)
    process = sandbox.processes.start("sleep 1; kill -9 1; sleep 1; echo survived")

    if runtime == "container":
        assert process.wait(20_000).stdout == "survived\n"
        assert sandbox.exec("echo here").stdout == "here\n"
    else:
        with pytest.raises(SandboxFailed):
            process.wait(20_000)
        wait_until(lambda: client.sandboxes.get(sandbox.id).state == "failed", within=NOTICED)
        with pytest.raises(SandboxFailed):
            sandbox.exec("true")
    sandbox.terminate()


def test_a_sandbox_whose_agent_cannot_be_reached_says_so_at_once(
    client: Atoll, runtime: str
) -> None:
    with client.sandboxes.create("host", runtime=runtime) as sandbox:
        sandbox.exec("rm -r /run/atoll/control/*", check=True)

        with pytest.raises(SandboxFailed):
            sandbox.exec("true")


@pytest.mark.parametrize("command", ["kill -9 $PPID; exit 5", "kill -9 -1; exit 5"])
def test_a_process_whose_parent_is_killed_still_reports_its_end(
    sandbox: Sandbox, command: str
) -> None:
    """The agent's watcher over a command may end just as the command itself does."""

    def run(_: int) -> Process:
        process = sandbox.processes.start(["bash", "-c", command])
        process.wait(20_000)
        return process

    at_once = 16 if "PPID" in command else 1
    with ThreadPoolExecutor(at_once) as pool:
        ended = list(pool.map(run, range(96)))

    assert Counter(process.exit_code for process in ended) == {5: 96}
