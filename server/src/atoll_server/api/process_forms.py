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
    HEARTBEAT,
    NDJSON_TYPE,
    SSE_TYPE,
    STREAM_NAMES,
    control_frame,
    encode,
    output_frames,
)
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
    """Output as the objects of the two forms of text, with positions."""

    def __init__(self) -> None:
        self._cutter = PieceCutter()
        self.position = 0

    def begin(self, events: Beginning) -> Iterator[tuple[str, Any]]:
        self.position = events.position
        if events.dropped:
            dropped = {"type": "dropped", "bytes": events.dropped, "position": self.position}
            yield "dropped", dropped

    def output(self, output: Output) -> Iterator[tuple[str, Any]]:
        return map(self._object, self._cutter.cut(output))

    def finish(self) -> Iterator[tuple[str, Any]]:
        return map(self._object, self._cutter.finish())

    def _object(self, piece: Piece) -> tuple[str, Any]:
        self.position += len(piece.data)
        name = STREAM_NAMES[piece.stream]
        members: dict[str, Any] = {"type": name, "data": piece.text}
        if piece.text is None:
            members["data"] = base64.b64encode(piece.data).decode("ascii")
            members["encoding"] = "base64"
        return name, {**members, "offset": piece.offset, "position": self.position}


class ProcessNdjsonForm:
    """One JSON object a line."""

    media_type = NDJSON_TYPE

    def __init__(self) -> None:
        self._objects = _Objects()

    def begin(self, events: Beginning) -> bytes:
        return b"".join(map(_line, self._objects.begin(events)))

    def output(self, output: Output) -> Iterator[bytes]:
        return map(_line, self._objects.output(output))

    def heartbeat(self) -> bytes:
        return self._rest() + b'{"type":"heartbeat"}\n'

    def end(self, result: Mapping[str, Any]) -> bytes:
        return self._rest() + _line(("exit", {"type": "exit", **result}))

    def error(self, members: Mapping[str, Any]) -> bytes:
        return self._rest() + _line(("error", {"type": "error", "error": members}))

    def _rest(self) -> bytes:
        return b"".join(map(_line, self._objects.finish()))


class ProcessSseForm:
    """Server-sent events whose data are the objects of the NDJSON form, and whose ids are positions."""

    media_type = SSE_TYPE

    def __init__(self) -> None:
        self._objects = _Objects()

    def begin(self, events: Beginning) -> bytes:
        return b"".join(map(self._event, self._objects.begin(events)))

    def output(self, output: Output) -> Iterator[bytes]:
        return map(self._event, self._objects.output(output))

    def heartbeat(self) -> bytes:
        return self._rest() + b": heartbeat\n\n"

    def end(self, result: Mapping[str, Any]) -> bytes:
        return self._rest() + self._event(("exit", {"type": "exit", **result}))

    def error(self, members: Mapping[str, Any]) -> bytes:
        return self._rest() + self._event(("error", {"type": "error", "error": members}))

    def _rest(self) -> bytes:
        return b"".join(map(self._event, self._objects.finish()))

    def _event(self, named: tuple[str, Any]) -> bytes:
        name, value = named
        lines = (name.encode("ascii"), self._objects.position, encode(value))
        return b"event: %b\nid: %d\ndata: %b\n\n" % lines


class ProcessFramesForm:
    """The frames of `protocol/agent`: bytes as they are, control as JSON."""

    media_type = FRAMES_TYPE

    def begin(self, events: Beginning) -> bytes:
        return control_frame(
            {
                "event": "attached",
                "position": events.position,
                "stdout": events.stdout,
                "stderr": events.stderr,
                "dropped": events.dropped,
            }
        )

    def output(self, output: Output) -> Iterator[bytes]:
        return output_frames(output)

    def heartbeat(self) -> bytes:
        return HEARTBEAT

    def end(self, result: Mapping[str, Any]) -> bytes:
        return control_frame({"event": "exit", **result})

    def error(self, members: Mapping[str, Any]) -> bytes:
        return control_frame({"event": "error", "error": members})


PROCESS_FORMS: Mapping[str, Callable[[], Form]] = {
    NDJSON_TYPE: ProcessNdjsonForm,
    SSE_TYPE: ProcessSseForm,
    FRAMES_TYPE: ProcessFramesForm,
}


def _line(named: tuple[str, Any]) -> bytes:
    return encode(named[1]) + b"\n"


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
