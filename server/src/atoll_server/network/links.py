# SPDX-License-Identifier: Apache-2.0
"""What rtnetlink is told about interfaces, addresses and routes."""

from __future__ import annotations

import socket
import struct
from typing import Final

from atoll_server.network.netlink import (
    ACKNOWLEDGE,
    CREATE,
    EXCLUSIVE,
    REQUEST,
    Message,
    attribute,
    nest,
    text_attribute,
)

LOOPBACK: Final = 1
"""The number of every namespace's loopback."""
MAX_NAME: Final = 15

_MAKE = REQUEST | ACKNOWLEDGE | CREATE | EXCLUSIVE

_NEW_LINK = 16
_NEW_ADDRESS = 20
_NEW_ROUTE = 24

_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")

_IFLA_IFNAME = 3
_IFLA_MTU = 4
_IFLA_LINKINFO = 18
_IFLA_AF_SPEC = 26
_IFLA_NET_NS_FD = 28
_IFLA_NUM_TX_QUEUES = 31
_IFLA_NUM_RX_QUEUES = 32
_IFLA_INET_CONF = 1
_FORWARDING = 1
_IFLA_INET6_ADDR_GEN_MODE = 8
_NO_ADDRESS = 1
_INFO_KIND = 1
_INFO_DATA = 2
_VETH_PEER = 1
_UP = 1
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_RTA_OUT = 4
_RTA_GATEWAY = 5
_MAIN_TABLE = 254
_BY_BOOT = 3
_EVERYWHERE, _ON_HOST = 0, 254
_UNICAST, _LOCAL = 1, 2


def add_veth(name: str, peer: str, namespace: int, mtu: int) -> Message:
    """Two interfaces, joined: `name` here, and `peer` in the network namespace of that descriptor.

    Both take packets of `mtu` bytes, and have one queue. Not told so, the kernel makes as many as there are processors,
    and then waits for every processor twice to take all but one away again.
    """
    both = attribute(_IFLA_MTU, _number(mtu)) + _ONE_QUEUE
    place = attribute(_IFLA_NET_NS_FD, _number(namespace))
    there = text_attribute(_IFLA_IFNAME, peer) + both + place
    data = nest(_INFO_DATA, nest(_VETH_PEER, _link(0), there))
    info = nest(_IFLA_LINKINFO, text_attribute(_INFO_KIND, "veth"), data)
    body = _link(0) + text_attribute(_IFLA_IFNAME, name) + both + info
    return Message(f"make the interfaces {name} and {peer}", _NEW_LINK, body, _MAKE)


def set_up(interface: int) -> Message:
    """Let packets through an interface."""
    body = _link(interface, flags=_UP, change=_UP)
    return Message(f"set interface {interface} up", _NEW_LINK, body)


def forbid_forwarding(interface: int) -> Message:
    """Pass on nothing that comes by an interface. A new namespace has this from the host's first one, for all to come.

    Told so and not through `/proc/sys/net`, where the kernel looks one namespace up after the other by name.
    """
    spec = nest(socket.AF_INET, nest(_IFLA_INET_CONF, attribute(_FORWARDING, _number(0))))
    what = f"forbid interface {interface} to forward"
    return Message(what, _NEW_LINK, _link(interface) + nest(_IFLA_AF_SPEC, spec))


def forbid_ipv6_address(interface: int) -> Message:
    """Give an interface no IPv6 address by itself, without which nothing can be sent from it."""
    spec = nest(socket.AF_INET6, attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes([_NO_ADDRESS])))
    what = f"forbid interface {interface} an IPv6 address"
    return Message(what, _NEW_LINK, _link(interface) + nest(_IFLA_AF_SPEC, spec))


def add_address(interface: int, address: str, prefix: int) -> Message:
    """Let an interface have an IPv4 address, and the network around it be behind it."""
    packed = socket.inet_aton(address)
    body = _ADDRESS.pack(socket.AF_INET, prefix, 0, _EVERYWHERE, interface)
    body += attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
    what = f"give interface {interface} the address {address}/{prefix}"
    return Message(what, _NEW_ADDRESS, body, _MAKE)


def route_all(gateway: str) -> Message:
    """Send what goes to no network that is known to `gateway`."""
    body = _all_routes(_EVERYWHERE, _UNICAST) + attribute(_RTA_GATEWAY, socket.inet_aton(gateway))
    return Message(f"route everything to {gateway}", _NEW_ROUTE, body, _MAKE)


def own_all() -> Message:
    """Let every address be this namespace's own."""
    body = _all_routes(_ON_HOST, _LOCAL) + attribute(_RTA_OUT, _number(LOOPBACK))
    return Message("make every address local", _NEW_ROUTE, body, _MAKE)


def _all_routes(scope: int, kind: int) -> bytes:
    return _ROUTE.pack(socket.AF_INET, 0, 0, 0, _MAIN_TABLE, _BY_BOOT, scope, kind, 0)


def _link(interface: int, *, flags: int = 0, change: int = 0) -> bytes:
    return _LINK.pack(socket.AF_UNSPEC, 0, interface, flags, change)


def _number(value: int) -> bytes:
    return struct.pack("=I", value)


_ONE_QUEUE: Final = b"".join(
    attribute(kind, _number(1)) for kind in (_IFLA_NUM_TX_QUEUES, _IFLA_NUM_RX_QUEUES)
)
