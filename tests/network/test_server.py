# SPDX-License-Identifier: Apache-2.0
"""Policies from the SDK to the sandbox, over the real server, in the test's internet."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import Queue

import pytest

from atoll import AsyncAtoll, Atoll, Event, InvalidConfig, Network, RuntimeUnavailable
from atoll.models import Egress, EgressDefault
from atoll_server.network.control import ProxyControl
from atoll_server.network.link import GATEWAY_ADDRESS, SANDBOX_ADDRESS
from tests.support.internet import (
    HOST_OWN,
    METADATA,
    NAME_SERVER,
    OTHER,
    PRIVATE,
    SHARED,
    Internet,
)
from tests.support.networked import serving_within
from tests.support.server import ServerProcess
from tests.support.waiting import wait_until

FETCH = "python3 -c 'import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=20).read().decode())' {}"
WITHOUT_NETWORKS = ("setpriv", "--bounding-set=-net_admin,-net_raw", "--")
TRY_EVERYTHING = f"""
import socket

def attempt(kind, family, address):
    try:
        with socket.socket(family, kind) as connection:
            connection.settimeout(20)
            connection.connect(address)
            connection.send(b"hello")
            return connection.recv(1)
    except OSError as error:
        return type(error).__name__ if error.errno is None else error.strerror

for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    print(attempt(kind, socket.AF_INET, ("{SHARED}", 80)))
    print(attempt(kind, socket.AF_INET6, ("2606:2800::1", 80)))
try:
    print(socket.getaddrinfo("a.test", 80))
except socket.gaierror as error:
    print(error.strerror)
"""
ECHO_ITSELF = (
    "python3 -c 'import socket, sys; family = socket.getaddrinfo(sys.argv[1], 0)[0][0]; "
    "s = socket.create_server((sys.argv[1], 3000), family=family); "
    "c = socket.create_connection((sys.argv[1], 3000)); "
    's.accept()[0].sendall(b"hello"); print(c.recv(5).decode())\' {}'
)


@pytest.fixture(scope="module")
def networked(internet: Internet) -> Iterator[ServerProcess]:
    """A server that lives in the internet of the test."""
    with serving_within(internet) as server:
        yield server


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


def test_sandbox_without_a_policy_reaches_what_is_not_protected(
    client: Atoll, runtime: str
) -> None:
    with client.sandboxes.create("host", runtime=runtime) as sandbox:
        for name, address in (("a.test", SHARED), ("other.test", OTHER)):
            fetched = sandbox.exec(FETCH.format(f"http://{name}/"))
            assert fetched.stdout == f"{name} at {address}:80\n"
        for protected in (METADATA, PRIVATE, HOST_OWN):
            refused = sandbox.exec(FETCH.format(f"http://{protected}/"))
            assert "403" in refused.stderr
        for local in ("127.0.0.1", "::1", "localhost"):
            assert sandbox.exec(ECHO_ITSELF.format(local)).stdout == "hello\n"
        assert sandbox.info.network == Network(Egress(EgressDefault.ALLOW))
        assert set(sandbox.network.report().denied) == {"protected_address"}


def test_sandbox_with_the_policy_none_has_no_network_and_gets_none(
    client: Atoll, runtime: str
) -> None:
    with client.sandboxes.create("host", runtime=runtime, network="none") as sandbox:
        names = "python3 -c 'import socket; print(*(name for _, name in socket.if_nameindex()))'"
        assert sandbox.exec(names).stdout == "lo\n"
        *attempts, name = sandbox.exec(["python3", "-c", TRY_EVERYTHING]).stdout.splitlines()
        # The kernel of gVisor has the other word for it.
        assert len(attempts) == 4
        assert set(attempts) <= {"Network is unreachable", "No route to host"}
        assert name == "Temporary failure in name resolution"
        with pytest.raises(InvalidConfig, match="created without a network"):
            sandbox.network.update("allow")


def test_policy_that_is_not_understood_makes_no_sandbox(client: Atoll) -> None:
    with pytest.raises(InvalidConfig, match="is not an address or a network"):
        client.sandboxes.create("host", network={"allow": ["10.0.0.1/8"]})


@pytest.mark.isolated
def test_killed_proxy_is_back_by_itself_with_the_same_policy(
    networked: ServerProcess, client: Atoll, runtime: str
) -> None:
    with client.sandboxes.create("host", runtime=runtime, network={"allow": ["a.test"]}) as sandbox:
        pid_file = next(networked.run_dir.glob("*/network/proxy.pid"))
        killed = pid_file.read_text()

        _kill(int(killed))

        # Whatever comes first: nothing leaves, or what may leave does. Nobody creates a sandbox or asks for a sweep.
        fetch = FETCH.format("http://a.test/")
        wait_until(lambda: sandbox.exec(fetch).exit_code == 0, what="another proxy")
        assert pid_file.read_text() != killed
        assert sandbox.exec(FETCH.format("http://other.test/")).exit_code != 0
        assert "403" in sandbox.exec(FETCH.format(f"http://{METADATA}/")).stderr
        assert "networks are served again" in networked.read_log()


@pytest.mark.isolated
def test_proxy_that_is_killed_while_a_sandbox_is_made_is_back_at_once(
    networked: ServerProcess, client: Atoll, runtime: str
) -> None:
    """Killed as soon as it serves the sandbox, which nobody knows by then; nobody else wants a network."""
    with client.sandboxes.create("host", runtime=runtime, network="deny"):
        """So that there is a proxy."""
    network = next(networked.run_dir.glob("*/network"))
    control = ProxyControl(network / "control.sock")
    with ThreadPoolExecutor(1) as pool:
        creating = pool.submit(
            client.sandboxes.create, "host", runtime=runtime, network={"allow": ["a.test"]}
        )
        wait_until(control.list, what="a sandbox that is served")
        _kill(int((network / "proxy.pid").read_text()))
        sandbox = creating.result()

    with sandbox:
        fetch = FETCH.format("http://a.test/")
        wait_until(lambda: sandbox.exec(fetch).exit_code == 0, what="another proxy")
        assert sandbox.exec(FETCH.format("http://other.test/")).exit_code != 0


def test_refusals_and_connections_are_events(client: Atoll, runtime: str) -> None:
    with client.sandboxes.create("host", runtime=runtime, network={"allow": ["a.test"]}) as sandbox:
        told: Queue[Event] = Queue()
        with sandbox.on(["network.denied", "network.egress"], told.put):
            sandbox.exec(FETCH.format("http://a.test/"))
            sandbox.exec(FETCH.format(f"http://{METADATA}/"))
            seen = {event.type: event.data for event in (told.get(timeout=30) for _ in range(2))}

    egress, denied = seen["network.egress"], seen["network.denied"]
    assert (egress["host"], egress["port"], egress["connections"]) == ("a.test", 80, 1)
    assert egress["bytes_sent"] > 0
    assert egress["bytes_received"] > 0
    assert (denied["host"], denied["port"], denied["count"]) == (METADATA, 80, 1)
    assert denied["reason"] == "protected_address"
    assert METADATA in denied["text"]


DATAGRAMS = f"""
import socket
for address in [("{OTHER}", 8125), ("{NAME_SERVER}", 53)]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.connect(address)
        datagrams.send(b"anything")
