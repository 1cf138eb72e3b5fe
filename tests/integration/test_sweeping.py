# SPDX-License-Identifier: Apache-2.0
"""A server that runs puts right by itself what is on the host and should not be, and the other way round."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from atoll import Atoll
from tests.support.inventory import find_leftovers
from tests.support.server import ServerProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.isolated

STRANGER = "sb_0000000000000000strange"


@pytest.fixture
def sweeping() -> Iterator[ServerProcess]:
    """A server that looks around all the time, and holds sandboxes ready that it must not take for strangers."""
    with ServerProcess({"ATOLL_SWEEP_EVERY_MS": "300", "ATOLL_POOL_SIZE": "2"}) as server:
        yield server


def leave_remains(server: ServerProcess) -> None:
    """As a removal that could not be finished would: a control directory, and a disk."""
    (own,) = server.run_dir.iterdir()
    (own / "control" / STRANGER).mkdir()
    (server.state_dir / "disks" / f"{STRANGER}.ext4").write_bytes(b"left")


def test_what_nobody_knows_is_removed_while_the_server_runs(
    sweeping: ServerProcess, runtime: str
) -> None:
    with Atoll(sweeping.url, sweeping.api_key) as client:
        sandbox = client.sandboxes.create("host", runtime=runtime)
        leave_remains(sweeping)
        assert find_leftovers([STRANGER], [sweeping.directory], settle=0)

        wait_until(
            lambda: not find_leftovers([STRANGER], [sweeping.directory], settle=0), what="a sweep"
        )

        assert sandbox.exec("echo here").stdout == "here\n"
        sandbox.terminate()


def test_nothing_that_is_somebodys_or_in_the_making_is_ever_swept(
    sweeping: ServerProcess, runtime: str
) -> None:
    with Atoll(sweeping.url, sweeping.api_key, max_retries=0) as client:
        for _ in range(8):
            with client.sandboxes.create("host", runtime=runtime) as sandbox:
                assert sandbox.exec("echo here").stdout == "here\n"
        wait_until(lambda: sum(it.idle for it in client.pool().shapes) == 2, what="a full pool")

        assert sum(it.died for it in client.pool().shapes) == 0
    assert "which nobody remembers" not in sweeping.read_log()
