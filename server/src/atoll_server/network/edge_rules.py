# SPDX-License-Identifier: Apache-2.0
"""What an edge does with packets: the same constant rules for every sandbox, as nftables' netlink messages.

How `nft` shows them stands in `tests/network/test_edges.py`, which compares the two. Without a socket of
the proxy's to turn to, `tproxy` does not match, and the connection is refused.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

from atoll_server.network.link import (
    DNS_PORT,
    GATEWAY_ADDRESS,
    LOG_GROUP,
    PROXY_PORT,
    SANDBOX_ADDRESS,
)
from atoll_server.network.netlink import (
    ACKNOWLEDGE,
    APPEND,
    CREATE,
    REQUEST,
    Message,
    attribute,
    nest,
    text_attribute,
)

TABLE: Final = "edge"
CHAIN: Final = "incoming"
LOGGED_PER_SECOND: Final = 50
"""How many of one sandbox's packets that are refused here are logged, so that it costs the proxy little."""

_SUBSYSTEM = 10
_NEW_TABLE, _NEW_CHAIN, _NEW_RULE = (_SUBSYSTEM << 8 | kind for kind in (0, 3, 6))
_BATCH_BEGIN, _BATCH_END = 16, 17
_BOTH_FAMILIES = 1
_IPV4 = 2
_HEAD = struct.Struct("=BBH")

_INCOMING, _MANGLE = 0, -150
_DROP, _ACCEPT = 0, 1
_VERDICT_REGISTER, _REGISTER = 0, 1
_EQUAL, _UNEQUAL = 0, 1
_INTERFACE_NAME, _FAMILY, _PROTOCOL = 6, 15, 16
_NETWORK_HEAD, _TRANSPORT_HEAD = 1, 2
_SOURCE, _DESTINATION, _DESTINATION_PORT = 12, 16, 2
_BY_ICMP, _BY_RESET = 0, 1
_PORT_UNREACHABLE, _PROHIBITED = 3, 13
_NAME_SIZE = 16
_LOGGED_BYTES = 64
"""The longest head of IPv4, and the ports after it."""

Rule = tuple[bytes, ...]
"""Expressions, of which each goes on to the next where it matches."""


def edge_rules() -> tuple[Message, ...]:
    """All messages, which the kernel takes as one: every rule, or none."""
    make = REQUEST | ACKNOWLEDGE | CREATE
    return (
        Message("begin rules", _BATCH_BEGIN, _head(0, _SUBSYSTEM), REQUEST),
        Message("make the table of an edge", _NEW_TABLE, _head() + text_attribute(1, TABLE), make),
        Message("make the chain of an edge", _NEW_CHAIN, _head() + _chain(), make),
        *(
            Message(
                f"add rule {number} of an edge", _NEW_RULE, _head() + _rule(rule), make | APPEND
            )
            for number, rule in enumerate(_rules(), start=1)
        ),
        Message("end rules", _BATCH_END, _head(0, _SUBSYSTEM), REQUEST),
    )


def _rules() -> tuple[Rule, ...]:
    """In their order; what none of them decides is dropped."""
    ipv4 = (*_meta(_FAMILY, bytes([_IPV4])),)
    tcp = _meta(_PROTOCOL, bytes([socket.IPPROTO_TCP]))
    udp = _meta(_PROTOCOL, bytes([socket.IPPROTO_UDP]))
    to_us = (*ipv4, *_payload(_NETWORK_HEAD, _DESTINATION, socket.inet_aton(GATEWAY_ADDRESS)))
    names = _payload(_TRANSPORT_HEAD, _DESTINATION_PORT, DNS_PORT.to_bytes(2))
    sandbox = socket.inet_aton(SANDBOX_ADDRESS)
    return (
        (*_meta(_INTERFACE_NAME, b"lo".ljust(_NAME_SIZE, b"\0")), _verdict(_DROP)),
        (*_meta(_FAMILY, bytes([_IPV4]), _UNEQUAL), _verdict(_DROP)),
        (*ipv4, *_payload(_NETWORK_HEAD, _SOURCE, sandbox, _UNEQUAL), _verdict(_DROP)),
        (*to_us, *udp, *names, _verdict(_ACCEPT)),
        (*to_us, *tcp, *names, _verdict(_ACCEPT)),
        (*tcp, _value(PROXY_PORT.to_bytes(2)), _tproxy(), _verdict(_ACCEPT)),
        (*tcp, _reject(_BY_RESET, 0)),
        (_limit(LOGGED_PER_SECOND), _log()),
        (*ipv4, *udp, _reject(_BY_ICMP, _PORT_UNREACHABLE)),
        (*ipv4, _reject(_BY_ICMP, _PROHIBITED)),
    )


