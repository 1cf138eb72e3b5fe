# SPDX-License-Identifier: Apache-2.0
"""A process's output from any position on, as an answer that grows: NDJSON, server-sent events, or frames.

Text is sent as text. A piece that ends inside a character keeps that part for the next piece of its stream, if nothing
else comes first; what is no whole UTF-8 goes as base64. So every event stands for itself, and resuming after any of
them loses and repeats nothing.
"""

from __future__ import annotations

import base64
import codecs
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from atoll_server.api.forms import (
    FRAMES_TYPE,
    NDJSON_TYPE,
    SSE_TYPE,
    STREAM_NAMES,
    FramesForm,
    control_frame,
)
from atoll_server.api.object_forms import Object, ObjectEvents, ObjectLines
from atoll_server.api.streaming import Form
from atoll_server.engine.model import Output

PIECE_BYTES = 64 * 1024


class Beginning(Protocol):
    """Where the output begins that follows: what is needed of an engine's `Following`."""

    position: int
    stdout: int
    stderr: int
    dropped: int


@dataclass(frozen=True)
class Piece:
    """Bytes of one stream; `text` where they are whole UTF-8."""

    stream: int
    offset: int
    data: bytes
    text: str | None


class PieceCutter:
    """Cuts output into pieces of at most `limit` bytes, never inside a character of well-formed text."""

    def __init__(self, limit: int = PIECE_BYTES) -> None:
        assert limit >= 4, "a piece holds at least one character"
        self._limit = limit
        self._held: Output | None = None

    def cut(self, output: Output) -> Iterator[Piece]:
        """The pieces that are complete with this output. Take them all before the next call."""
        held, self._held = self._held, None
        offset, data = output.offset, output.data
        if held is not None and held.stream == output.stream:
            offset, data = held.offset, held.data + data
        elif held is not None:
            yield _piece(held.stream, held.offset, held.data)
        start, whole = 0, len(data) - _unfinished(data)
        while start < whole:
            stop = min(start + self._limit, whole)
            if stop < whole:
                stop -= _unfinished(data[max(start, stop - 3) : stop])
            yield _piece(output.stream, offset + start, data[start:stop])
            start = stop
        if whole < len(data):
            self._held = Output(output.stream, offset + whole, data[whole:])

    def finish(self) -> Iterator[Piece]:
        """What is held back, at the end or after a silence."""
        held, self._held = self._held, None
        if held is not None:
            yield _piece(held.stream, held.offset, held.data)


class _Objects:
    """Output as objects, with positions."""

    end_type = "exit"

    def __init__(self) -> None:
        self._cutter = PieceCutter()
        self.place = 0

    def begin(self, events: Beginning) -> Iterator[Object]:
        self.place = events.position
        if events.dropped:
            yield {"type": "dropped", "bytes": events.dropped, "position": self.place}

    def event(self, output: Output) -> Iterator[Object]:
        return map(self._object, self._cutter.cut(output))

    def finish(self) -> Iterator[Object]:
        return map(self._object, self._cutter.finish())

    def _object(self, piece: Piece) -> Object:
        self.place += len(piece.data)
        members: dict[str, Any] = {"type": STREAM_NAMES[piece.stream], "data": piece.text}
        if piece.text is None:
            members["data"] = base64.b64encode(piece.data).decode("ascii")
            members["encoding"] = "base64"
        return {**members, "offset": piece.offset, "position": self.place}


PROCESS_FORMS: Mapping[str, Callable[[], Form[Output]]] = {
    NDJSON_TYPE: lambda: ObjectLines(_Objects()),
    SSE_TYPE: lambda: ObjectEvents(_Objects()),
    FRAMES_TYPE: lambda: FramesForm(_attached_frame),
}


def _attached_frame(events: Beginning) -> bytes:
    return control_frame(
        {
            "event": "attached",
            "position": events.position,
            "stdout": events.stdout,
            "stderr": events.stderr,
            "dropped": events.dropped,
        }
    )


def _piece(stream: int, offset: int, data: bytes) -> Piece:
    try:
        return Piece(stream, offset, data, data.decode())
    except UnicodeDecodeError:
        return Piece(stream, offset, data, None)


def _unfinished(data: bytes) -> int:
    """How many bytes at the end are the beginning of a character that may still become whole: at most three."""
    tail = data[-3:]
    for count in range(1, len(tail) + 1):
        if tail[-count] & 0xC0 != 0x80:
            decoder = codecs.getincrementaldecoder("utf-8")()
            try:
                decoder.decode(tail[-count:])
            except UnicodeDecodeError:
                return 0
            return len(decoder.getstate()[0])
    return 0
