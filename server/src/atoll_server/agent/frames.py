# SPDX-License-Identifier: Apache-2.0
"""Frames of the agent protocol, without I/O: a header of 16 bytes, then a msgpack map or raw bytes.

What a peer sends is hostile: every limit and every rule of `protocol/agent` is checked here, and whatever breaks one
raises `AgentProtocolError` and nothing else. What the maps mean stands in `messages`.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from atoll_server.agent.errors import AgentError, AgentProtocolError

HEADER_BYTES: Final = 16
MAX_CONTROL_BYTES: Final = 1 << 20
MAX_DATA_BYTES: Final = 256 << 10
MAX_DEPTH: Final = 16
MAX_VALUES: Final = 128 << 10

_FIRST_BUFFER: Final = 8 << 10
_LARGEST_BUFFER: Final = MAX_CONTROL_BYTES + HEADER_BYTES

# Three bytes between kind and offset are reserved. They are read as one, so that a check costs one comparison.
_HEADER = struct.Struct(">IB3sQ")
_RESERVED = bytes(3)


class Kind(enum.IntEnum):
    CONTROL = 0
    STDIN = 1
    STDOUT = 2
    STDERR = 3
    CONTENT = 4


class Frame(NamedTuple):
    """`kind` is the number of a `Kind`; a member of it would cost more than all the rest of a frame."""

    kind: int
    offset: int
    payload: bytes


def encode_header(kind: Kind, offset: int, length: int) -> bytes:
    """The header alone, so that the payload can be sent from where it lies."""
    return _HEADER.pack(length, kind, _RESERVED, offset)


def encode_frame(frame: Frame) -> bytes:
    return _HEADER.pack(len(frame.payload), frame.kind, _RESERVED, frame.offset) + frame.payload


def encode_control(message: Mapping[str, Any]) -> bytes:
    """A whole control frame. Raises `AgentError` where the message does not fit into one."""
    try:
        payload = _encoder.encode(message)
    except (UnicodeEncodeError, OverflowError):
        raise AgentError("invalid", 0, "a text or a number cannot be encoded") from None
    if len(payload) > MAX_CONTROL_BYTES:
        raise AgentError("limit", 0, f"request is over {MAX_CONTROL_BYTES} bytes")
    return _HEADER.pack(len(payload), Kind.CONTROL, _RESERVED, 0) + payload


def pieces(data: bytes) -> Iterator[memoryview]:
    """Data in pieces that fit into a frame."""
    view = memoryview(data)
    for start in range(0, len(view), MAX_DATA_BYTES):
        yield view[start : start + MAX_DATA_BYTES]


def check_control(payload: bytes) -> None:
    """Raises `AgentProtocolError` unless the payload is a map of the subset. Numbers may be wider than they need be."""
    _Walker(payload).walk()


def decode_control(payload: bytes) -> dict[str, Any]:
    """The map in a control frame, whatever is in it. Replies have types of their own, in `messages`."""
    check_control(payload)
    message: dict[str, Any] = _decoder.decode(payload)
    return message


class FrameDecoder:
    """Frames out of a byte stream, cut anywhere.

    The reader writes into `space()` and says `filled(count)`; then `take()` gives frames until it gives None. Only the
    payloads are copied, once. The buffer starts small and grows to the frames that come, at most to the largest one.
    """

    def __init__(self) -> None:
        self._buffer = bytearray(_FIRST_BUFFER)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0
        self._wanted = HEADER_BYTES

    def space(self) -> memoryview:
        """Where the next bytes go. Never empty."""
        if self._start:
            held = self._end - self._start
            self._view[:held] = self._view[self._start : self._end]
            self._start, self._end = 0, held
        if self._wanted > len(self._buffer):
            self._grow()
        return self._view[self._end :]

    def filled(self, count: int) -> None:
        self._end += count

    def take(self) -> Frame | None:
        held = self._end - self._start
        if held < HEADER_BYTES:
            return None
        length, kind, reserved, offset = _HEADER.unpack_from(self._buffer, self._start)
        _check_header(length, kind, reserved, offset)
        self._wanted = HEADER_BYTES + length
        if held < self._wanted:
            return None
        first = self._start + HEADER_BYTES
        self._start = first + length
        return Frame(kind, offset, bytes(self._view[first : self._start]))

    def feed(self, data: bytes | memoryview) -> Iterator[Frame]:
        """The frames that `data` completes, for a reader that has bytes of its own."""
        rest = memoryview(data)
        while rest:
            space = self.space()
            count = min(len(space), len(rest))
            space[:count] = rest[:count]
            self.filled(count)
            rest = rest[count:]
            while (frame := self.take()) is not None:
                yield frame

    def rest(self) -> bytes:
        """What has come behind the last frame, where no more frames follow: a buffer for them is not kept either."""
        held = bytes(self._view[self._start : self._end])
        if self._buffer:
            self._buffer = bytearray()
            self._view = memoryview(self._buffer)
            self._start = self._end = 0
        return held

    def _grow(self) -> None:
        # Room for several frames of this size: one call to the kernel then brings more than one.
        size = min(4 * self._wanted, _LARGEST_BUFFER)
        grown = bytearray(size)
        grown[: self._end] = self._view[: self._end]
        self._buffer = grown
        self._view = memoryview(grown)


def _check_header(length: int, kind: int, reserved: bytes, offset: int) -> None:
    if kind > Kind.CONTENT:
        raise AgentProtocolError(f"frame of unknown kind {kind}")
    if reserved != _RESERVED:
        raise AgentProtocolError("reserved bytes of a frame are not zero")
    if length > (MAX_DATA_BYTES if kind else MAX_CONTROL_BYTES):
        raise AgentProtocolError(f"frame of kind {kind} with {length} bytes is over its limit")
    if offset and not kind:
        raise AgentProtocolError("control frame with an offset")


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(dict[str, Any])

# What follows a first byte of 0xc0 to 0xdf: the width of a number, or of a length and what it counts.
_NOTHING = (0xC0, 0xC2, 0xC3)
_NUMBERS = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_BINARIES = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_STRINGS = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_ARRAYS = {0xDC: 2, 0xDD: 4}
_MAPS = {0xDE: 2, 0xDF: 4}


class _Walker:
    """Looks at a payload value by value. Python is slow at it, so it counts them and stops at a limit."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0
        self._values = 0

    def walk(self) -> None:
        if not self._payload or (self._payload[0] & 0xF0 != 0x80 and self._payload[0] not in _MAPS):
            raise AgentProtocolError("control frame is no map")
        self._value(0)
        if self._at != len(self._payload):
            raise AgentProtocolError("control frame with more than a map")

    def _value(self, depth: int) -> None:
        tag = self._tag()
        if tag < 0x80 or tag >= 0xE0 or tag in _NOTHING:
            return
        if tag < 0x90:
            self._map(tag & 0x0F, depth)
        elif tag < 0xA0:
            self._array(tag & 0x0F, depth)
        elif tag < 0xC0 or tag in _STRINGS:
            self._text(tag)
        elif tag in _NUMBERS:
            self._take(_NUMBERS[tag])
        elif tag in _BINARIES:
            self._take(self._number(_BINARIES[tag]))
        elif tag in _ARRAYS:
            self._array(self._number(_ARRAYS[tag]), depth)
        elif tag in _MAPS:
            self._map(self._number(_MAPS[tag]), depth)
        else:
            raise AgentProtocolError(f"msgpack type 0x{tag:02x} is not part of the protocol")

    def _tag(self) -> int:
        self._values += 1
        if self._values > MAX_VALUES:
            raise AgentProtocolError(f"message of more than {MAX_VALUES} values")
        return self._take(1)[0]

    def _take(self, count: int) -> bytes:
        start = self._at
        self._at += count
        if self._at > len(self._payload):
            raise AgentProtocolError("message ends early")
        return self._payload[start : self._at]

    def _number(self, width: int) -> int:
        return int.from_bytes(self._take(width), "big")

    def _array(self, count: int, depth: int) -> None:
        self._check_depth(depth)
        for _ in range(count):
            self._value(depth + 1)

    def _map(self, count: int, depth: int) -> None:
        self._check_depth(depth)
        keys = set()
        for _ in range(count):
            keys.add(self._key())
            self._value(depth + 1)
        if len(keys) != count:
            raise AgentProtocolError("map with a repeated key")

    def _check_depth(self, depth: int) -> None:
        if depth >= MAX_DEPTH:
            raise AgentProtocolError(f"message is nested deeper than {MAX_DEPTH}")

    def _key(self) -> str:
        tag = self._tag()
        if 0xA0 <= tag < 0xC0 or tag in _STRINGS:
            return self._text(tag)
        raise AgentProtocolError("map with a key that is not a str")

    def _text(self, tag: int) -> str:
        length = tag & 0x1F if tag < 0xC0 else self._number(_STRINGS[tag])
        try:
            return self._take(length).decode()
        except UnicodeDecodeError:
            raise AgentProtocolError("str is not UTF-8") from None
