# SPDX-License-Identifier: Apache-2.0
"""Netlink: messages to the kernel about its networks, and its answers, which are believed only in their exact form.

What the messages say is in `links.py` and `edge_rules.py`. They go where the calling thread is: to its namespace.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

ROUTE: Final = 0
NETFILTER: Final = 12

REQUEST: Final = 0x1
ACKNOWLEDGE: Final = 0x4
EXCLUSIVE: Final = 0x200
CREATE: Final = 0x400
APPEND: Final = 0x800

MAX_ATTRIBUTE: Final = 0xFFFF - 4
"""How long an attribute's value can be: its length has 16 bits, and counts its head."""
ANSWER_TIMEOUT: Final = 20.0

_NESTED: Final = 0x8000
_FLAGS: Final = 0xC000
_ERROR: Final = 2
_FIRST_NEWS: Final = 16
"""Kinds below are netlink's own (NLMSG_MIN_TYPE)."""
_HEAD: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_STATUS: Final = struct.Struct("=i")
_MAX_ANSWER: Final = 64 * 1024
_KERNEL: Final = (0, 0)


class NetlinkFailed(OSError):
    """The kernel did not do what it was told. The text says what that was."""


@dataclass(frozen=True)
class Message:
    """One thing to be done. `what` says it in words, for an operator; `kind` and `body` say it to the kernel."""

    what: str
    kind: int
    body: bytes
    flags: int = REQUEST | ACKNOWLEDGE


def attribute(kind: int, value: bytes) -> bytes:
    """One value, with its kind and its length before it, filled up to four bytes."""
    if len(value) > MAX_ATTRIBUTE:
        raise ValueError(f"a netlink attribute of {len(value)} bytes; {MAX_ATTRIBUTE} are possible")
    head = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind)
    return head + value + bytes(-len(value) % 4)


def text_attribute(kind: int, value: str) -> bytes:
    """A name, which ends with a zero byte."""
    return attribute(kind, value.encode("ascii") + b"\0")


def nest(kind: int, *attributes: bytes) -> bytes:
    """Attributes as the value of another."""
    return attribute(kind | _NESTED, b"".join(attributes))


def render_message(message: Message, number: int) -> bytes:
    """The message as the kernel reads it. Its answer bears the same number."""
    length = _HEAD.size + len(message.body)
    head = _HEAD.pack(length, message.kind, message.flags, number, 0)
    return head + message.body + bytes(-length % 4)


def tell(family: int, messages: Sequence[Message]) -> None:
    """Have the kernel do what the messages say, in their order. Raises `NetlinkFailed` for the first that it did not.

    Those that ask for no acknowledgement are not waited for. What was done before a failure stays done.
    """
    with open_netlink(family) as kernel:
        tell_by(kernel, messages)


def open_netlink(family: int) -> socket.socket:
    """A socket to the kernel, about the network namespace in which the calling thread is."""
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
    kernel.settimeout(ANSWER_TIMEOUT)
    return kernel


def tell_by(kernel: socket.socket, messages: Sequence[Message]) -> None:
    """The same by a socket that is open, and stays so."""
    numbered = dict(enumerate(messages, start=1))
    kernel.sendto(b"".join(render_message(it, n) for n, it in numbered.items()), _KERNEL)
    awaited = {number for number, it in numbered.items() if it.flags & ACKNOWLEDGE}
    while awaited:
        for number, status in read_statuses(receive(kernel)):
            if status:
                raise _failure(status, numbered.get(number))
            awaited.discard(number)


def read_statuses(answer: bytes) -> Iterator[tuple[int, int]]:
    """The number and the status of each acknowledgement: zero, or an error's number. Raises `NetlinkFailed`.

    News that a socket follows may come between, and is left out.
    """
    for kind, number, body in read_messages(answer):
        if kind >= _FIRST_NEWS:
            continue
        if kind != _ERROR or len(body) < _STATUS.size:
            raise NetlinkFailed("the kernel's answer is no acknowledgement")
        yield number, -_STATUS.unpack_from(body)[0]


def read_messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The kind, the number and the body of each message. Raises `NetlinkFailed`."""
    at = 0
    while at < len(data):
        if len(data) - at < _HEAD.size:
            raise NetlinkFailed("what the kernel says is cut short")
        length, kind, _, number, _ = _HEAD.unpack_from(data, at)
        if not _HEAD.size <= length <= len(data) - at:
            raise NetlinkFailed("what the kernel says has another length than it has")
        yield kind, number, data[at + _HEAD.size : at + length]
        at += length + -length % 4


def read_attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The kind and the value of each attribute. Raises `NetlinkFailed`."""
    at = 0
    while at < len(data):
        if len(data) - at < _ATTRIBUTE.size:
            raise NetlinkFailed("an attribute of the kernel's is cut short")
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if not _ATTRIBUTE.size <= length <= len(data) - at:
            raise NetlinkFailed("an attribute of the kernel's has another length than it has")
        yield kind & ~_FLAGS, data[at + _ATTRIBUTE.size : at + length]
        at += length + -length % 4


def receive(kernel: socket.socket) -> bytes:
    """What the kernel says next; nothing where somebody else has written."""
    said, sender = kernel.recvfrom(_MAX_ANSWER)
    # Any process may write to a netlink socket; the kernel is the one with the number 0.
    return said if sender == _KERNEL else b""


def _failure(status: int, message: Message | None) -> NetlinkFailed:
    what = "a request" if message is None else message.what
    return NetlinkFailed(status, f"the kernel refused to {what}: {os.strerror(status).lower()}")
