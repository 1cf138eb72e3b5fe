# SPDX-License-Identifier: Apache-2.0
"""Thousands of sandboxes come and go on one server, and neither it nor its host holds more than after the first."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.api import Api
from tests.support.footprint import Footprint, find_growth, take_footprint
from tests.support.server import ServerProcess

AT_ONCE = 8
WARM_UP = 0.1
SAMPLES = 5
LONG = 1000
# Of the server: its record of every sandbox it has had. Of the host: what else runs there comes and goes as well.
ALLOWED = {
    "memory MiB": 24.0,
    "charged MiB": 16.0,
    "host namespaces": 200,
    "host control groups": 80,
    "host kernel memory MiB": 96.0,
}
USED = "echo x > /workspace/file; setsid sleep 1000 >/dev/null 2>&1 &"


@pytest.mark.isolated
@pytest.mark.parametrize(
    ("runtime", "count"),
    [
        ("container", 100),
        ("gvisor", 20),
        pytest.param("container", 10_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
        pytest.param("gvisor", 1_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
    indirect=["runtime"],
)
def test_cycles_leave_server_and_host_as_they_were(
    runtime: str, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with ServerProcess() as server:
        api = Api(server)
        ended = _cycle(api, runtime, max(AT_ONCE, int(count * WARM_UP)))
        before = take_footprint(server, ended)
        _report(capsys, count, 0, before)
        for sample in range(1, SAMPLES + 1):
            ended = _cycle(api, runtime, count // SAMPLES)

            now, growth = find_growth(server, ended, before, ALLOWED)

            _report(capsys, count, sample, now)
            assert growth == {}, f"after {sample * count // SAMPLES} more, {now}"
        assert api.count("terminated") == api.count() >= count


def _report(capsys: pytest.CaptureFixture[str], count: int, sample: int, found: Footprint) -> None:
    """What the long ones, which take minutes, say while they run."""
    if count < LONG:
        return
    with capsys.disabled():
        held = ", ".join(f"{name} {value:g}" for name, value in found.items())
        sys.stdout.write(f"\n{sample * count // SAMPLES:>6}: {held}")


def _cycle(api: Api, runtime: str, count: int) -> list[str]:
    """Create, use and terminate so many, several at a time. Returns their ids."""

    def live(_: int) -> str:
        sandbox_id = api.create(runtime=runtime)
        assert api.execute(sandbox_id, USED).status == 200
        assert api.terminate(sandbox_id).json()["state"] == "terminated"
        return sandbox_id

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(live, range(count)))
