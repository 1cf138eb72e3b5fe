# SPDX-License-Identifier: Apache-2.0
"""What sandboxes use is seen from outside, and limits that an operator allows are those that hold."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from atoll import Atoll, InvalidConfig, Sandbox, SandboxNotFound
from tests.support.api import Api
from tests.support.cleanliness import assert_host_is_clean
from tests.support.server import ServerProcess
from tests.support.waiting import wait_until

MIB = 1 << 20
SPIN = "while :; do :; done"
OPEN_MANY = """
import os
taken = 0
try:
    while taken < 5000:
        os.open('/dev/null', os.O_RDONLY)
        taken += 1
except OSError as error:
    print(error.strerror, taken, flush=True)
"""
START_MANY = """
import threading, time
started = 0
try:
    while started < 500:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        started += 1
except RuntimeError:
    pass
print(started, flush=True)
import os; os._exit(0)
"""
WIDE = {
    "ATOLL_CPU_MIN": "0.25",
    "ATOLL_MEMORY_MIN_MB": "128",
    "ATOLL_DISK_MIN_MB": "64",
    "ATOLL_PIDS_MAX": "1000",
    "ATOLL_POOL_SIZE": "1",
}


@pytest.fixture(scope="module")
def wide() -> Iterator[ServerProcess]:
    """A server whose operator allows more than is usual."""
    with ServerProcess(WIDE) as server:
        yield server
        server.end_sandboxes()
        assert_host_is_clean(Api(server))


@pytest.fixture
def wide_client(wide: ServerProcess) -> Iterator[Atoll]:
    with Atoll(wide.url, wide.api_key) as client:
        yield client


def test_use_grows_with_what_is_done_and_stays_below_the_limits(sandbox: Sandbox) -> None:
    idle = sandbox.metrics()

    spinning = sandbox.processes.start(SPIN)
    holding = sandbox.processes.start(
        ["python3", "-c", "held = b'x' * (64 << 20); input()"], stdin_open=True
    )
    busy = wait_until(
        lambda: (
            now
            if (now := sandbox.metrics()).cpu_ms > idle.cpu_ms + 200
            and now.memory_bytes > idle.memory_bytes + 60 * MIB
            else None
        ),
    )

    spinning.kill()
    holding.kill()
    assert busy is not None
    assert busy.cpu_limit == sandbox.resources.cpu == 2
    assert busy.processes > idle.processes > 0
    assert busy.processes_limit >= (sandbox.resources.pids or 0) == 4096
    assert busy.memory_held_bytes <= busy.memory_bytes <= busy.memory_limit_bytes
    assert busy.memory_peak_bytes is None or busy.memory_peak_bytes >= idle.memory_bytes
    assert busy.memory_limit_bytes >= sandbox.resources.memory_mb * MIB
    assert busy.disk_limit_bytes == sandbox.resources.disk_mb * MIB
    assert busy.uptime_ms > idle.uptime_ms >= 0
    assert (busy.oom_kills, busy.network_sent_bytes, busy.network_received_bytes) == (0, None, None)


def test_disk_that_is_freed_inside_comes_back_to_the_host(sandbox: Sandbox) -> None:
    before = sandbox.metrics().disk_bytes

    sandbox.exec("head -c 200M /dev/urandom > /root/large && sync", check=True)
    full = sandbox.metrics().disk_bytes
    sandbox.exec("rm /root/large && sync", check=True)

    assert full - before >= 190 * MIB
    wait_until(lambda: sandbox.metrics().disk_bytes - before < 20 * MIB)


def test_one_that_has_ended_has_no_metrics(client: Atoll, runtime: str) -> None:
    with client.sandboxes.create("host", runtime=runtime) as sandbox:
        pass

    with pytest.raises(SandboxNotFound):
        sandbox.metrics()


@pytest.mark.isolated
def test_a_fraction_of_a_processor_is_what_one_gets(wide_client: Atoll, runtime: str) -> None:
    with wide_client.sandboxes.create(
        "host", cpu=0.5, memory_mb=256, disk_mb=64, runtime=runtime
    ) as sandbox:
        assert sandbox.resources.cpu == 0.5
        assert wide_client.sandboxes.get(sandbox.id).resources == sandbox.resources
        sandbox.processes.start(SPIN)

        # A kernel that never held it back would never count this.
        wait_until(lambda: sandbox.metrics().cpu_throttled_ms > 100)

        assert sandbox.metrics().cpu_limit == 0.5


@pytest.mark.isolated
def test_open_files_and_processes_end_where_they_were_said_to(
    wide_client: Atoll, runtime: str
) -> None:
    with wide_client.sandboxes.create(
        "host", pids=200, open_files=300, memory_mb=512, runtime=runtime
    ) as sandbox:
        assert (sandbox.resources.pids, sandbox.resources.open_files) == (200, 300)

        files = sandbox.exec(["python3", "-c", OPEN_MANY], check=True).stdout

        name, _, taken = files.strip().rpartition(" ")
        assert name == "Too many open files"
        assert 280 < int(taken) < 300
        assert sandbox.metrics().processes_limit in (200, 328)
        if runtime == "container":  # gVisor's kernel ends where it gets no thread
            started = sandbox.exec(["python3", "-c", START_MANY], check=True).stdout
            assert 100 < int(started) < 200


@pytest.mark.isolated
def test_what_can_be_limited_late_is_so_for_one_that_was_held_ready(wide_client: Atoll) -> None:
    wait_until(lambda: wide_client.pool().shapes[0].idle > 0)
    before = wide_client.pool().shapes[0].hits

    with wide_client.sandboxes.create("host", cpu=0.25, pids=150) as sandbox:
        used = sandbox.metrics()

    assert wide_client.pool().shapes[0].hits == before + 1
    assert (used.cpu_limit, used.processes_limit) in ((0.25, 150), (0.25, 278))


@pytest.mark.isolated
@pytest.mark.parametrize(
    "wrong",
    [{"cpu": 0.2}, {"cpu": 8.5}, {"memory_mb": 127}, {"pids": 1001}, {"open_files": 1 << 20}],
)
def test_more_than_the_operator_allows_is_refused(
    wide_client: Atoll, wrong: dict[str, float]
) -> None:
    with pytest.raises(InvalidConfig, match="on this server"):
        wide_client.sandboxes.create("host", resources=wrong)


def test_prometheus_reads_the_server_and_what_runs_on_it(api: Api, sandbox: Sandbox) -> None:
    sandbox.exec("true", check=True)

    answer = api.call("GET", "/metrics")

    assert answer.status == 200
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }
    kind = sandbox.runtime.value
    assert found["process_resident_memory_bytes",] > MIB
    assert found["process_open_fds",] > 3
    assert found["atoll_sandboxes", *sorted(("running", kind))] >= 1
    assert found["atoll_exec_seconds_count", kind] >= 1
    assert found["atoll_sandbox_memory_bytes", *sorted((sandbox.id, kind))] > 0
    execute = sorted(("POST", "/v1/sandboxes/{id}/execute", "200"))
    assert found["atoll_http_requests_total", *execute] >= 1
