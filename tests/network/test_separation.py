# SPDX-License-Identifier: Apache-2.0
"""Sandboxes do not meet, the proxy can do nothing but connect, and without it nothing leaves."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pytest

from atoll_server.network.control import ProxyControl, ProxyUnavailable
from atoll_server.network.egress import Egress, EgressSettings, NetworkFailed
from atoll_server.network.link import GATEWAY_ADDRESS, SANDBOX_ADDRESS
from atoll_server.network.namespace import NamespaceDirectory, entered
from atoll_server.network.written import parse_policy
from tests.network.conftest import PROXY_USER, Attach
from tests.support.internet import ECHO_PORT, NAME_SERVER, OTHER, SHARED, Internet, run_on_thread
from tests.support.waiting import wait_until


def proxy_of(directory: Path) -> int:
    """The pid of the proxy whose files are there."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"atoll_server.network.proxy" in command and str(directory).encode() in command:
                return int(entry.name)
    raise AssertionError("no proxy runs")


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_proxy_has_given_up_everything(egress: Egress, directory: Path) -> None:
    pid = proxy_of(directory)
    status = status_of(pid)

    assert status["Uid"].split() == [str(PROXY_USER)] * 4
    assert status["Gid"].split() == [str(PROXY_USER)] * 4
    assert status["Groups"] == ""
    assert {int(status[each], 16) for each in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"
    assert os.readlink(f"/proc/{pid}/root") == str(directory / "root")
    assert list((directory / "root").iterdir()) == []


def test_edge_has_no_way_on(attach: Attach, directory: Path) -> None:
    """What is in there: loopback, the link, and the proxy's sockets."""
    sandbox_id, _ = attach("allow")
    edge = NamespaceDirectory(directory / "namespaces").paths(sandbox_id).edge

    def look() -> dict[str, str]:
        with entered(edge):
            names = [name for _, name in socket.if_nameindex()]
            return {name: _forwards(name) for name in names}

    assert run_on_thread(look) == {"edge0": "0", "lo": "0"}


def _forwards(interface: str) -> str:
    return Path(f"/proc/sys/net/ipv4/conf/{interface}/forwarding").read_text().strip()


def test_sandboxes_do_not_reach_each_other(attach: Attach) -> None:
    _, one = attach("allow")
    _, other = attach("allow")
    listener = other.run(lambda: socket.create_server((SANDBOX_ADDRESS, 8080)))

    with listener, pytest.raises(ConnectionError):
        one.exchange(SANDBOX_ADDRESS, 8080, b"hello")


def test_loopback_is_nobody_elses_business(attach: Attach) -> None:
    _, inside = attach("deny")
    with inside.run(lambda: socket.create_server(("127.0.0.1", 80))) as listener:
        with inside.connect("127.0.0.1", 80) as connection:
            accepted, _ = listener.accept()
            with accepted:
                accepted.sendall(b"hello")
                assert connection.recv(5) == b"hello"


def test_packet_with_a_forged_source_gets_no_answer(attach: Attach, internet: Internet) -> None:
    """A sandbox may not send raw packets; this is for one that has broken out of its runtime."""
    _, inside = attach("allow")
    # The neighbour tables know each other after this.
    assert inside.exchange(SHARED, ECHO_PORT, b"hello") == b"hello"

    def forge() -> bytes | None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            raw.sendto(_forged_question("100.64.0.77"), (GATEWAY_ADDRESS, 0))
        return None

    inside.run(forge)
    assert inside.run(_ask_as_libraries_do)
    assert internet.questions == ["a.test A"]


FRAMES = {
    "ARP for a neighbour": (
        b"\x08\x06",
        b"\x00\x01\x08\x00\x06\x04\x00\x01"
        b"\x02\0\0\0\0\x99"
        b"\x0a\0\0\x01" + bytes(6) + b"\x0a\0\0\x02",
    ),
    "neighbour discovery": (
        b"\x86\xdd",
        b"\x60\0\0\0\0\x18\x3a\xff" + bytes(32) + b"\x87\0" + bytes(22),
    ),
    "DHCP": (
        b"\x08\x00",
        b"\x45\0\x01\x48\0\0\0\0\x40\x11\x39\xa6"
        + bytes(4)
        + b"\xff" * 4
        + b"\0\x44\0\x43\x01\x34\0\0",
    ),
    "a kind that nobody knows": (b"\x88\xb5", b""),
}
MARK = b"a frame that must not come out"


@pytest.mark.parametrize("what", FRAMES)
def test_frame_with_a_forged_sender_comes_out_nowhere(
    attach: Attach, internet: Internet, what: str
) -> None:
    """For a sandbox that has broken out of its runtime: inside it may not open such a socket."""
    _, inside = attach("allow")
    _, other = attach("allow")
    kind, payload = FRAMES[what]
    everywhere = b"\xff" * 6

    def listen() -> socket.socket:
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))

    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind(("eth0", 0))
            raw.send(everywhere + b"\x02\0\0\0\0\x99" + kind + payload + MARK)

    with listen() as host, other.run(listen) as neighbour, internet.run_within(listen) as world:
        inside.run(send)
        # What was sent before these has arrived wherever it was to.
        assert other.http("a.test").status == 200
        assert inside.http("a.test").status == 200

        assert not any(
            MARK in frame for heard in (host, neighbour, world) for frame in drain(heard)
        )


