# SPDX-License-Identifier: Apache-2.0
"""Where the body of a plain HTTP request ends. Nothing behind that is let through."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

MAX_LINE = 4 * 1024
MAX_TRAILERS = 32

_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")


class MalformedBody(Exception):
    """The body's end cannot be known, or it must not pass. The text says why."""


Sight = Callable[[bytes], object]
"""Is shown what a body holds, piece by piece, without what stands between chunks; may raise `MalformedBody`."""


class Body(Protocol):
    """A body that is passing through."""

    is_done: bool

    def take(self, data: bytes) -> bytes:
        """As much of `data` as belongs to the body. Raises `MalformedBody`."""
        ...


class LengthBody:
    """A body whose length was told."""

    def __init__(self, length: int, show: Sight | None = None) -> None:
        self._left = length
        self._show = show
        self.is_done = length == 0

    def take(self, data: bytes) -> bytes:
        piece = data[: self._left]
        self._left -= len(piece)
        self.is_done = not self._left
        if self._show is not None:
            self._show(piece)
        return piece


class _Part(Enum):
    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILER = auto()


class ChunkedBody:
    """A body in chunks, passed on as it is."""

    def __init__(self, show: Sight | None = None, show_line: Sight | None = None) -> None:
        """`show_line` is shown what stands between chunks and behind them."""
        self.is_done = False
        self._show = show
        self._show_line = show_line
        self._part = _Part.SIZE
        self._left = 0
        self._line = bytearray()
        self._trailers = 0

    def take(self, data: bytes) -> bytes:
        at = 0
        while at < len(data) and not self.is_done:
            at = (
                self._take_data(data, at) if self._part is _Part.DATA else self._take_line(data, at)
            )
        return data[:at]

    def _take_data(self, data: bytes, at: int) -> int:
        size = min(self._left, len(data) - at)
        self._left -= size
        if self._show is not None:
            self._show(data[at : at + size])
        if not self._left:
            self._part = _Part.DATA_END
        return at + size

    def _take_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at)
        stop = len(data) if end < 0 else end + 1
        self._line += data[at:stop]
        if len(self._line) > MAX_LINE:
            raise MalformedBody(f"a line between chunks has more than {MAX_LINE} bytes")
        if end >= 0:
            line = bytes(self._line)
            self._line.clear()
            if not line.endswith(b"\r\n"):
                raise MalformedBody("a line between chunks ends without a carriage return")
            if self._show_line is not None:
                self._show_line(line)
            self._read_line(line[:-2])
        return stop

    def _read_line(self, line: bytes) -> None:
        if self._part is _Part.SIZE:
            self._read_size(line)
        elif self._part is _Part.DATA_END:
            if line:
                raise MalformedBody("a chunk is longer than it says")
            self._part = _Part.SIZE
        elif not line:
            self.is_done = True
        else:
            self._trailers += 1
            if self._trailers > MAX_TRAILERS or not _TRAILER.fullmatch(line):
                raise MalformedBody("what follows the chunks is malformed")

    def _read_size(self, line: bytes) -> None:
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None:
            raise MalformedBody("the size of a chunk is malformed")
        self._left = int(match[1], 16)
        self._part = _Part.DATA if self._left else _Part.TRAILER
