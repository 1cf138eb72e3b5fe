# SPDX-License-Identifier: Apache-2.0
"""The private server of a program that was told of no other, and what becomes of its sandboxes where it is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from atoll import Atoll, _local
from tests.support.inventory import find_leftovers


@pytest.mark.parametrize("network", [None, "none"])
def test_sandboxes_of_a_server_that_was_killed_are_ended_by_the_next(
    runtime: str, network: str | None
) -> None:
    client = Atoll()
    sandbox = client.sandboxes.create("host", runtime=runtime, network=network)
    directory = kill_server()
    assert find_leftovers([sandbox.id])
    client.close()

    with Atoll() as another:
        assert [*another.sandboxes.list()] == []
        assert find_leftovers([sandbox.id, directory.name]) == frozenset()
        assert not directory.exists()


def kill_server() -> Path:
    """The one of this process. Returns its directory."""
    running = _local.shared._running
    assert running is not None
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait()
    return running.directory
