# SPDX-License-Identifier: Apache-2.0
"""The one module that turns a running command into an answer that grows: NDJSON, server-sent events, or frames.

Three tasks: one reads the command into a bounded mailbox, one sends what lies there, one waits for the client to go
away. A client that is slow fills the mailbox, which stops the reading, which stops the command. Leaving the command
before its end kills its tree.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import msgspec
from starlette.types import Receive, Scope, Send

from atoll_server.api.errors import ClientGone, error_members
from atoll_server.api.lines import Line, LineSplitter
from atoll_server.api.routing import Answer, unless_gone, wait_gone
from atoll_server.engine.errors import SandboxFailed, TooLarge
from atoll_server.engine.model import Entry, Exit, Output

HEARTBEAT_SECONDS = 15.0
SEND_BYTES = 256 * 1024
MAILBOX_BYTES = 512 * 1024

NDJSON_TYPE = "application/x-ndjson"
SSE_TYPE = "text/event-stream"
FRAMES_TYPE = "application/vnd.atoll.frames"

Event = Output | Exit
OpenedFile = AbstractAsyncContextManager[tuple[Entry, AsyncIterable[bytes]]]
RenderExit = Callable[[Exit], Mapping[str, Any]]
_STREAMS = {1: "stdout", 2: "stderr"}


class Form(Protocol):
    """One way of writing a command's events. Every method returns pieces to be sent, each of a bounded size."""

    media_type: str

    def output(self, output: Output) -> Iterable[bytes]: ...

    def heartbeat(self) -> bytes: ...

    def end(self, result: Mapping[str, Any]) -> bytes: ...

    def error(self, members: Mapping[str, Any]) -> bytes: ...


async def stream_command(
    command: AbstractAsyncContextManager[AsyncIterable[Event]],
    form: Form,
    render_exit: RenderExit,
    *,
    request_id: str,
    receive: Receive,
    send: Send,
) -> None:
    """Run a command and answer with what it writes. Raises what starting it raises, before anything was sent."""
    try:
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(wait_gone(receive))
            failure = await _run(command, form, render_exit, request_id, send)
            watcher.cancel()
    except BaseExceptionGroup as raised:
        if raised.split(ClientGone)[1] is None:
            raise ClientGone from None
        raise
    if failure is not None:
        raise failure


def stream_bytes(opened: AbstractAsyncContextManager[Any], media_type: str) -> Answer:
    """Bytes as they come. The answer has no length: a file may change while it is read."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await unless_gone(receive, _pump(opened, media_type, scope["method"] == "HEAD", send))

    return answer


async def collect_bytes(opened: OpenedFile, limit: int) -> tuple[Entry, bytes]:
    """A file's entry and content, or `TooLarge`."""
    async with opened as (entry, content):
        held = bytearray()
        async for chunk in content if entry.size <= limit else once(b""):
            held += chunk
            if len(held) > limit:
                break
        if max(entry.size, len(held)) <= limit:
            return entry, bytes(held)
    raise TooLarge(
        f"the file has more than {limit} bytes: read it with `Accept: application/octet-stream`"
    )


async def once(data: bytes) -> AsyncIterator[bytes]:
    """These bytes, as a stream."""
    yield data


async def _pump(
    opened: AbstractAsyncContextManager[Any], media_type: str, head_only: bool, send: Send
) -> None:
    async with opened as content:
        # A file comes with its entry; an archive is its content alone.
        chunks: AsyncIterable[bytes] = content[1] if isinstance(content, tuple) else content
        await send(_head(media_type))
        if not head_only:
            async for chunk in chunks:
                await _send_pieces([chunk], send)
        await send({"type": "http.response.body", "body": b""})