def _chain() -> bytes:
    hook = nest(4, attribute(1, _number(_INCOMING)), attribute(2, struct.pack(">i", _MANGLE)))
    names = text_attribute(1, TABLE) + text_attribute(3, CHAIN)
    return names + hook + attribute(5, _number(_DROP)) + text_attribute(7, "filter")


def _rule(expressions: Rule) -> bytes:
    names = text_attribute(1, TABLE) + text_attribute(2, CHAIN)
    return names + nest(4, *expressions)


def _meta(key: int, value: bytes, relation: int = _EQUAL) -> Rule:
    """Goes on where what is known of a packet is `value`, or is not."""
    load = _expression("meta", attribute(1, _number(_REGISTER)), attribute(2, _number(key)))
    return load, _compare(relation, value)


def _payload(head: int, offset: int, value: bytes, relation: int = _EQUAL) -> Rule:
    """Goes on where bytes of a packet are `value`, or are not."""
    where = (_REGISTER, head, offset, len(value))
    asked = (attribute(kind, _number(number)) for kind, number in enumerate(where, start=1))
    return _expression("payload", *asked), _compare(relation, value)


def _compare(relation: int, value: bytes) -> bytes:
    read = attribute(1, _number(_REGISTER)) + attribute(2, _number(relation))
    return _expression("cmp", read, nest(3, attribute(1, value)))


def _value(value: bytes) -> bytes:
    return _expression("immediate", attribute(1, _number(_REGISTER)), nest(2, attribute(1, value)))


def _verdict(code: int) -> bytes:
    """Decides."""
    verdict = nest(2, nest(2, attribute(1, _number(code))))
    return _expression("immediate", attribute(1, _number(_VERDICT_REGISTER)), verdict)


def _tproxy() -> bytes:
    """Turns to the socket at the port in the register, and goes on where there is one."""
    return _expression("tproxy", attribute(1, _number(_IPV4)), attribute(3, _number(_REGISTER)))


def _reject(kind: int, code: int) -> bytes:
    """Decides, and says so to the sender."""
    return _expression("reject", attribute(1, _number(kind)), attribute(2, bytes([code])))


def _limit(per_second: int) -> bytes:
    """Goes on with so many packets a second, and as many at once."""
    rate = attribute(1, _long(per_second)) + attribute(2, _long(1))
    return _expression("limit", rate, attribute(3, _number(per_second)))


def _log() -> bytes:
    """Tells whoever follows, packet by packet, and goes on."""
    group = attribute(1, LOG_GROUP.to_bytes(2))
    return _expression("log", group, attribute(3, _number(_LOGGED_BYTES)), attribute(4, b"\0\1"))


def _expression(name: str, *attributes: bytes) -> bytes:
    return nest(1, text_attribute(1, name), nest(2, *attributes))


def _head(family: int = _BOTH_FAMILIES, resource: int = 0) -> bytes:
    return _HEAD.pack(family, 0, socket.htons(resource))


def _number(value: int) -> bytes:
    return struct.pack(">I", value)


def _long(value: int) -> bytes:
    return struct.pack(">Q", value)
