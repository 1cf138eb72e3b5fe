# SPDX-License-Identifier: Apache-2.0
"""Sandboxes come and go, and the host stays as it was. Attack 101."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.api import Api
from tests.support.inventory import find_difference, find_leftovers, take_inventory
from tests.support.processes import open_files, resident_mb, threads
from tests.support.server import ServerProcess

RUNTIMES = ("container", "gvisor")
AT_ONCE = 8
GROWTH_MB = 32
# Left running in a sandbox that is terminated: none of it may survive.
LITTER = (
    "setsid sleep 1000 >/dev/null 2>&1 & (setsid nohup sleep 1000 &) >/dev/null 2>&1; "
    "trap '' TERM; head -c 1M /dev/urandom > /workspace/file; mkfifo /tmp/pipe; "
    "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"/tmp/socket\")'"
)


@pytest.mark.isolated
@pytest.mark.parametrize(
    "count",
    [
        30,
        pytest.param(200, marks=[pytest.mark.soak, pytest.mark.timeout(600)]),
    ],
)
def test_terminated_sandboxes_leave_nothing_behind(count: int) -> None:
    """No process, mount, control group, loop device, namespace or file; no memory or descriptor of the server."""
    before = take_inventory()
    with ServerProcess() as server:
        api = Api(server)
        _cycle(api, AT_ONCE)  # what is made once and kept
        files_before, threads_before = open_files(server.pid), threads(server.pid)
        memory_before = resident_mb(server.pid)
        kept = set(take_inventory([server.directory]))

        ids = _cycle(api, count)

        assert len(set(ids)) == count
        assert api.count("terminated") == count + AT_ONCE
        assert not find_leftovers(ids, [server.directory])
        grown = set(find_difference(frozenset(kept), [server.directory]))
        assert not {line for line in grown if str(server.directory) in line}
        assert open_files(server.pid) <= files_before
        assert threads(server.pid) <= threads_before
        assert resident_mb(server.pid) - memory_before < GROWTH_MB
        server.stop()

    left = find_difference(before)
    assert not {line for line in left if str(server.directory) in line or _names(line, ids)}


def _names(line: str, ids: list[str]) -> bool:
    return any(sandbox_id in line for sandbox_id in ids)


def _cycle(api: Api, count: int) -> list[str]:
    """Create, use and terminate so many sandboxes, several at a time, half of each runtime."""
    order = random.Random(count)

    def live(number: int) -> str:
        sandbox_id = api.create(runtime=RUNTIMES[number % 2], metadata={"number": str(number)})
        if order.random() < 0.7:
            assert api.execute(sandbox_id, LITTER, timeoutMs=20_000).status == 200
        answer = api.terminate(sandbox_id)
        assert answer.json()["state"] == "terminated"
        return sandbox_id

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(live, range(count)))