"""


def test_datagrams_to_anywhere_are_events(client: Atoll, runtime: str) -> None:
    """Also under a policy that allows everything: they do not pass."""
    with client.sandboxes.create("host", runtime=runtime, network="allow") as sandbox:
        told: Queue[Event] = Queue()
        with sandbox.on("network.denied", told.put):
            assert sandbox.exec(["python3", "-c", DATAGRAMS]).exit_code == 0
            seen = [told.get(timeout=30).data for _ in range(2)]
        report = sandbox.network.report()

    assert [(data["host"], data["port"]) for data in seen] == [(OTHER, 8125), (NAME_SERVER, 53)]
    assert {data["reason"] for data in seen} == {"protocol"}
    assert f"names are asked of {GATEWAY_ADDRESS}" in seen[0]["text"]
    assert report.denied == {"protocol": 2}
    assert [denial.port for denial in report.denials] == [8125, 53]


NOTHING = f"""
import json, socket

def outcome(family, kind, protocol, address, timeout=20):
    try:
        with socket.socket(family, kind, protocol) as connection:
            connection.settimeout(timeout)
            connection.connect(address)
            connection.send(bytes([8, 0, 0xf7, 0xff]) + bytes(4))
            return repr(connection.recv(1))
    except OSError as error:
        return type(error).__name__

V4, V6, TCP, UDP = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM, socket.SOCK_DGRAM
print(json.dumps([
    outcome(V4, TCP, 0, ("{SHARED}", 22)),
    outcome(V4, UDP, 0, ("{SHARED}", 443)),
    outcome(V4, UDP, 0, ("{NAME_SERVER}", 53)),
    outcome(V6, TCP, 0, ("2606:2800::1", 443)),
    outcome(V6, UDP, 0, ("2606:2800::1", 443)),
    outcome(V6, UDP, socket.IPPROTO_ICMPV6, ("2606:2800::1", 0)),
]))
print(outcome(V4, UDP, socket.IPPROTO_ICMP, ("{SHARED}", 0), 1))
try:
    socket.getaddrinfo("a.test", 80)
except socket.gaierror:
    print("no name")
