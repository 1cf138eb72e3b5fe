# SPDX-License-Identifier: Apache-2.0
"""What no policy opens stays closed, however it is written, named or led to."""

from __future__ import annotations

import socket
from collections.abc import Callable
from itertools import chain, repeat

import dns.rcode
import pytest

from atoll_server.network.egress import Egress, EgressSettings
from atoll_server.network.link import GATEWAY_ADDRESS, PROXY_PORT
from tests.network.conftest import PROXY_USER, Attach
from tests.support.inside import Inside, seconds_of, told_errors
from tests.support.internet import (
    ECHO_PORT,
    HOST_OWN,
    METADATA,
    NAME_SERVER,
    OTHER,
    PRIVATE,
    SHARED,
    Internet,
)

OPENED = f"{PRIVATE}:{ECHO_PORT}"


@pytest.fixture
def egress_settings() -> EgressSettings:
    """The operator has opened one private address at one port."""
    servers = ((NAME_SERVER, 53),)
    return EgressSettings(PROXY_USER, servers, own_addresses=(HOST_OWN,), opened=(OPENED,))


@pytest.fixture
def inside(attach: Attach) -> Inside:
    """With everything that a policy can open."""
    opened = ["0.0.0.0/0", "[::]/0", METADATA, f"[::ffff:{METADATA}]", PRIVATE, HOST_OWN]
    return attach({"default": "allow", "allow": opened})[1]


def answering(*records: str) -> Callable[[], list[str]]:
    """Each question gets the next record; the last stays."""
    coming = chain(records, repeat(records[-1]))
    return lambda: [next(coming)]


@pytest.mark.parametrize("address", [METADATA, PRIVATE, HOST_OWN, "127.0.0.2", "192.168.1.1"])
def test_protected_address_is_refused_with_a_reason_over_http(
    inside: Inside, internet: Internet, address: str
) -> None:
    if address == "127.0.0.2":
        # That is the sandbox's own loopback, where nothing listens.
        with pytest.raises(ConnectionRefusedError):
            inside.connect(address, 80)
        return
    response = inside.http(address, address=address)

    assert response.status == 403
    assert f"{address} is" in response.body
    assert internet.requests == []


@pytest.mark.parametrize(
    "address",
    [
        *(METADATA, PRIVATE, HOST_OWN, "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.65.0.1"),
        *(GATEWAY_ADDRESS, "198.18.0.1", "2852039166", "0xa9fea9fe", "169.254.43518"),
        *("0251.0376.0251.0376", "0xa9.0xfe.0xa9.0xfe", "0.0.0.0", "0"),
    ],
)
@pytest.mark.parametrize("port", [22, 443, PROXY_PORT])
def test_protected_address_is_reset_at_other_ports(inside: Inside, address: str, port: int) -> None:
    with pytest.raises(ConnectionError):
        inside.exchange(address, port, b"hello")


@pytest.mark.parametrize("address", ["224.0.0.1", "255.255.255.255", "240.0.0.1"])
def test_address_that_nobody_can_have_is_out_of_reach(inside: Inside, address: str) -> None:
    with pytest.raises(OSError, match=r"unreachable|refused|No route|reset|denied"):
        inside.exchange(address, 443, b"hello")


@pytest.mark.parametrize("address", ["2606:2800::1", "fd00:ec2::254", "fe80::1", "ff02::1"])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_there_is_no_ipv6(inside: Inside, address: str, kind: socket.SocketKind) -> None:
    def connect() -> None:
        with socket.socket(socket.AF_INET6, kind) as connection:
            connection.connect((address, 443))

    with pytest.raises(OSError, match=r"unreachable|Cannot assign|not supported|Invalid argument"):
        inside.run(connect)


def test_mapped_metadata_address_is_refused(inside: Inside) -> None:
    def connect() -> None:
        with socket.socket(socket.AF_INET6) as connection:
            connection.settimeout(10)
            connection.connect((f"::ffff:{METADATA}", 443))
            connection.sendall(b"hello")
            connection.recv(1)

    with pytest.raises(OSError, match=r"reset|unreachable|not supported"):
        inside.run(connect)


def test_operator_opens_one_address_at_one_port(inside: Inside) -> None:
    assert inside.exchange(PRIVATE, ECHO_PORT, b"hello") == b"hello"
    with pytest.raises(ConnectionError):
        inside.exchange(METADATA, ECHO_PORT, b"hello")


def test_what_the_operator_opens_still_wants_a_policy_that_allows_it(attach: Attach) -> None:
    _, inside = attach("deny")

    with pytest.raises(ConnectionError):
        inside.exchange(PRIVATE, ECHO_PORT, b"hello")


