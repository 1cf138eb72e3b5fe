# SPDX-License-Identifier: Apache-2.0
"""Sandboxes out of the pool: there at once, like any other, never dead, and nothing left of those nobody took."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from atoll import Atoll, InvalidConfig, PoolShape, Sandbox
from tests.support.inventory import find_leftovers, take_inventory
from tests.support.processes import first_process, host_processes, kill_process
from tests.support.server import ServerProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.isolated

SIZE = 3


@pytest.fixture
def pool_server(runtime: str) -> Iterator[ServerProcess]:
    """A server that holds a few sandboxes of one runtime ready."""
    with ServerProcess({"ATOLL_POOL_SIZE": str(SIZE), "ATOLL_RUNTIME": runtime}) as server:
        yield server


@pytest.fixture
def pool_client(pool_server: ServerProcess) -> Iterator[Atoll]:
    with Atoll(pool_server.url, pool_server.api_key, max_retries=0) as client:
        wait_filled(client)
        yield client


def held(client: Atoll) -> PoolShape:
    """What the pool holds of what it holds without being asked."""
    return client.pool().shapes[0]


def wait_filled(client: Atoll, size: int = SIZE) -> None:
    wait_until(lambda: held(client).idle == size, what="a full pool")


def known_groups(server: ServerProcess) -> set[str]:
    """Names of all sandboxes that have a control group of this server's: those that nobody knows, too."""
    group = next(path for path in _groups() if (path / _own_name(server)).is_dir())
    return {path.name for path in (group / _own_name(server)).iterdir() if path.is_dir()}


def _groups() -> Iterator[Path]:
    yield Path("/sys/fs/cgroup/pids/atoll")
    yield Path("/sys/fs/cgroup/atoll")


def _own_name(server: ServerProcess) -> str:
    (directory,) = server.run_dir.iterdir()
    return directory.name


def describe(sandbox: Sandbox) -> str:
    """What a program inside can see of how its sandbox was made, without its name."""
    script = """
        env | sort; pwd; id; ulimit -a; nproc; umask
        cut -d' ' -f 4- /proc/self/mountinfo |
            sed 's/[0-9]*:[0-9]* //; s/workdir=.*//; s/lowerdir=[^ ]*//; s/[ug]id=[0-9]*//g' | sort
        grep -E '^(Cap|Seccomp|NoNew|Groups)' /proc/self/status
        find / -xdev -maxdepth 2 -not -path '/proc*' -not -path '/usr/*' -not -path '/sys*' | sort
        stat -c '%A %U %G' /workspace /tmp /root /home/user /run
        running=$(ps -e -o comm=); sort <<< $running
    """
    return sandbox.exec(script, env={"OWN": "1"}, check=True).stdout.replace(sandbox.id, "ID")


def test_a_sandbox_of_the_pool_is_like_one_that_was_built_for_its_client(
    pool_client: Atoll,
) -> None:
    wanted = {
        "resources": {"cpu": 4},
        "env": {"GIVEN": "yes"},
        "workdir": "/work/here",
        "metadata": {"label": "a"},
        "timeout_ms": 70_000,
    }
    pooled = pool_client.sandboxes.create("host", **wanted)  # type: ignore[arg-type]  # each is what it is
    assert held(pool_client).hits == 1
    pool_client.resize_pool(0)
    wait_until(lambda: held(pool_client).idle == 0, what="an empty pool")
    built = pool_client.sandboxes.create("host", **wanted)  # type: ignore[arg-type]  # each is what it is
    assert held(pool_client).misses == 1

    assert describe(pooled) == describe(built)
    assert pooled.exec("hostname").stdout.strip() == pooled.id.replace("_", "-")
    own = ("id", "created_at", "started_at")
    facts = [
        {name: getattr(it.info, name) for name in it.info.__dataclass_fields__ if name not in own}
        for it in (pooled, built)
    ]
    assert facts[0] == facts[1]
    assert pooled.info.started_at is not None
    assert pooled.info.started_at >= pooled.info.created_at
    for sandbox in (pooled, built):
        sandbox.terminate()


def test_processors_are_limited_as_asked_for(
    pool_client: Atoll, pool_server: ServerProcess
) -> None:
    sandbox = pool_client.sandboxes.create("host", resources={"cpu": 8})

    assert held(pool_client).hits == 1
    assert _cpu_quota(pool_server, sandbox.id) == 8.0
    sandbox.terminate()