"""


@pytest.mark.parametrize("network", ["none", "deny"])
def test_nothing_that_is_tried_without_leave_waits_for_an_answer(
    client: Atoll, runtime: str, network: str, internet: Internet
) -> None:
    """Each is refused with an error of its own; but for `ping`, none times out."""
    internet.questions.clear()
    with client.sandboxes.create("host", runtime=runtime, network=network) as sandbox:
        tried = sandbox.exec(["python3", "-c", NOTHING])
        refused = sandbox.network.report().denied if network == "deny" else {}

    assert tried.exit_code == 0, tried.stderr
    outcomes, ping, names = tried.stdout.splitlines()
    assert set(json.loads(outcomes)) <= {
        "ConnectionRefusedError",
        "ConnectionResetError",
        "OSError",
        "PermissionError",
    }
    # gVisor has sockets for it, and its kernel does not pass refusals on to them: there is no answer.
    is_silent = runtime == "gvisor" and network == "deny"
    assert ping == "TimeoutError" if is_silent else ping in ("PermissionError", "OSError")
    assert names == "no name"
    assert refused.get("protocol", 0) == {"none": 0, "deny": 2 + is_silent}[network]
    assert internet.questions == []


LISTEN = "import socket; s = socket.create_server(('0.0.0.0', 8080)); print('ready', flush=True); s.accept()"


def test_sandboxes_do_not_meet(client: Atoll, runtime: str) -> None:
    reach = "import socket, sys; socket.create_connection((sys.argv[1], 8080), 20).recv(1)"
    with (
        client.sandboxes.create("host", runtime=runtime, network="allow") as one,
        client.sandboxes.create("host", runtime=runtime, network="allow") as other,
    ):
        one.processes.start(["python3", "-c", LISTEN])
        one.wait_for_port(8080)
        for address in (SANDBOX_ADDRESS, GATEWAY_ADDRESS):
            tried = other.exec(["python3", "-c", reach, address])
            assert "refused" in tried.stderr or "reset" in tried.stderr


async def test_refusals_are_told_to_coroutines(networked: ServerProcess, runtime: str) -> None:
    told: asyncio.Queue[Event] = asyncio.Queue()
    url = f"unix://{networked.socket}"
    async with (
        AsyncAtoll(api_url=url, api_key=networked.api_key) as client,
        await client.sandboxes.create("host", runtime=runtime, network="deny") as sandbox,
        await sandbox.on("network.denied", told.put),
    ):
        await sandbox.exec(FETCH.format("http://other.test/"))
        async with asyncio.timeout(30):
            denied = (await told.get()).data

    assert (denied["host"], denied["port"], denied["reason"]) == ("other.test", 53, "not_listed")


HAMMER = f"""
import socket
for port in range(1000, 1300):
    connection = socket.socket()
    try:
        connection.connect(("{OTHER}", port))
        connection.recv(1)
    except OSError:
        pass
    connection.close()
"""


def test_hammering_makes_few_events_and_every_refusal_is_counted(
    client: Atoll, runtime: str
) -> None:
    with client.sandboxes.create("host", runtime=runtime, network="deny") as sandbox:
        assert sandbox.exec(["python3", "-c", HAMMER]).exit_code == 0
        refused = sum(sandbox.network.report().denied.values())
    told = [event.data for event in sandbox.events("network.denied")]

    assert refused == 300
    assert sum(data["count"] for data in told) == 300
    assert len(told) < 200
    assert None in {data["host"] for data in told}


def test_names_from_inside_are_harmless_in_events(client: Atoll, runtime: str) -> None:
    ask = f"""
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
    asking.connect(("{GATEWAY_ADDRESS}", 53))
    asking.send(bytes.fromhex("1234010000010000000000000a1b5b324a0d0a2e00ff4104746573740000010001"))
    asking.recv(512)
"""
    with client.sandboxes.create("host", runtime=runtime, network={"allow": ["a.test"]}) as sandbox:
        asked = sandbox.exec(["python3", "-c", ask])
        assert asked.exit_code == 0, asked.stderr
    (denied,) = [event.data for event in sandbox.events("network.denied")]

    assert denied["reason"] == "malformed"
    assert denied["text"].isascii()
    assert denied["text"].isprintable()


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


@pytest.mark.isolated
def test_host_that_gives_no_networks_gives_sandboxes_all_the_same(runtime: str) -> None:
    with (
        ServerProcess({"ATOLL_RUNTIME": runtime}, prefix=WITHOUT_NETWORKS) as server,
        Atoll(api_url=f"unix://{server.socket}", api_key=server.api_key) as client,
    ):
        with client.sandboxes.create("host") as sandbox:
            assert sandbox.info.network is None
            assert sandbox.exec(["true"]).exit_code == 0
        with pytest.raises(RuntimeUnavailable, match="atoll doctor"):
            client.sandboxes.create("host", network="allow")
        assert len(list(client.sandboxes.list())) == 1


def _kill(pid: int) -> None:
    process = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(process, signal.SIGKILL)
        select.select([process], [], [], 10)
    finally:
        os.close(process)
