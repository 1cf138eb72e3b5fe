# SPDX-License-Identifier: Apache-2.0
"""Streams of a running command: frames, lines, and what is kept of them. No I/O; memory is bounded."""

from __future__ import annotations

import dataclasses
import struct
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from . import _wire
from .errors import Error, ProtocolError, error_from_answer
from .models import ExecResult

MAX_LINE_BYTES = 1024 * 1024
KEPT_BYTES = 10 * 1024 * 1024
"""What a result keeps of each stream that went through a callback: its end."""

_HEADER = struct.Struct(">IB3sQ")
_MAX_CONTROL_BYTES = 1024 * 1024
_MAX_DATA_BYTES = 256 * 1024
_SLICE_BYTES = 256 * 1024


class FrameKind(IntEnum):
    """What a frame carries."""

    CONTROL = 0
    STDOUT = 2
    STDERR = 3
    HEARTBEAT = 5


_KINDS = {int(kind): kind for kind in FrameKind}


@dataclass(frozen=True, slots=True)
class Piece:
    """A whole control frame, or any part of an output frame."""

    kind: FrameKind
    data: bytes
    offset: int = 0
    """Where in its stream the data begins; nothing for control frames."""


class FrameDecoder:
    """Takes a framed answer in chunks with borders anywhere, gives pieces.

    Output is passed on as it comes, without waiting for the rest of its frame.
    """

    def __init__(self) -> None:
        self._held = b""
        self._kind = FrameKind.HEARTBEAT
        self._left = 0
        self._expected = {FrameKind.STDOUT: 0, FrameKind.STDERR: 0}
        self.gaps = False
        """Whether the server left out some output."""

    def feed(self, chunk: bytes) -> list[Piece]:
        """The pieces that are known once `chunk` has come. Raises `ProtocolError` for what is no frame."""
        data = self._held + chunk if self._held else chunk
        pieces: list[Piece] = []
        at = 0
        while True:
            if self._left == 0:
                if len(data) - at < _HEADER.size:
                    break
                self._read_header(data, at)
                at += _HEADER.size
            if self._kind is FrameKind.CONTROL and len(data) - at < self._left:
                break
            taken = data[at : at + self._left]
            if not taken and self._left:
                break
            offset = self._expected.get(self._kind, 0) - self._left
            at += len(taken)
            self._left -= len(taken)
            if taken:
                pieces.append(Piece(self._kind, taken, offset))
        self._held = data[at:]
        return pieces

    def _read_header(self, data: bytes, at: int) -> None:
        length, number, reserved, offset = _HEADER.unpack_from(data, at)
        kind = _KINDS.get(number)
        if kind is None:
            raise ProtocolError(f"unknown kind of frame {number}")
        limit = _MAX_CONTROL_BYTES if kind is FrameKind.CONTROL else _MAX_DATA_BYTES
        if reserved != b"\0\0\0" or length > limit:
            raise ProtocolError(f"malformed frame header {data[at : at + _HEADER.size].hex()}")
        if kind in self._expected:
            if offset < self._expected[kind]:
                raise ProtocolError(f"{kind.name.lower()} goes back to offset {offset}")
            self.gaps = self.gaps or offset > self._expected[kind]
            self._expected[kind] = offset + length
        self._kind, self._left = kind, length


