# SPDX-License-Identifier: Apache-2.0
"""The one module that turns what the engine gives piece by piece into an answer that grows.

Three tasks: one reads what a process, a watch or the event log tells into a bounded mailbox, one sends what lies
there, one waits for the client to go away. A client that is slow fills the mailbox, which stops the reading, which
stops the process. How it is written stands in `forms`, `process_forms`, `change_forms` and `event_forms`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from starlette.types import Receive, Scope, Send

from atoll_server.api.departures import unless_gone, wait_gone
from atoll_server.api.errors import ClientGone, error_members
from atoll_server.api.reply import Answer
from atoll_server.engine.errors import SandboxFailed, TooLarge
from atoll_server.engine.events import EventsEnd, SandboxEvent
from atoll_server.engine.model import ChangesEnd, Entry, Exit, FileChange, Output, Process

HEARTBEAT_SECONDS = 15.0
SEND_BYTES = 256 * 1024
MAILBOX_BYTES = 512 * 1024

CHANGE_BYTES = 256
"""What a change weighs in the mailbox besides its paths."""

Last = Exit | Process | ChangesEnd | EventsEnd
Event = Output | FileChange | SandboxEvent
OpenedFile = AbstractAsyncContextManager[tuple[Entry, AsyncIterable[bytes]]]
RenderLast = Callable[[Any], Mapping[str, Any]]
Event_contra = TypeVar("Event_contra", bound=Event, contravariant=True)


@dataclass(frozen=True)
class Body:
    """Bytes as they come, and how the answer with them begins."""

    chunks: AsyncIterable[bytes]
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Form(Protocol[Event_contra]):
    """One way of writing events. Every method returns pieces to be sent, each of a bounded size."""

    media_type: str

    def begin(self, events: Any) -> bytes:
        """What is said first, of the events as they were entered. May be nothing."""

    def event(self, event: Event_contra) -> Iterable[bytes]: ...

    def heartbeat(self) -> bytes: ...

    def end(self, result: Mapping[str, Any]) -> bytes: ...

    def error(self, members: Mapping[str, Any]) -> bytes: ...


def stream_events(
    events: AbstractAsyncContextManager[AsyncIterable[Event | Last]],
    form: Form[Any],
    render_last: RenderLast,
    request_id: str,
) -> Answer:
    """Enter the events and answer with them as they come. What entering raises is an ordinary error answer."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            await send(_head(form.media_type))
            await send({"type": "http.response.body", "body": b""})
            return
        await _stream(events, form, render_last, request_id, receive, send)

    return answer


async def _stream(
    events: AbstractAsyncContextManager[AsyncIterable[Event | Last]],
    form: Form[Any],
    render_last: RenderLast,
    request_id: str,
    receive: Receive,
    send: Send,
) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(wait_gone(receive))
            failure = await _run(events, form, render_last, request_id, send)
            watcher.cancel()
    except BaseExceptionGroup as raised:
        if raised.split(ClientGone)[1] is None:
            raise ClientGone from None
        raise
    if failure is not None:
        raise failure


def stream_bytes(
    opened: AbstractAsyncContextManager[Body | AsyncIterable[bytes]], media_type: str
) -> Answer:
    """Bytes as they come. The whole of a file has no length: it may change while it is read."""

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
    opened: AbstractAsyncContextManager[Body | AsyncIterable[bytes]],
    media_type: str,
    head_only: bool,
    send: Send,
) -> None:
    async with opened as content:
        body = content if isinstance(content, Body) else Body(content)
        await send(_head(media_type, body.status, body.headers))
        if not head_only:
            async for chunk in body.chunks:
                await _send_pieces([chunk], send)
        await send({"type": "http.response.body", "body": b""})


async def _run(
    events: AbstractAsyncContextManager[AsyncIterable[Event | Last]],
    form: Form[Any],
    render_last: RenderLast,
    request_id: str,
    send: Send,
) -> Exception | None:
    """Returns why there are no events, if so: outside the task group it is an ordinary exception."""
    started = False
    try:
        async with events as running:
            started = True
            await send(_head(form.media_type))
            if beginning := form.begin(running):
                await _send_pieces([beginning], send)
            mailbox = Mailbox()
            async with asyncio.TaskGroup() as group:
                group.create_task(_read(running, mailbox))
                await _send_all(mailbox, form, render_last, request_id, send)
    except Exception as error:
        if started:
            raise
        return error
    return None


def _head(
    media_type: str, status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()
) -> dict[str, Any]:
    return {
        "type": "http.response.start",
        "status": status,
        "headers": [
            *headers,
            (b"content-type", media_type.encode("ascii")),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
        ],
    }


class Mailbox:
    """Events between the task that reads a process and the one that sends them; holds about `MAILBOX_BYTES`."""

    def __init__(self) -> None:
        self._events: list[Event | Last | Exception] = []
        self._size = 0
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()

    async def put(self, event: Event | Last | Exception) -> None:
        """Leave an event; returns once there is room for another."""
        self._events.append(event)
        self._size += _size(event)
        self._filled.set()
        if self._size >= MAILBOX_BYTES:
            self._emptied.clear()
            await self._emptied.wait()

    async def take(self, patience: float) -> list[Event | Last | Exception]:
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


def _size(event: Event | Last | Exception) -> int:
    if isinstance(event, Output):
        return len(event.data)
    if isinstance(event, FileChange):
        return CHANGE_BYTES + len(event.path or b"") + len(event.from_path or b"")
    if isinstance(event, SandboxEvent):
        return event.size
    return 0


async def _read(running: AsyncIterable[Event | Last], mailbox: Mailbox) -> None:
    """Read to the last event, which says how it ended, or why nothing says so."""
    try:
        async for event in running:
            await mailbox.put(event)
            if isinstance(event, Last):
                return
        await mailbox.put(SandboxFailed("the sandbox's agent did not say how it ended"))
    except Exception as error:  # an answer has begun: what goes wrong now is its last event
        await mailbox.put(error)


async def _send_all(
    mailbox: Mailbox, form: Form[Any], render_last: RenderLast, request_id: str, send: Send
) -> None:
    while True:
        events = await mailbox.take(HEARTBEAT_SECONDS)
        if not events:
            await send({"type": "http.response.body", "body": form.heartbeat(), "more_body": True})
        last = events[-1] if events and not isinstance(events[-1], Event) else None
        await _send_events((event for event in events if isinstance(event, Event)), form, send)
        if last is not None:
            tail = _render_last(last, form, render_last, request_id)
            await send({"type": "http.response.body", "body": tail})
            return


def _render_last(
    last: Event | Last | Exception, form: Form[Any], render_last: RenderLast, request_id: str
) -> bytes:
    if isinstance(last, Last):
        return form.end(render_last(last))
    assert isinstance(last, Exception)
    return form.error(error_members(last, request_id))


async def _send_events(events: Iterable[Event], form: Form[Any], send: Send) -> None:
    """Send what these events are in this form, in as few pieces as their bound allows."""
    pieces: list[bytes] = []
    size = 0
    for event in events:
        for piece in form.event(event):
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
