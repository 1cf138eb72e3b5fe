# SPDX-License-Identifier: Apache-2.0
"""Policies from the SDK to the sandbox, over the real server, in the test's internet."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator

import pytest

from atoll import Atoll, InvalidConfig, Network
from atoll.models import Egress
from tests.support.internet import METADATA, NAME_SERVER, OTHER, SHARED, Internet
from tests.support.inventory import find_leftovers
from tests.support.server import ServerProcess

FETCH = "python3 -c 'import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=20).read().decode())' {}"


@pytest.fixture(scope="module")
def networked(internet: Internet) -> Iterator[ServerProcess]:
    """A server that lives in the internet of the test."""
    server = ServerProcess({"ATOLL_NAME_SERVERS": NAME_SERVER})
    try:
        internet.run_within(server.start)
        yield server
        internet.run_within(server.end_sandboxes)
        internet.run_within(server.stop)
        left = find_leftovers([server.directory.name])
        assert not left, sorted(left)
    finally:
        server.kill()
        server.remove()


@pytest.fixture
def client(networked: ServerProcess) -> Iterator[Atoll]:
    with Atoll(api_url=f"unix://{networked.socket}", api_key=networked.api_key) as client:
        yield client


def test_sandbox_reaches_what_its_policy_names(client: Atoll, runtime: str) -> None:
    with client.sandboxes.create("host", runtime=runtime, network={"allow": ["a.test"]}) as sandbox:
        allowed = sandbox.exec(FETCH.format("http://a.test/"))
        denied = sandbox.exec(FETCH.format("http://other.test/"))
        metadata = sandbox.exec(FETCH.format(f"http://{METADATA}/"))

        assert allowed.stdout == f"a.test at {SHARED}:80\n"
        assert denied.exit_code != 0
        assert "403" in metadata.stderr
        assert sandbox.info.network == Network(Egress(allow=["a.test:80,443"]))
        report = sandbox.network.report()
        assert {(each.destination, each.reason) for each in report.denials} == {
            ("other.test", "not_listed"),
            (METADATA, "protected_address"),
        }


def test_updated_policy_holds_at_once(client: Atoll, runtime: str) -> None:
    with client.sandboxes.create("host", runtime=runtime, network="deny") as sandbox:
        assert sandbox.exec(FETCH.format("http://other.test/")).exit_code != 0

        held = sandbox.network.update({"allow": ["other.test"]})

        assert held.egress.allow == ["other.test:80,443"]
        fetched = sandbox.exec(FETCH.format("http://other.test/"))
        assert fetched.stdout == f"other.test at {OTHER}:80\n"
        sandbox.refresh()
        assert sandbox.info.network == held


def test_sandbox_without_a_policy_has_no_network_and_gets_none(client: Atoll, runtime: str) -> None:
    with client.sandboxes.create("host", runtime=runtime) as sandbox:
        names = "python3 -c 'import socket; print(*(name for _, name in socket.if_nameindex()))'"
        assert sandbox.exec(names).stdout == "lo\n"
        with pytest.raises(InvalidConfig, match="created without a network"):
            sandbox.network.update("allow")


def test_policy_that_is_not_understood_makes_no_sandbox(client: Atoll) -> None:
    with pytest.raises(InvalidConfig, match="is not an address or a network"):
        client.sandboxes.create("host", network={"allow": ["10.0.0.1/8"]})


@pytest.mark.isolated
def test_policy_outlives_server_and_proxy(
    networked: ServerProcess, internet: Internet, runtime: str
) -> None:
    """Both are killed; the server that comes back starts a proxy that keeps the same policy."""
    with Atoll(api_url=f"unix://{networked.socket}", api_key=networked.api_key) as client:
        sandbox = client.sandboxes.create("host", runtime=runtime, network={"allow": ["a.test"]})
        pid_file = next(networked.run_dir.glob("*/network/proxy.pid"))
        networked.kill()
        _kill(int(pid_file.read_text()))
        internet.run_within(networked.start)

    with Atoll(api_url=f"unix://{networked.socket}", api_key=networked.api_key) as client:
        found = client.sandboxes.get(sandbox.id)
        assert found.exec(FETCH.format("http://a.test/")).stdout == f"a.test at {SHARED}:80\n"
        assert found.exec(FETCH.format("http://other.test/")).exit_code != 0
        found.terminate()


def _kill(pid: int) -> None:
    process = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(process, signal.SIGKILL)
        select.select([process], [], [], 10)
    finally:
        os.close(process)