def _cpu_quota(server: ServerProcess, sandbox_id: str) -> float:
    own = f"atoll/{_own_name(server)}/{sandbox_id}"
    v2 = Path("/sys/fs/cgroup", own, "cpu.max")
    if v2.exists():
        quota, period = map(int, v2.read_text().split())
        return quota / period
    v1 = Path("/sys/fs/cgroup/cpu", own)
    read = [int((v1 / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period")]
    return read[0] / read[1]


def test_the_pool_is_filled_again(pool_client: Atoll) -> None:
    taken = [pool_client.sandboxes.create("host") for _ in range(SIZE)]

    assert held(pool_client).hits == SIZE
    wait_filled(pool_client)

    assert len({sandbox.id for sandbox in taken}) == SIZE
    for sandbox in taken:
        assert sandbox.exec("echo here").stdout == "here\n"
        sandbox.terminate()


def test_pooled_sandboxes_are_in_no_list(pool_client: Atoll) -> None:
    assert pool_client.sandboxes.list().total == 0


def test_more_at_once_than_the_pool_holds_are_all_made(pool_client: Atoll) -> None:
    def create(_: int) -> Sandbox:
        return pool_client.sandboxes.create("host")

    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(create, range(8)))

    assert len({sandbox.id for sandbox in made}) == 8
    for sandbox in made:
        assert sandbox.exec("echo here").stdout == "here\n"
        sandbox.terminate()


def test_a_pooled_sandbox_that_died_is_never_given_to_anybody(
    pool_client: Atoll, pool_server: ServerProcess, runtime: str
) -> None:
    """Attack 102."""
    ids = known_groups(pool_server)
    assert len(ids) == SIZE
    for sandbox_id in ids:
        kill_process(first_process(sandbox_id))
    if runtime == "container":  # what rests cannot end before it is woken
        wait_until(lambda: not any(map(host_processes, ids)), what="their end")

    made = [pool_client.sandboxes.create("host") for _ in range(SIZE)]

    assert not ids & {sandbox.id for sandbox in made}
    for sandbox in made:
        assert sandbox.exec("echo here").stdout == "here\n"
        sandbox.terminate()
    wait_filled(pool_client)
    assert held(pool_client).died == SIZE
    assert not find_leftovers(ids, [pool_server.directory])


def test_a_pooled_sandbox_whose_agent_died_is_never_given_to_anybody(
    pool_client: Atoll, pool_server: ServerProcess, runtime: str
) -> None:
    """Without the socket there is no agent for us, and no process whose end would tell of it."""
    ids = known_groups(pool_server)
    for sandbox_id in ids:
        socket = next(pool_server.run_dir.glob(f"*/control/{sandbox_id}/agent.sock"))
        socket.unlink()

    sandbox = pool_client.sandboxes.create("host")

    assert sandbox.id not in ids
    assert sandbox.exec("echo here").stdout == "here\n"
    sandbox.terminate()
    wait_until(lambda: not find_leftovers(ids, settle=0), what="their removal")


def test_a_directory_that_cannot_be_made_is_the_clients_fault_and_costs_one(
    pool_client: Atoll,
) -> None:
    with pytest.raises(InvalidConfig, match="workdir"):
        pool_client.sandboxes.create("host", workdir="/etc/passwd/below")

    assert held(pool_client).died == 0
    assert held(pool_client).hits == 1
    pool_client.resize_pool(0)
    wait_until(lambda: held(pool_client).idle == 0, what="an empty pool")
    with pytest.raises(InvalidConfig, match="workdir"):
        pool_client.sandboxes.create("host", workdir="/etc/passwd/below")


def test_what_a_killed_server_held_is_swept_at_the_next_start(
    pool_client: Atoll, pool_server: ServerProcess
) -> None:
    """Attack 90."""
    kept = pool_client.sandboxes.create("host")
    wait_filled(pool_client)
    before = known_groups(pool_server) - {kept.id}

    pool_server.kill()
    pool_server.start()

    assert not find_leftovers(before, [pool_server.directory])
    wait_filled(pool_client)
    assert not known_groups(pool_server) & before
    assert kept.exec("echo here").stdout == "here\n"
    kept.terminate()


def test_a_server_that_stops_leaves_nothing_of_its_pool(runtime: str) -> None:
    before = take_inventory()
    with ServerProcess({"ATOLL_POOL_SIZE": "2", "ATOLL_RUNTIME": runtime}) as server:
        with Atoll(server.url, server.api_key) as client:
            wait_filled(client, 2)
        held_now = known_groups(server)
        server.stop()

        assert held_now
        assert not find_leftovers(held_now, [server.directory])
    assert not {line for line in take_inventory() - before if str(server.directory) in line}


def test_only_a_key_of_the_operators_sees_the_pool(pool_client: Atoll) -> None:
    from atoll import Forbidden

    key = pool_client.keys.create("other", scopes="sandbox:*").key
    assert key is not None
    with Atoll(pool_client.api_url, key) as other:
        with pytest.raises(Forbidden, match="pool:manage"):
            other.pool()
        with pytest.raises(Forbidden, match="pool:manage"):
            other.resize_pool(0)
    assert pool_client.pool().size == SIZE


def test_one_that_waits_for_its_client_takes_no_processor_time(
    pool_client: Atoll, pool_server: ServerProcess, runtime: str
) -> None:
    """gVisor's kernel wakes by itself a thousand times a second; an agent in a container only when it is called."""
    (waiting, *_) = known_groups(pool_server)
    wait_until(lambda: _is_frozen(pool_server, waiting) == (runtime == "gvisor"), what="its rest")

    taken = [pool_client.sandboxes.create("host") for _ in range(SIZE)]

    assert waiting in {sandbox.id for sandbox in taken}
    assert not _is_frozen(pool_server, waiting)
    for sandbox in taken:
        assert sandbox.exec("echo here").stdout == "here\n"
        sandbox.terminate()


def _is_frozen(server: ServerProcess, sandbox_id: str) -> bool:
    own = f"atoll/{_own_name(server)}/{sandbox_id}"
    v2 = Path("/sys/fs/cgroup", own, "cgroup.freeze")
    if v2.exists():
        return v2.read_text() == "1\n"
    return Path("/sys/fs/cgroup/freezer", own, "freezer.state").read_text() != "THAWED\n"
