# SPDX-License-Identifier: Apache-2.0
"""Sandboxes of the pool have a network before anybody said what it may reach."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll import Atoll, PoolShape, Sandbox
from atoll_server.network.control import ProxyControl, ProxyUnavailable
from atoll_server.network.namespace import NamespaceDirectory
from tests.support.internet import OTHER, SHARED, Internet
from tests.support.networked import serving_within
from tests.support.server import ServerProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.isolated

SIZE = 2
FETCH = "python3 -c 'import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=20).read().decode())' {}"
POLICY = {"allow": ["a.test"]}


@pytest.fixture
def pooled(internet: Internet, runtime: str) -> Iterator[ServerProcess]:
    """A server in the internet of the test, which holds sandboxes ready."""
    settings = {
        "ATOLL_POOL_SIZE": str(SIZE),
        "ATOLL_RUNTIME": runtime,
        "ATOLL_NETWORK_DEFAULT": "deny",
    }
    with serving_within(internet, settings) as server:
        yield server


@pytest.fixture
def client(pooled: ServerProcess) -> Iterator[Atoll]:
    with Atoll(api_url=f"unix://{pooled.socket}", api_key=pooled.api_key) as client:
        wait_filled(client)
        yield client


def held(client: Atoll) -> PoolShape:
    """What is held without being asked for."""
    (shape,) = [it for it in client.pool().shapes if it.network]
    return shape


def wait_filled(client: Atoll) -> None:
    wait_until(lambda: held(client).idle == SIZE, what="a full pool")


def reaches(sandbox: Sandbox, name: str) -> bool:
    return sandbox.exec(FETCH.format(f"http://{name}/")).stdout == f"{name} at {SHARED}:80\n"


def reaches_what_it_may(sandbox: Sandbox) -> bool:
    denied = sandbox.exec(FETCH.format("http://other.test/"))
    return reaches(sandbox, "a.test") and denied.exit_code != 0


def test_policy_that_is_said_late_holds_and_leaves_no_trace(client: Atoll) -> None:
    sandbox = client.sandboxes.create("host", network=POLICY)

    report = sandbox.network.report()
    assert (report.connections, report.queries, report.denied, report.denials) == (0, 0, {}, [])
    assert report.network.egress.allow == ["a.test:80,443"]
    assert held(client).hits == 1
    assert reaches_what_it_may(sandbox)
    sandbox.network.update({"allow": ["other.test"]})
    assert sandbox.exec(FETCH.format("http://other.test/")).stdout == f"other.test at {OTHER}:80\n"


def test_sandboxes_of_the_pool_take_any_policy_but_none(client: Atoll) -> None:
    """One that is to have no network at all is another shape, which is held once it was asked for."""
    with client.sandboxes.create("host", network="none") as sandbox:
        assert sandbox.info.network is None
        names = "python3 -c 'import socket; print(*(name for _, name in socket.if_nameindex()))'"
        assert sandbox.exec(names).stdout == "lo\n"
    assert (held(client).hits, held(client).misses) == (0, 0)

    for policy in ("deny", "allow", None):
        wait_until(lambda: held(client).idle > 0, what="one that is ready")
        client.sandboxes.create("host", network=policy).terminate()
    assert (held(client).hits, held(client).misses) == (3, 0)


def test_sandbox_whose_proxy_has_ended_is_served_again_before_it_is_anybodys(
    client: Atoll, pooled: ServerProcess
) -> None:
    _kill(int(_pid_file(pooled).read_text()))

    sandbox = client.sandboxes.create("host", network=POLICY)

    assert held(client).hits == 1
    assert reaches_what_it_may(sandbox)


def test_sandbox_with_the_usual_policy_needs_nothing_of_the_proxy(
    client: Atoll, pooled: ServerProcess
) -> None:
    """It was told when the sandbox was built. One that does not answer for a moment is not even noticed."""
    pid = int(_pid_file(pooled).read_text())
    with _stopped(pid):
        sandbox = client.sandboxes.create("host")

    assert held(client).hits == 1
    assert not reaches(sandbox, "a.test")
    assert "not_listed" in sandbox.network.report().denied
    sandbox.network.update(POLICY)
    assert reaches_what_it_may(sandbox)
    assert int(_pid_file(pooled).read_text()) == pid


def test_sandbox_with_the_usual_policy_is_served_by_a_proxy_that_lives(
    client: Atoll, pooled: ServerProcess
) -> None:
    _kill(int(_pid_file(pooled).read_text()))

    sandbox = client.sandboxes.create("host")

    assert sandbox.id in ProxyControl(_pid_file(pooled).with_name("control.sock")).list()
    assert held(client).hits == 1


def test_those_that_are_held_ready_are_served_again_without_being_asked_for(
    client: Atoll, pooled: ServerProcess
) -> None:
    pid_file = _pid_file(pooled)
    control = ProxyControl(pid_file.with_name("control.sock"))
    held_ready = control.list()
    assert len(held_ready) == SIZE

    _kill(int(pid_file.read_text()))

    def served() -> frozenset[str]:
        with contextlib.suppress(ProxyUnavailable):
            return control.list()
        return frozenset()

    wait_until(lambda: served() == held_ready, what="another proxy that serves them")
    assert held(client).died == 0


def test_sandbox_whose_edge_is_gone_is_nobodys(client: Atoll, pooled: ServerProcess) -> None:
    """Neither the proxy that ends nor a new one can serve it."""
    directory = NamespaceDirectory(next(pooled.run_dir.glob("*/network/namespaces")))
    broken = directory.list()
    for sandbox_id in broken:
        directory.remove(sandbox_id)
    _kill(int(_pid_file(pooled).read_text()))

    sandbox = client.sandboxes.create("host", network=POLICY)

    assert sandbox.id not in broken
    assert reaches_what_it_may(sandbox)
    assert held(client).died >= 1


def _pid_file(server: ServerProcess) -> Path:
    return next(server.run_dir.glob("*/network/proxy.pid"))


@contextlib.contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _kill(pid: int) -> None:
    process = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(process, signal.SIGKILL)
        select.select([process], [], [], 10)
    finally:
        os.close(process)
