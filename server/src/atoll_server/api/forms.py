# SPDX-License-Identifier: Apache-2.0
"""A command that is waited for, as an answer that grows: NDJSON, server-sent events, or frames."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from atoll_server.api.lines import Line, LineSplitter
from atoll_server.api.streaming import Form
from atoll_server.engine.model import Output

NDJSON_TYPE = "application/x-ndjson"
SSE_TYPE = "text/event-stream"
FRAMES_TYPE = "application/vnd.atoll.frames"

FRAME_BYTES = 256 * 1024
CONTROL_FRAME, STDOUT_FRAME, STDERR_FRAME, HEARTBEAT_FRAME = 0, 2, 3, 5
STREAM_NAMES = {1: "stdout", 2: "stderr"}

_FRAME = struct.Struct(">IB3xQ")
_HEARTBEAT = _FRAME.pack(0, HEARTBEAT_FRAME, 0)


class NdjsonForm:
    """One JSON object a line."""

    media_type = NDJSON_TYPE

    def __init__(self) -> None:
        self._cutter = _Cutter()

    def begin(self, events: object) -> bytes:
        return b""

    def event(self, output: Output) -> Iterator[bytes]:
        return (encode(line) + b"\n" for line in self._cutter.cut(output))

    def heartbeat(self) -> bytes:
        return b'{"type":"heartbeat"}\n'

    def end(self, result: Mapping[str, Any]) -> bytes:
        last = {"type": "result", **result}
        return b"".join(encode(value) + b"\n" for value in (*self._cutter.finish(), last))

    def error(self, members: Mapping[str, Any]) -> bytes:
        last = {"type": "error", "error": members}
        return b"".join(encode(value) + b"\n" for value in (*self._cutter.finish(), last))


class SseForm:
    """Server-sent events whose data are the objects of the NDJSON form."""

    media_type = SSE_TYPE

    def __init__(self) -> None:
        self._cutter = _Cutter()

    def begin(self, events: object) -> bytes:
        return b""

    def event(self, output: Output) -> Iterator[bytes]:
        return (sse_event(line.type, line) for line in self._cutter.cut(output))

    def heartbeat(self) -> bytes:
        return b": heartbeat\n\n"

    def end(self, result: Mapping[str, Any]) -> bytes:
        return self._rest() + sse_event("result", {"type": "result", **result})

    def error(self, members: Mapping[str, Any]) -> bytes:
        return self._rest() + sse_event("error", {"type": "error", "error": members})

    def _rest(self) -> bytes:
        return b"".join(sse_event(line.type, line) for line in self._cutter.finish())


class FramesForm:
    """The frames of `protocol/agent`: bytes as they are, control as JSON. They begin with what `render_begin` makes of
    the events.
    """

    media_type = FRAMES_TYPE

    def __init__(self, render_begin: Callable[[Any], bytes] = lambda _: b"") -> None:
        self._render_begin = render_begin

    def begin(self, events: object) -> bytes:
        return self._render_begin(events)

    def event(self, output: Output) -> Iterator[bytes]:
        return output_frames(output)

    def heartbeat(self) -> bytes:
        return _HEARTBEAT

    def end(self, result: Mapping[str, Any]) -> bytes:
        return control_frame({"event": "exit", **result})

    def error(self, members: Mapping[str, Any]) -> bytes:
        return control_frame({"event": "error", "error": members})


FORMS: Mapping[str, Callable[[], Form[Output]]] = {
    NDJSON_TYPE: NdjsonForm,
    SSE_TYPE: SseForm,
    FRAMES_TYPE: FramesForm,
}


class _LineEvent(msgspec.Struct):
    type: str
    line: str
    partial: bool
    offset: int


class _Cutter:
    """Both output streams of a command as lines."""

    def __init__(self) -> None:
        self._splitters = {stream: LineSplitter() for stream in STREAM_NAMES}

    def cut(self, output: Output) -> Iterator[_LineEvent]:
        splitter = self._splitters[output.stream]
        yield from _named(output.stream, splitter.skip_to(output.offset))
        yield from _named(output.stream, splitter.feed(output.data))

    def finish(self) -> Iterator[_LineEvent]:
        for stream, splitter in self._splitters.items():
            yield from _named(stream, splitter.finish())


def _named(stream: int, lines: Iterator[Line]) -> Iterator[_LineEvent]:
    name = STREAM_NAMES[stream]
    return (_LineEvent(name, line.text, line.partial, line.offset) for line in lines)


encode = msgspec.json.Encoder().encode


def output_frames(output: Output) -> Iterator[bytes]:
    """Output as frames, each with the offset of its stream."""
    kind = STDOUT_FRAME if output.stream == 1 else STDERR_FRAME
    if len(output.data) <= FRAME_BYTES:  # nearly always: no copy
        yield _FRAME.pack(len(output.data), kind, output.offset)
        yield output.data
        return
    for start in range(0, len(output.data), FRAME_BYTES):
        piece = output.data[start : start + FRAME_BYTES]
        yield _FRAME.pack(len(piece), kind, output.offset + start) + piece


def sse_event(name: str, value: Any) -> bytes:
    """One server-sent event."""
    return b"event: %b\ndata: %b\n\n" % (name.encode("ascii"), encode(value))


def control_frame(value: Mapping[str, Any]) -> bytes:
    """A frame that holds a JSON object."""
    payload = encode(value)
    return _FRAME.pack(len(payload), CONTROL_FRAME, 0) + payload
