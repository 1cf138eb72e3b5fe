# SPDX-License-Identifier: Apache-2.0
"""What every runtime promises the engine, the one without isolation included."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from atoll_server.agent.client import AgentClient
from atoll_server.engine.commands import ProcessDefaults
from atoll_server.engine.images import Images
from atoll_server.engine.model import Command, Limits, RuntimeKind, SandboxId, SandboxSpec
from atoll_server.engine.opening import AGENT_BINARY
from atoll_server.engine.site import HostPaths, Site
from atoll_server.engine.sites import Sites
from atoll_server.runtimes.base import Runtime, RuntimeFailed
from atoll_server.runtimes.cgroups import Cgroups
from atoll_server.runtimes.container import Crun, Runc
from atoll_server.runtimes.fake import Unisolated
from atoll_server.runtimes.gvisor import Runsc
from atoll_server.runtimes.oci import Paths
from tests.support.commands import execute
from tests.support.inventory import find_leftovers

T = TypeVar("T")

SPEC = SandboxSpec("host", Limits(2, 2048, 5120), {}, "/tmp", 60.0, 60.0, {})
DEFAULTS = ProcessDefaults(workdir="/tmp", env={})
DRIVERS: dict[str, Callable[[str, Paths], Runtime]] = {"crun": Crun, "runc": Runc, "runsc": Runsc}


def _in_own_thread(work: Callable[[], T]) -> T:
    """As the lifecycle does it: starting a sandbox changes its thread's namespaces."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def _runs(pid: int) -> bool:
    return Path(f"/proc/{pid}/exe").exists()


class Host:
    """A site maker with one runtime, on directories of its own."""

    def __init__(self, directory: Path, driver: str, agent: Path = AGENT_BINARY) -> None:
        self.sandbox_id = SandboxId(f"sb_{directory.name}")
        self.paths = HostPaths(
            images=directory / "images", disks=directory / "disks", run=directory / "run"
        )
        self.runtime: Runtime
        if driver == "fake":
            self.runtime = Unisolated(agent)
        else:
            state = self.paths.run / driver
            state.mkdir(parents=True)
            self.runtime = DRIVERS[driver](driver, Paths(agent=agent, state=state))
        images = Images(self.paths.images)
        runtimes: dict[RuntimeKind, Runtime] = {self.runtime.kind: self.runtime}
        self.sites = Sites(self.paths, images, runtimes, Cgroups(f"atoll/{directory.name}"))
        self.sites.prepare()

    def build(self) -> Site:
        return _in_own_thread(lambda: self.sites.build(self.sandbox_id, self.runtime.kind, SPEC))

    def agent(self, site: Site) -> AgentClient:
        return AgentClient(str(self.paths.socket(site.sandbox_id)))


@pytest.fixture
def directory() -> Iterator[Path]:
    # Not pytest's: socket paths are limited to 107 bytes.
    path = Path(tempfile.mkdtemp(prefix="atoll-c-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(params=["fake", "crun", "runc", "runsc"])
def driver(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if name != "fake" and shutil.which(name) is None:
        pytest.skip(f"needs {name}")
    return name


@pytest.fixture
def host(directory: Path, driver: str) -> Iterator[Host]:
    host = Host(directory, driver)
    yield host
    host.sites.dismantle()
    left = find_leftovers([host.sandbox_id, f"atoll/{directory.name}"], [directory])
    assert not left, sorted(left)


async def test_once_started_the_agent_answers_and_runs_commands(host: Host) -> None:
    site = host.build()

    done = await execute(
        host.agent(site),
        Command(("/bin/sh", "-c", "echo out; echo err >&2; exit 3")),
        defaults=DEFAULTS,
    )

    assert (done.stdout, done.stderr, done.exit.code) == (b"out\n", b"err\n", 3)
    assert host.sites.remove(site)


async def test_every_process_is_in_the_group_and_killing_the_group_ends_them_all(
    host: Host,
) -> None:
    site = host.build()
    background = Command(
        "setsid sleep 1000 >/dev/null 2>&1 & (setsid nohup sleep 1000 &) >/dev/null 2>&1"
    )
    await execute(host.agent(site), background, defaults=DEFAULTS)
    pids = site.group.pids()
    assert site.pid in pids

    site.group.kill(timeout=10)

    assert site.group.pids() == ()
    assert not any(map(_runs, pids))
    assert host.sites.remove(site)


async def test_removing_twice_and_removing_what_never_was_is_fine(host: Host) -> None:
    site = host.build()

    assert host.sites.remove(site)
    assert host.sites.remove(site)
    assert host.sites.sweep(SandboxId("sb_neverwas"), SPEC)


async def test_a_sandbox_is_found_again_by_its_facts_alone(host: Host) -> None:
    site = host.build()
    found = host.sites.find(site.sandbox_id, host.runtime.kind, SPEC, site.facts())
    assert host.sites.is_alive(found)
    assert host.sites.remains() == {site.sandbox_id}

    assert host.sites.remove(found)

    assert not host.sites.is_alive(site)
    assert host.sites.remains() == frozenset()


async def test_an_agent_that_does_not_start_is_a_failure_that_leaves_nothing(
    directory: Path, driver: str
) -> None:
    agent = directory / "agent"
    agent.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    agent.chmod(0o755)
    host = Host(directory, driver, agent)

    with pytest.raises(RuntimeFailed, match="broken"):
        host.build()

    assert host.sites.remains() == frozenset()
    host.sites.dismantle()
    assert not find_leftovers([host.sandbox_id, f"atoll/{directory.name}"], [directory])
