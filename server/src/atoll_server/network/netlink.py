# SPDX-License-Identifier: Apache-2.0
"""Netlink: messages to the kernel about its networks, and its answers, which are believed only in their exact form.

What the messages say is in `links.py` and `edge_rules.py`. They go where the calling thread is: to its namespace.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Sequence
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
_ERROR: Final = 2
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
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family) as kernel:
        kernel.settimeout(ANSWER_TIMEOUT)
        numbered = dict(enumerate(messages, start=1))
        kernel.sendto(b"".join(render_message(it, n) for n, it in numbered.items()), _KERNEL)
        awaited = {number for number, it in numbered.items() if it.flags & ACKNOWLEDGE}
        while awaited:
            for number, status in _receive(kernel):
                if status:
                    raise _failure(status, numbered.get(number))
                awaited.discard(number)


def read_statuses(answer: bytes) -> Iterable[tuple[int, int]]:
    """The number and the status of each acknowledgement: zero, or an error's number. Raises `NetlinkFailed`."""
    at = 0
    while at < len(answer):
        if len(answer) - at < _HEAD.size + _STATUS.size:
            raise NetlinkFailed("the kernel's answer is cut short")
        length, kind, _, number, _ = _HEAD.unpack_from(answer, at)
        (status,) = _STATUS.unpack_from(answer, at + _HEAD.size)
        if kind != _ERROR or length < _HEAD.size + _STATUS.size or length > len(answer) - at:
            raise NetlinkFailed("the kernel's answer is no acknowledgement")
        yield number, -status
        at += length + -length % 4


def _receive(kernel: socket.socket) -> Iterable[tuple[int, int]]:
    answer, sender = kernel.recvfrom(_MAX_ANSWER)
    # Any process may write to a netlink socket; the kernel is the one with the number 0.
    return read_statuses(answer) if sender == _KERNEL else ()


def _failure(status: int, message: Message | None) -> NetlinkFailed:
    what = "a request" if message is None else message.what
    return NetlinkFailed(status, f"the kernel refused to {what}: {os.strerror(status).lower()}")