class LineSplitter:
    """Cuts a byte stream into lines of text, without their ends (`\\n` or `\\r\\n`).

    A line longer than `limit` bytes comes in pieces of at most that many, cut between characters. Bytes that are not
    UTF-8 stand as U+FFFD.
    """

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._in_pieces = False

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes."""
        if len(data) <= _SLICE_BYTES:
            return self._feed_slice(data)
        lines: list[str] = []
        for start in range(0, len(data), _SLICE_BYTES):
            lines += self._feed_slice(data[start : start + _SLICE_BYTES])
        return lines

    def finish(self) -> list[str]:
        """The last line, where it has no end."""
        rest = self._take_pending(b"")
        return [*self._cut(rest), _text(rest[self._cut_size :])] if rest else []

    def _feed_slice(self, data: bytes) -> list[str]:
        end = data.rfind(b"\n")
        if end < 0:
            self._hold(data)
            return self._cut_pending()
        whole = self._take_pending(data[:end])
        self._hold(data[end + 1 :])
        lines = self._split(whole)
        # The limit may be below what one slice leaves over.
        return lines + self._cut_pending() if self._pending_size > self._limit else lines

    def _split(self, whole: bytes) -> list[str]:
        lines: list[str] = []
        while self._in_pieces or len(whole) > self._limit:
            first, newline, whole = whole.partition(b"\n")
            lines += self._split_long(first)
            if not newline:
                return lines
        text = _text(whole)
        if "\r" in text:
            text = (text + "\n").replace("\r\n", "\n")[:-1]
        return lines + text.split("\n") if lines else text.split("\n")

    def _split_long(self, line: bytes) -> list[str]:
        """One line that may be too long, or whose beginning was given out already."""
        line = line.removesuffix(b"\r")
        pieces = self._cut(line)
        rest = line[self._cut_size :]
        if rest or not (pieces or self._in_pieces):
            pieces.append(_text(rest))
        self._in_pieces = False
        return pieces

    def _cut_pending(self) -> list[str]:
        if self._pending_size <= self._limit:
            return []
        data = self._take_pending(b"")
        pieces = self._cut(data)
        self._hold(data[self._cut_size :])
        self._in_pieces = True
        return pieces

    def _cut(self, data: bytes) -> list[str]:
        """Pieces of `limit` bytes from the front of `data`, as long as more follows; `_cut_size` says how far."""
        pieces: list[str] = []
        at = 0
        while len(data) - at > self._limit:
            end = _character_border(data, at + self._limit)
            pieces.append(_text(data[at:end]))
            at = end
        self._cut_size = at
        return pieces

    def _hold(self, data: bytes) -> None:
        if data:
            self._pending.append(data)
            self._pending_size += len(data)

    def _take_pending(self, data: bytes) -> bytes:
        if not self._pending:
            return data
        whole = b"".join((*self._pending, data))
        self._pending.clear()
        self._pending_size = 0
        return whole


class Tail:
    """The end of a byte stream, at most `limit` bytes of it."""

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self._limit = limit
        self._parts: deque[bytes] = deque()
        self._size = 0
        self.truncated = False

    def append(self, data: bytes) -> None:
        if not data:
            return
        self._parts.append(data)
        self._size += len(data)
        while self._size - len(self._parts[0]) >= self._limit:
            self._size -= len(self._parts.popleft())
            self.truncated = True

    def text(self) -> str:
        data = b"".join(self._parts)
        if len(data) > self._limit:
            self.truncated = True
            data = data[-self._limit :]
        if self.truncated:
            data = _drop_half_character(data)
        return _text(data)


def parse_end(control: bytes) -> ExecResult | Error:
    """What the last frame says: the result, its output left empty, or why there is none."""
    said = _wire.parse(control)
    event = said.get("event") if isinstance(said, dict) else None
    if event == "exit":
        return _wire.from_plain(ExecResult, said)
    if event == "error":
        return parse_error_event(said)
    raise ProtocolError(f"a control frame with the event {event!r:.80}")


def complete_result(result: ExecResult, stdout: Tail, stderr: Tail, *, gaps: bool) -> ExecResult:
    """The result with what was kept of its streams."""
    texts = stdout.text(), stderr.text()
    truncated = result.truncated or gaps or stdout.truncated or stderr.truncated
    return dataclasses.replace(result, stdout=texts[0], stderr=texts[1], truncated=truncated)


def parse_error_event(said: Mapping[str, Any]) -> Error:
    """The error that a control frame, or a message of a WebSocket, reports."""
    error = said.get("error")
    if not isinstance(error, dict):
        raise ProtocolError("an error event without an error")
    return error_from_answer(
        str(error.get("code", "INTERNAL")),
        str(error.get("message", "the stream ended in an error")),
        retryable=error.get("retryable") is True,
        request_id=error.get("requestId"),
        reason=error.get("reason"),
    )


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _character_border(data: bytes, at: int) -> int:
    """The last place not after `at` where no character is cut. Four stray bytes are no character."""
    for back in range(4):
        if data[at - back] & 0xC0 != 0x80:
            return at - back if at > back else at
    return at


def _drop_half_character(data: bytes) -> bytes:
    start = 0
    while start < 3 and start < len(data) and data[start] & 0xC0 == 0x80:
        start += 1
    return data[start:]