async def _run(
    command: AbstractAsyncContextManager[AsyncIterable[Event]],
    form: Form,
    render_exit: RenderExit,
    request_id: str,
    send: Send,
) -> Exception | None:
    """Returns why the command could not be started, if so: outside the task group it is an ordinary exception."""
    started = False
    try:
        async with command as running:
            started = True
            await send(_head(form.media_type))
            mailbox = Mailbox()
            async with asyncio.TaskGroup() as group:
                group.create_task(_read(running, mailbox))
                await _send_all(mailbox, form, render_exit, request_id, send)
    except Exception as error:
        if started:
            raise
        return error
    return None


def _head(media_type: str) -> dict[str, Any]:
    return {
        "type": "http.response.start",
        "status": 200,
        "headers": [
            (b"content-type", media_type.encode("ascii")),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
        ],
    }


class Mailbox:
    """Events between the task that reads a command and the one that sends them; holds about `MAILBOX_BYTES`."""

    def __init__(self) -> None:
        self._events: list[Event | Exception] = []
        self._size = 0
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()

    async def put(self, event: Event | Exception) -> None:
        """Leave an event; returns once there is room for another."""
        self._events.append(event)
        self._size += len(event.data) if isinstance(event, Output) else 0
        self._filled.set()
        if self._size >= MAILBOX_BYTES:
            self._emptied.clear()
            await self._emptied.wait()

    async def take(self, patience: float) -> list[Event | Exception]:
        """Everything that lies there, as soon as something does; empty after `patience` seconds of silence."""
        if not self._events:
            self._filled.clear()
            try:
                async with asyncio.timeout(patience):
                    await self._filled.wait()
            except TimeoutError:
                return []
        events, self._events, self._size = self._events, [], 0
        self._emptied.set()
        return events


async def _read(running: AsyncIterable[Event], mailbox: Mailbox) -> None:
    """Read a command to its end. The last event is an `Exit` or why there is none."""
    try:
        async for event in running:
            await mailbox.put(event)
            if isinstance(event, Exit):
                return
        await mailbox.put(SandboxFailed("the command's end was not reported"))
    except Exception as error:  # an answer has begun: what goes wrong now is its last event
        await mailbox.put(error)


async def _send_all(
    mailbox: Mailbox, form: Form, render_exit: RenderExit, request_id: str, send: Send
) -> None:
    while True:
        events = await mailbox.take(HEARTBEAT_SECONDS)
        if not events:
            await send({"type": "http.response.body", "body": form.heartbeat(), "more_body": True})
        last = events[-1] if events and not isinstance(events[-1], Output) else None
        outputs = (event for event in events if isinstance(event, Output))
        await _send_outputs(outputs, form, send)
        if last is not None:
            tail = _render_last(last, form, render_exit, request_id)
            await send({"type": "http.response.body", "body": tail})
            return


def _render_last(
    last: Event | Exception, form: Form, render_exit: RenderExit, request_id: str
) -> bytes:
    if isinstance(last, Exit):
        return form.end(render_exit(last))
    assert isinstance(last, Exception)
    return form.error(error_members(last, request_id))


async def _send_outputs(outputs: Iterable[Output], form: Form, send: Send) -> None:
    """Send what these outputs are in this form, in as few pieces as their bound allows."""
    pieces: list[bytes] = []
    size = 0
    for output in outputs:
        for piece in form.output(output):
            pieces.append(piece)
            size += len(piece)
            if size >= SEND_BYTES:
                await _send_pieces(pieces, send)
                pieces, size = [], 0
    if pieces:
        await _send_pieces(pieces, send)


async def _send_pieces(pieces: list[bytes], send: Send) -> None:
    await send({"type": "http.response.body", "body": b"".join(pieces), "more_body": True})
    # A client that is never slow must not keep the other requests waiting.
    await asyncio.sleep(0)


