# SPDX-License-Identifier: Apache-2.0
"""What an edge refuses without the proxy, as the kernel logs it: datagrams and pings, by the beginning of each packet.

The form is that of the kernel's `include/uapi/linux/netfilter/nfnetlink_log.h`. The heads of packets, of RFC 791, 768
and 792, hold whatever a sandbox has written.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from atoll_server.network.gate import Gate
from atoll_server.network.link import GATEWAY_ADDRESS, LOG_GROUP
from atoll_server.network.netlink import (
    Message,
    attribute,
    read_attributes,
    read_messages,
    receive,
)
from atoll_server.network.policy import Reason, Verdict

_SUBSYSTEM: Final = 4 << 8
_PACKET, _CONFIGURE = _SUBSYSTEM, _SUBSYSTEM | 1
_FAMILY = struct.Struct("=BBH")
_COMMAND, _PAYLOAD = 1, 9
_BIND = b"\x01"

_IPV4 = struct.Struct(">B5xHxB6xI")
_PORTS = struct.Struct(">HH")
_WITH_PORTS = {socket.IPPROTO_UDP: "UDP", socket.IPPROTO_SCTP: "SCTP", 136: "UDP-Lite"}
_ECHO = 8


@dataclass(frozen=True)
class Attempt:
    """What somebody inside tried. `port` is 0 where the protocol has none."""

    protocol: str
    address: IPv4Address
    port: int


def follow_log() -> Message:
    """Have the socket that says so get what its namespace logs, whoever reads it."""
    body = _FAMILY.pack(socket.AF_UNSPEC, 0, socket.htons(LOG_GROUP)) + attribute(_COMMAND, _BIND)
    return Message("follow the log of an edge", _CONFIGURE, body)


def read_log(news: bytes) -> Iterator[Attempt]:
    """What the kernel tells was tried. What is not an attempt of a program, as a kernel's own answer, is left out."""
    for kind, _, body in read_messages(news):
        if kind == _PACKET:
            packet = dict(read_attributes(body[_FAMILY.size :])).get(_PAYLOAD, b"")
            if (attempt := read_packet(packet)) is not None:
                yield attempt


def read_packet(packet: bytes) -> Attempt | None:
    """Whom a packet is for; None where it is none that a program would send."""
    if len(packet) < _IPV4.size:
        return None
    first, fragment, protocol, destination = _IPV4.unpack_from(packet)
    carried = packet[(first & 0xF) * 4 :]
    if first >> 4 != 4 or fragment & 0x1FFF or len(carried) < _PORTS.size:
        return None
    address = IPv4Address(destination)
    if protocol in _WITH_PORTS:
        return Attempt(_WITH_PORTS[protocol], address, _PORTS.unpack_from(carried)[1])
    if protocol == socket.IPPROTO_ICMP and carried[0] == _ECHO:
        return Attempt("ping", address, 0)
    return None


class PacketLog:
    """Reads what the edge of one sandbox refuses, and has its gate remember that, until it is closed."""

    def __init__(self, gate: Gate, log: socket.socket) -> None:
        self._gate = gate
        self._log = log
        asyncio.get_running_loop().add_reader(log.fileno(), self._read)

    def close(self) -> None:
        """Read no more. Repeating it is harmless."""
        if self._log.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._log.fileno())
            self._log.close()

    def _read(self) -> None:
        try:
            news = receive(self._log)
        except OSError:
            return  # what did not fit is lost, of which the kernel tells once
        for attempt in read_log(news):
            self._gate.note_denial(str(attempt.address), attempt.port, _refuse(attempt))


def _refuse(attempt: Attempt) -> Verdict:
    text = f"{attempt.protocol} does not pass: there is TCP alone, and names are asked of {GATEWAY_ADDRESS}"
    return Verdict(False, Reason.PROTOCOL, text)
