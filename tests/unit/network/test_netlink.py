# SPDX-License-Identifier: Apache-2.0
"""Messages as the kernel reads them, and its answers in their exact form alone."""

from __future__ import annotations

import errno
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.network import links
from atoll_server.network.edge_rules import edge_rules
from atoll_server.network.netlink import (
    MAX_ATTRIBUTE,
    ROUTE,
    Message,
    NetlinkFailed,
    attribute,
    nest,
    read_statuses,
    render_message,
    tell,
    text_attribute,
)

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=links.MAX_NAME)


def read_attributes(data: bytes) -> list[tuple[int, bytes]]:
    """What the kernel would find, as netlink(7) has it."""
    found = []
    while data:
        length, kind = struct.unpack_from("=HH", data)
        assert 4 <= length <= len(data)
        found.append((kind & 0x7FFF, data[4:length]))
        aligned = length + -length % 4
        assert not any(data[length:aligned])
        data = data[aligned:]
    return found


def status(number: int, error: int, kind: int = 2) -> bytes:
    """An acknowledgement, with the head of what it is about."""
    return struct.pack("=IHHIIi16x", 36, kind, 0, number, 0, -error)


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=300)), max_size=8))
def test_attributes_are_read_as_they_were_written(written: list[tuple[int, bytes]]) -> None:
    inner = [attribute(kind, value) for kind, value in written]

    ((kind, value),) = read_attributes(nest(7, *inner))

    assert kind == 7
    assert read_attributes(value) == written


def test_attribute_has_a_longest_value() -> None:
    assert len(attribute(1, bytes(MAX_ATTRIBUTE))) == MAX_ATTRIBUTE + 4 + 1
    with pytest.raises(ValueError, match="65532 bytes; 65531"):
        attribute(1, bytes(MAX_ATTRIBUTE + 1))


def test_text_ends_with_a_zero_byte() -> None:
    assert text_attribute(3, "eth0") == b"\x09\x00\x03\x00eth0\0\0\0\0"


@given(st.integers(0, 0xFFFF), st.binary(max_size=99), st.integers(0, 0xFFFFFFFF))
def test_message_says_its_length_and_number(kind: int, body: bytes, number: int) -> None:
    rendered = render_message(Message("try", kind, body), number)

    assert struct.unpack_from("=IHHII", rendered) == (16 + len(body), kind, 5, number, 0)
    assert rendered[16 : 16 + len(body)] == body
    assert len(rendered) % 4 == 0


@given(NAMES, NAMES, st.integers(0, 2**31 - 1), st.integers(68, 65_535))
def test_pair_names_both_ends_and_the_other_namespace(
    name: str, peer: str, fd: int, mtu: int
) -> None:
    message = links.add_veth(name, peer, fd, mtu)

    one = struct.pack("=I", 1)
    both = [(4, struct.pack("=I", mtu)), (31, one), (32, one)]
    found = dict(read_attributes(message.body[16:]))
    assert found[3] == name.encode() + b"\0"
    assert set(both) <= set(found.items())
    info = dict(read_attributes(found[18]))
    assert info[1] == b"veth\0"
    ((kind, end),) = read_attributes(info[2])
    assert kind == 1
    other = (28, struct.pack("=I", fd))
    assert read_attributes(end[16:]) == [(3, peer.encode() + b"\0"), *both, other]


def test_address_and_routes_as_rtnetlink_has_them() -> None:
    assert links.add_address(2, "100.64.0.2", 30).body.hex() == (
        "021e000002000000" + "0800020064400002" + "0800010064400002"
    )
    assert (
        links.route_all("100.64.0.1").body.hex() == "02000000fe03000100000000" + "0800050064400001"
    )
    assert links.own_all().body.hex() == "02000000fe03fe0200000000" + "0800040001000000"
    assert links.set_up(2).body.hex() == "00000000020000000100000001000000"


def test_confining_an_interface_as_rtnetlink_has_it() -> None:
    head = "00000000020000000000000000000000"
    assert links.forbid_forwarding(2).body.hex() == (
        head + "14001a80" + "10000280" + "0c000180" + "0800010000000000"
    )
    assert links.forbid_ipv6_address(2).body.hex() == (
        head + "10001a80" + "0c000a80" + "0500080001000000"
    )


def test_rules_are_one_batch() -> None:
    begin, *rules, end = edge_rules()

    assert (begin.kind, end.kind) == (16, 17)
    assert [rule.kind for rule in rules] == [0xA00, 0xA03, *[0xA06] * 10]
    assert edge_rules() == edge_rules()


def test_acknowledgements_are_read_from_between_the_news() -> None:
    answer = status(1, 0) + status(0, 7, kind=0x400) + status(2, errno.EPERM)

    assert list(read_statuses(answer)) == [(1, 0), (2, errno.EPERM)]


@pytest.mark.parametrize(
    "answer",
    [
        status(1, 0)[:19],
        status(1, 0)[:-1],
        status(1, 0) + b"\0",
        status(1, 0, kind=3),
        struct.pack("=IHHI", 16, 2, 0, 1),
        struct.pack("=IHHIIi", 0, 2, 0, 1, 0, 0),
        struct.pack("=IHHIIi", 0xFFFFFFFF, 2, 0, 1, 0, 0),
    ],
)
def test_answer_in_any_other_form_is_an_error(answer: bytes) -> None:
    with pytest.raises(NetlinkFailed):
        list(read_statuses(answer))


@given(st.binary(max_size=200))
def test_no_bytes_are_read_without_end_or_past_it(answer: bytes) -> None:
    try:
        assert len(list(read_statuses(answer))) <= len(answer) // 20
    except NetlinkFailed:
        assert answer


def test_refusal_says_what_was_refused() -> None:
    """There is no interface of this number, whoever asks."""
    absent = max(index for index, _ in socket.if_nameindex()) + 1_000_000

    with pytest.raises(NetlinkFailed, match=f"refused to set interface {absent} up") as caught:
        tell(ROUTE, [links.set_up(absent)])
    assert caught.value.errno in (errno.ENODEV, errno.EPERM)