@pytest.mark.parametrize("address", [METADATA, "127.0.0.1", "0.0.0.0", HOST_OWN])
def test_name_that_leads_to_a_protected_address_is_refused(
    inside: Inside, internet: Internet, egress: Egress, address: str
) -> None:
    internet.names["rebinding.test"] = answering(f"0 IN A {address}")

    answer = inside.ask("rebinding.test")

    assert answer.rcode() == dns.rcode.REFUSED
    assert "leads to a protected address" in told_errors(answer)


def test_name_that_leads_elsewhere_later_changes_nothing(
    attach: Attach, internet: Internet
) -> None:
    _, inside = attach({"allow": ["rebinding.test"]})
    internet.names["rebinding.test"] = answering(f"0 IN A {SHARED}", f"0 IN A {METADATA}")

    assert inside.resolve("rebinding.test") == [SHARED]
    assert inside.resolve("rebinding.test") == []
    assert inside.http("rebinding.test", address=SHARED).body == f"rebinding.test at {SHARED}:80"
    assert inside.http("rebinding.test", address=METADATA).status == 403
    assert [line for line in internet.requests if METADATA in line] == []


@pytest.mark.parametrize("target", ["evil.test", "db.internal", "localhost"])
def test_alias_to_a_denied_or_private_name_is_refused(
    attach: Attach, internet: Internet, target: str
) -> None:
    _, inside = attach({"allow": ["rebinding.test"], "deny": ["evil.test"]})
    internet.names["rebinding.test"] = lambda: [
        f"60 IN CNAME {target}.",
        f"{target} 60 IN A {OTHER}",
    ]

    answer = inside.ask("rebinding.test")

    assert (answer.rcode(), answer.answer) == (dns.rcode.REFUSED, [])
    assert target in told_errors(answer)


def test_alias_to_another_name_is_followed(attach: Attach, internet: Internet) -> None:
    _, inside = attach({"allow": ["rebinding.test"]})
    internet.names["rebinding.test"] = lambda: [
        "60 IN CNAME cdn.example.",
        f"cdn.example 60 IN A {OTHER}",
    ]

    assert inside.https("rebinding.test").body == f"rebinding.test at {OTHER}:443"


def test_unlisted_names_carry_nothing_out(attach: Attach, internet: Internet) -> None:
    _, inside = attach({"allow": ["a.test"]})

    codes = {inside.ask(f"secret{n}.evil.test").rcode() for n in range(1000)}

    assert codes == {dns.rcode.NXDOMAIN}
    assert internet.questions == []


@pytest.mark.parametrize("kind", ["TXT", "NULL", "ANY", "MX", "SRV", "AAAA", "HTTPS"])
def test_only_addresses_are_asked_of_a_listed_zone(
    attach: Attach, internet: Internet, kind: str
) -> None:
    _, inside = attach({"allow": ["*.w.test"]})

    answer = inside.ask("secret.w.test", kind)

    assert answer.answer == []
    assert internet.questions == []


def test_questions_over_tcp_are_judged_alike(attach: Attach, internet: Internet) -> None:
    _, inside = attach({"allow": ["a.test"]})

    assert inside.ask("evil.test", over_tcp=True).rcode() == dns.rcode.NXDOMAIN
    assert len(inside.ask("a.test", over_tcp=True).answer) == 1
    assert internet.questions == ["a.test A"]


def test_other_name_servers_are_out_of_reach(attach: Attach, internet: Internet) -> None:
    _, inside = attach({"allow": ["a.test"]})

    def ask() -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.settimeout(10)
            datagrams.connect((NAME_SERVER, 53))
            datagrams.send(bytes(12))
            return datagrams.recv(1)

    with pytest.raises(ConnectionRefusedError):
        inside.run(ask)
    for port in (53, 853, 443):
        with pytest.raises(ConnectionError):
            inside.exchange(NAME_SERVER, port, b"hello")
    assert internet.questions == []


def test_no_network_refuses_everything_at_once(attach: Attach, internet: Internet) -> None:
    _, inside = attach("none")

    def be_refused() -> None:
        with pytest.raises(ConnectionError):
            inside.exchange(SHARED, 443, b"hello")
        assert inside.ask("a.test").rcode() == dns.rcode.NXDOMAIN
        assert inside.http("a.test", address=SHARED).status == 403

    assert seconds_of(be_refused) < 5
    assert internet.questions == []


def test_questions_are_limited(attach: Attach, internet: Internet) -> None:
    _, inside = attach({"allow": ["*.w.test"]})

    codes = {inside.ask(f"n{n}.w.test").rcode() for n in range(400)}

    assert dns.rcode.REFUSED in codes
    assert len(internet.questions) < 400
