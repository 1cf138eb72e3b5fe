# SPDX-License-Identifier: Apache-2.0
"""Addresses that stay closed, and what an operator opens of them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.network.addresses import Guard, parse_address, parse_opening

GUARD = Guard(own=frozenset({ip_address("93.184.216.1"), ip_address("2606:2800::1")}))


@pytest.mark.parametrize(
    "address",
    [
        *("169.254.169.254", "169.254.0.1", "168.63.129.16", "0.0.0.0", "0.1.2.3"),
        *("127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255"),
        *("192.168.1.1", "100.64.0.1", "100.127.255.255", "224.0.0.251", "239.1.2.3"),
        *("255.255.255.255", "240.0.0.1", "192.0.0.170", "198.18.0.1", "93.184.216.1"),
        *("::", "::1", "fe80::1", "fd00:ec2::254", "fc00::1", "ff02::1", "2606:2800::1"),
        *("::ffff:169.254.169.254", "::ffff:93.184.216.34", "::127.0.0.1"),
        *("64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:a9fe:a9fe::1", "2001:0:4136:e378::1"),
        *("2001:db8::1", "fec0::1", "100::1", "3fff::1", "5f00::1"),
    ],
)
def test_protected_address_is_refused_at_every_port(address: str) -> None:
    refusal = GUARD.refusal(ip_address(address), 443)

    assert refusal is not None
    assert "no policy opens it" in refusal
    assert GUARD.refusal(ip_address(address)) is not None


@pytest.mark.parametrize(
    "address",
    ["93.184.216.34", "1.1.1.1", "172.15.255.255", "172.32.0.1", "100.63.1.1", "2606:2800::2"],
)
def test_public_address_is_left_to_the_policy(address: str) -> None:
    assert GUARD.refusal(ip_address(address), 443) is None


@given(st.ip_addresses(v=4))
def test_what_python_calls_private_or_worse_is_refused(address: IPv4Address) -> None:
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert Guard().refusal(address) is not None


@given(st.ip_addresses(v=4))
def test_forms_of_an_ipv4_address_in_ipv6_are_refused(address: IPv4Address) -> None:
    number = int(address)
    for form in (
        (0xFFFF << 32) | number,
        (0x64FF9B << 96) | number,
        (0x2002 << 112) | number << 80,
    ):
        assert Guard().refusal(IPv6Address(form)) is not None


def test_operator_opens_exactly_what_is_named() -> None:
    guard = Guard(opened=(parse_opening("10.1.2.3:5432"), parse_opening("10.9.0.0/24")))

    assert guard.refusal(ip_address("10.1.2.3"), 5432) is None
    assert guard.refusal(ip_address("10.9.0.7"), 22) is None
    assert guard.refusal(ip_address("10.1.2.3"), 22) is not None
    assert guard.refusal(ip_address("10.1.2.4"), 5432) is not None


def test_name_may_lead_to_an_address_that_is_open_at_one_port() -> None:
    guard = Guard(opened=(parse_opening("10.1.2.3:5432"),))

    assert guard.refusal(ip_address("10.1.2.3")) is None


def test_opening_of_ipv6_has_its_port_behind_brackets() -> None:
    guard = Guard(opened=(parse_opening("[fd00::1]:5432"), parse_opening("fd00::2")))

    assert guard.refusal(ip_address("fd00::1"), 5432) is None
    assert guard.refusal(ip_address("fd00::1"), 5433) is not None
    assert guard.refusal(ip_address("fd00::2"), 5433) is None


@pytest.mark.parametrize("text", ["", "db.internal", "10.1.2.3:0", "10.1.2.3:x", "10.1.2.3/8"])
def test_opening_that_is_not_understood_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse_opening(text)


@pytest.mark.parametrize(
    "text",
    ["0177.0.0.1", "0x7f.0.0.1", "2130706433", "127.1", "fe80::1%eth0", "1.2.3.4 ", "１.1.1.1"],
)
def test_address_in_an_unusual_form_is_none(text: str) -> None:
    with pytest.raises(ValueError):
        parse_address(text)