class NdjsonForm:
    """One JSON object a line."""

    media_type = NDJSON_TYPE

    def __init__(self) -> None:
        self._cutter = _Cutter()

    def output(self, output: Output) -> Iterator[bytes]:
        return (_encode(line) + b"\n" for line in self._cutter.cut(output))

    def heartbeat(self) -> bytes:
        return b'{"type":"heartbeat"}\n'

    def end(self, result: Mapping[str, Any]) -> bytes:
        last = {"type": "result", **result}
        return b"".join(_encode(value) + b"\n" for value in (*self._cutter.finish(), last))

    def error(self, members: Mapping[str, Any]) -> bytes:
        last = {"type": "error", "error": members}
        return b"".join(_encode(value) + b"\n" for value in (*self._cutter.finish(), last))


class SseForm:
    """Server-sent events whose data are the objects of the NDJSON form."""

    media_type = SSE_TYPE

    def __init__(self) -> None:
        self._cutter = _Cutter()

    def output(self, output: Output) -> Iterator[bytes]:
        return (_event(line.type, line) for line in self._cutter.cut(output))

    def heartbeat(self) -> bytes:
        return b": heartbeat\n\n"

    def end(self, result: Mapping[str, Any]) -> bytes:
        return self._rest() + _event("result", {"type": "result", **result})

    def error(self, members: Mapping[str, Any]) -> bytes:
        return self._rest() + _event("error", {"type": "error", "error": members})

    def _rest(self) -> bytes:
        return b"".join(_event(line.type, line) for line in self._cutter.finish())


class FramesForm:
    """The frames of `protocol/agent`: bytes as they are, control as JSON."""

    media_type = FRAMES_TYPE

    def output(self, output: Output) -> Iterator[bytes]:
        kind = STDOUT_FRAME if output.stream == 1 else STDERR_FRAME
        if len(output.data) <= FRAME_BYTES:  # nearly always: no copy
            yield _FRAME.pack(len(output.data), kind, output.offset)
            yield output.data
            return
        for start in range(0, len(output.data), FRAME_BYTES):
            piece = output.data[start : start + FRAME_BYTES]
            yield _FRAME.pack(len(piece), kind, output.offset + start) + piece

    def heartbeat(self) -> bytes:
        return _FRAME.pack(0, HEARTBEAT_FRAME, 0)

    def end(self, result: Mapping[str, Any]) -> bytes:
        return _control({"event": "exit", **result})

    def error(self, members: Mapping[str, Any]) -> bytes:
        return _control({"event": "error", "error": members})


FORMS: Mapping[str, Callable[[], Form]] = {
    NDJSON_TYPE: NdjsonForm,
    SSE_TYPE: SseForm,
    FRAMES_TYPE: FramesForm,
}

_FRAME = struct.Struct(">IB3xQ")
FRAME_BYTES = 256 * 1024
CONTROL_FRAME, STDOUT_FRAME, STDERR_FRAME, HEARTBEAT_FRAME = 0, 2, 3, 5


class _LineEvent(msgspec.Struct):
    type: str
    line: str
    partial: bool
    offset: int


class _Cutter:
    """Both output streams of a command as lines."""

    def __init__(self) -> None:
        self._splitters = {stream: LineSplitter() for stream in _STREAMS}

    def cut(self, output: Output) -> Iterator[_LineEvent]:
        splitter = self._splitters[output.stream]
        yield from _named(output.stream, splitter.skip_to(output.offset))
        yield from _named(output.stream, splitter.feed(output.data))

    def finish(self) -> Iterator[_LineEvent]:
        for stream, splitter in self._splitters.items():
            yield from _named(stream, splitter.finish())


def _named(stream: int, lines: Iterator[Line]) -> Iterator[_LineEvent]:
    name = _STREAMS[stream]
    return (_LineEvent(name, line.text, line.partial, line.offset) for line in lines)


_encode = msgspec.json.Encoder().encode


def _event(name: str, value: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode("ascii"), _encode(value))


def _control(value: Mapping[str, Any]) -> bytes:
    payload = _encode(value)
    return _FRAME.pack(len(payload), CONTROL_FRAME, 0) + payload
