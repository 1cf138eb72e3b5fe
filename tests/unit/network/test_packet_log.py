# SPDX-License-Identifier: Apache-2.0
"""What the kernel logs of an edge, and what is made of packets that anybody may have written."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.network.netlink import Message, NetlinkFailed, attribute, render_message
from atoll_server.network.packet_log import Attempt, follow_log, read_log, read_packet

ADDRESS = IPv4Address("93.184.216.34")
UDP, ICMP, IGMP = 17, 1, 2


def packet(
    protocol: int, carried: bytes, *, version: int = 4, options: bytes = b"", fragment: int = 0
) -> bytes:
    """As RFC 791 has it."""
    first = version << 4 | (20 + len(options)) // 4
    ends = bytes([100, 64, 0, 2]) + ADDRESS.packed
    return (
        struct.pack(">BxHHHBBH", first, 99, 0, fragment, 64, protocol, 0) + ends + options + carried
    )


def ports(destination: int) -> bytes:
    return struct.pack(">HHHH", 40_000, destination, 8, 0)


def logged(*packets: bytes) -> bytes:
    """As the kernel tells of them, each with what comes before and after."""
    return b"".join(
        render_message(
            Message("", 0x400, bytes(4) + attribute(1, bytes(4)) + attribute(9, each)), 0
        )
        for each in packets
    )


@given(st.integers(0, 0xFFFF), st.integers(0, 10).map(lambda words: bytes(4 * words)))
def test_datagram_is_for_an_address_and_a_port(port: int, options: bytes) -> None:
    tried = packet(UDP, ports(port), options=options)

    assert read_packet(tried) == Attempt("UDP", ADDRESS, port)


def test_ping_is_an_attempt_and_what_a_kernel_answers_is_none() -> None:
    assert read_packet(packet(ICMP, bytes([8, 0, 0, 0]))) == Attempt("ping", ADDRESS, 0)
    assert read_packet(packet(ICMP, bytes([3, 3, 0, 0]))) is None
    assert read_packet(packet(IGMP, bytes(8))) is None


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        packet(UDP, b""),
        packet(UDP, b"\0\1\0"),
        packet(UDP, ports(53))[:19],
        packet(UDP, ports(53), version=6),
        packet(UDP, ports(53), fragment=7),
        packet(UDP, ports(53), options=bytes(40))[:61],
    ],
)
def test_packet_without_a_port_is_for_nobody(wrong: bytes) -> None:
    assert read_packet(wrong) is None


@given(st.binary(max_size=80))
def test_no_packet_breaks_the_reading(anything: bytes) -> None:
    read_packet(anything)
    assert len(list(read_log(logged(anything)))) <= 1


@given(st.binary(max_size=80))
def test_no_news_is_read_without_end_or_past_it(anything: bytes) -> None:
    try:
        assert list(read_log(anything)) == []
    except NetlinkFailed:
        assert anything


def test_news_of_several_packets_is_read_one_by_one() -> None:
    news = logged(packet(UDP, ports(53)), packet(IGMP, bytes(8)), packet(UDP, ports(443)))

    assert [attempt.port for attempt in read_log(news)] == [53, 443]


def test_following_is_as_the_kernel_has_it() -> None:
    assert follow_log().kind == 0x401
    assert follow_log().body.hex() == "00000001" + "0500010001000000"