OWN = {
    "another address": (
        "ip address add 100.64.0.77/24 dev eth0",
        "ip route replace default via 100.64.0.1 src 100.64.0.77",
    ),
    "the gateway's own address": (
        "ip address add 100.64.0.1/32 dev lo",
        "ip route replace default dev eth0",
    ),
    "another hardware address": (
        "ip link set eth0 down",
        "ip link set eth0 address 02:00:00:00:00:99 up",
        "ip route replace default via 100.64.0.1",
    ),
    "promiscuous, and with a bridge": (
        "ip link add bridge0 type bridge",
        "ip link add tail0 type veth peer name tail1",
        "ip link set tail0 master bridge0 up",
        "ip link set bridge0 up promisc on",
        "ip link set eth0 promisc on",
    ),
    "IPv6": (
        "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0",
        "ip -6 address add fd00::2/64 dev eth0 nodad",
        "ip -6 route replace default dev eth0",
    ),
    "a neighbour that it made up": (
        "ip neighbour replace 100.64.0.1 lladdr ff:ff:ff:ff:ff:ff dev eth0",
    ),
}


@pytest.mark.parametrize("what", OWN)
def test_owner_of_its_namespace_gets_nowhere_else(
    attach: Attach, internet: Internet, what: str
) -> None:
    """For a sandbox that has got hold of CAP_NET_ADMIN over what is its own."""
    _, inside = attach({"allow": ["a.test"]})
    _, other = attach({"allow": ["a.test"]})
    listener = other.run(lambda: socket.create_server((SANDBOX_ADDRESS, 8080)))

    inside.run(lambda: _run_all(OWN[what]))

    with listener:
        listener.setblocking(False)
        for family, address in (
            (socket.AF_INET, (SANDBOX_ADDRESS, 8080)),
            (socket.AF_INET, (OTHER, 80)),
            (socket.AF_INET, ("169.254.169.254", 80)),
            (socket.AF_INET6, ("fd00::1", 15_001)),
        ):
            inside.run(partial(_try, family, address))
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert internet.requests == []
    assert other.https("a.test").status == 200


def test_sandbox_that_takes_its_link_away_harms_itself_alone(
    attach: Attach, egress: Egress
) -> None:
    sandbox_id, inside = attach("allow")
    _, other = attach("allow")

    inside.run(lambda: _run_all(["ip link delete eth0"]))

    with pytest.raises(OSError, match="unreachable"):
        inside.connect(SHARED, ECHO_PORT)
    egress.update(sandbox_id, parse_policy({"allow": ["a.test"]}))
    assert egress.report(sandbox_id).statistics.open_connections == 0
    assert other.exchange(SHARED, ECHO_PORT, b"hello") == b"hello"
    egress.detach(sandbox_id)
    assert sandbox_id not in egress.list()


def _run_all(commands: Iterable[str]) -> None:
    for command in commands:
        subprocess.run(command.split(), check=True, timeout=20)


def _try(family: int, address: tuple[str, int]) -> None:
    """Say something to whoever answers there, if anybody does."""
    with socket.socket(family) as tried, contextlib.suppress(OSError):
        tried.settimeout(1)
        tried.connect(address)
        tried.sendall(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        tried.recv(1)


def drain(heard: socket.socket) -> list[bytes]:
    """All that has come so far."""
    heard.setblocking(False)
    frames: list[bytes] = []
    try:
        while True:
            frames.append(heard.recv(1 << 16))
    except BlockingIOError:
        return frames


def test_killed_proxy_lets_nothing_out(attach: Attach, directory: Path) -> None:
    _, inside = attach("allow")
    with inside.connect(SHARED, ECHO_PORT) as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"

        os.kill(proxy_of(directory), signal.SIGKILL)

        with pytest.raises((ConnectionError, AssertionError)):
            assert connection.recv(1)

    def refused() -> bool:
        try:
            inside.connect(SHARED, ECHO_PORT).close()
        except ConnectionRefusedError:
            return True
        return False

    assert wait_until(refused, what="refusal")
    with pytest.raises(ConnectionRefusedError):
        inside.run(_ask_as_libraries_do)


def test_proxy_that_was_killed_is_followed_by_one_that_serves_the_same(
    attach: Attach, directory: Path, egress: Egress, internet: Internet
) -> None:
    policy = {"allow": ["a.test"]}
    sandbox_id, inside = attach(policy)
    killed = proxy_of(directory)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: status_of(killed)["State"].startswith("Z"), what="its end")

    internet.run_within(lambda: egress.keep({sandbox_id: parse_policy(policy)}))

    assert inside.https("a.test").status == 200
    assert inside.resolve("other.test") == []


def test_proxy_that_does_not_answer_is_replaced_by_another_server(
    attach: Attach, directory: Path, egress_settings: EgressSettings, internet: Internet
) -> None:
    sandbox_id, inside = attach("deny")
    stuck = proxy_of(directory)
    os.kill(stuck, signal.SIGSTOP)
    another = Egress(directory, egress_settings, call_timeout=0.5)

    internet.run_within(lambda: another.keep({sandbox_id: parse_policy("allow")}))

    assert status_of(stuck)["State"].startswith("Z")
    assert inside.https("a.test").status == 200
    another.stop()


def test_server_that_comes_back_finds_what_was_open(
    attach: Attach, directory: Path, egress: Egress, egress_settings: EgressSettings
) -> None:
    sandbox_id, inside = attach("allow")
    forgotten, _ = attach("allow")
    with inside.connect(SHARED, ECHO_PORT) as connection:
        Egress(directory, egress_settings).keep(
            {sandbox_id: parse_policy("allow")}, only_these=True
        )

        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
    with pytest.raises(NetworkFailed):
        egress.report(forgotten)


def test_changed_policy_cuts_what_it_denies_and_nothing_else(
    attach: Attach, egress: Egress
) -> None:
    sandbox_id, inside = attach({"allow": [SHARED, OTHER]})
    with inside.connect(SHARED, ECHO_PORT) as cut, inside.connect(OTHER, ECHO_PORT) as kept:
        for connection in (cut, kept):
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"

        egress.update(sandbox_id, parse_policy({"allow": [OTHER]}))

        with pytest.raises(ConnectionResetError):
            cut.recv(1)
        kept.sendall(b"y")
        assert kept.recv(1) == b"y"


def test_changed_policy_opens_at_once(attach: Attach, egress: Egress) -> None:
    sandbox_id, inside = attach("deny")
    assert inside.resolve("a.test") == []

    egress.update(sandbox_id, parse_policy({"allow": ["a.test"]}))

    assert inside.https("a.test").status == 200


def test_detached_sandbox_leaves_nothing(attach: Attach, egress: Egress, directory: Path) -> None:
    sandbox_id, inside = attach("allow")
    with inside.connect(SHARED, ECHO_PORT) as connection:
        egress.detach(sandbox_id)
        egress.detach(sandbox_id)

        with pytest.raises((ConnectionError, AssertionError)):
            assert connection.recv(1)
    assert egress.list() == frozenset()
    assert sandbox_id not in Path("/proc/self/mountinfo").read_text()


class TestLimits:
    """With little room for one sandbox."""

    @pytest.fixture
    def egress_settings(self) -> EgressSettings:
        return EgressSettings(PROXY_USER, ((NAME_SERVER, 53),), connections=8)

    def test_connections_of_one_sandbox_are_limited_and_others_go_on(self, attach: Attach) -> None:
        _, greedy = attach("allow")
        _, modest = attach("allow")
        held = [greedy.connect(SHARED, ECHO_PORT) for _ in range(8)]
        try:
            for connection in held:
                connection.sendall(b"x")
                assert connection.recv(1) == b"x"

            with pytest.raises(ConnectionResetError):
                greedy.exchange(SHARED, ECHO_PORT, b"hello")
            assert modest.exchange(SHARED, ECHO_PORT, b"hello") == b"hello"
        finally:
            for connection in held:
                connection.close()


def test_order_that_is_not_understood_is_refused(egress: Egress, directory: Path) -> None:
    control = ProxyControl(directory / "control.sock")

    with pytest.raises(ProxyUnavailable, match="is not served"):
        control.update("nobody", parse_policy("allow"))
    with pytest.raises(ProxyUnavailable, match="0 sockets"):
        control.open("nobody", parse_policy("allow"), ())
    assert control.list() == frozenset()


def _ask_as_libraries_do() -> bytes:
    """Over a connected socket, which hears of refusals."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(10)
        datagrams.connect((GATEWAY_ADDRESS, 53))
        datagrams.send(_question())
        return datagrams.recv(512)


def _question() -> bytes:
    name = b"\x01a\x04test\x00"
    return b"\x12\x34\x01\x00\x00\x01" + bytes(6) + name + b"\x00\x01\x00\x01"


def _forged_question(source: str) -> bytes:
    """A whole IP packet with a DNS question for `a.test`. The kernel puts the checksum of its head in."""
    payload = _question()
    datagram = struct.pack(">HHHH", 40_000, 53, 8 + len(payload), 0) + payload
    head = struct.pack(
        ">BBHHHBBH4s4s",
        *(0x45, 0, 20 + len(datagram), 1, 0, 64, socket.IPPROTO_UDP, 0),
        *(socket.inet_aton(source), socket.inet_aton(GATEWAY_ADDRESS)),
    )
    return head + datagram
