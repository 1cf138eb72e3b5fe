# SPDX-License-Identifier: Apache-2.0
"""A process over a WebSocket: its bytes both ways, and what else one says to a terminal."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.types import Send

from atoll.models import MAX_TERMINAL_SIDE
from atoll_server.api.call import Call
from atoll_server.api.errors import ClientGone, HttpError, error_members
from atoll_server.api.native.process_wire import AttachQuery, parse_signal, render_process_end
from atoll_server.engine.errors import EngineError, InvalidRequest, StdinClosed
from atoll_server.engine.following import Following
from atoll_server.engine.model import Output, ProcessId, TerminalSize
from atoll_server.engine.processes import Session

logger = logging.getLogger("atoll_server.api")

INBOX_BYTES = 1024 * 1024
# How long what a client said last may take to reach the process, once it has hung up.
PARTING_SECONDS = 1.0
CLOSED_NORMALLY, CLOSED_BY_ERROR = 1000, 1011


class Resize(msgspec.Struct, tag_field="type", tag="resize", forbid_unknown_fields=True):
    rows: int
    cols: int


class SendSignal(msgspec.Struct, tag_field="type", tag="signal", forbid_unknown_fields=True):
    signal: str | int


class EndOfFile(msgspec.Struct, tag_field="type", tag="eof", forbid_unknown_fields=True):
    pass


Said = Resize | SendSignal | EndOfFile
_said = msgspec.json.Decoder(Said)
_encode = msgspec.json.Encoder().encode


async def attach(call: Call, send: Send) -> None:
    """Talk with a process until it ends or the client goes."""
    query = call.query(AttachQuery)
    processes = call.engine.processes(call.sandbox_id)
    process_id = ProcessId(call.path_parameter("process_id"))
    await call.receive()  # the wish to connect, which every WebSocket begins with
    session = await processes.attach(process_id, since=query.since)
    async with session.output as output:
        await send({"type": "websocket.accept"})
        try:
            await _say(send, _greeting(session, output))
            await _converse(session, output, call, send)
        except ClientGone:
            raise
        except Exception as error:  # what has begun ends with a word on why
            _log(error, call.request_id)
            members = error_members(error, call.request_id)
            await _say(send, {"type": "error", "error": members})
            await send({"type": "websocket.close", "code": CLOSED_BY_ERROR})


def _greeting(session: Session, output: Following) -> Mapping[str, Any]:
    beginning = {"type": "attached", "position": output.position, "dropped": output.dropped}
    return {**render_process_end(session.process), **beginning}


async def _converse(session: Session, output: Following, call: Call, send: Send) -> None:
    inbox = Inbox()
    try:
        async with asyncio.TaskGroup() as group:
            others = (
                group.create_task(_listen(session, inbox, call)),
                group.create_task(_feed(session, inbox)),
            )
            await _show(output, send)
            for task in others:
                task.cancel()
    except BaseExceptionGroup as raised:
        raise _cause(raised) from None


def _cause(raised: BaseExceptionGroup[BaseException]) -> BaseException:
    """One of them: that the client has gone, if so, because then nobody hears of the others."""
    gone, _ = raised.split(ClientGone)
    found: BaseException = gone or raised
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


async def _show(output: Following, send: Send) -> None:
    async for event in output:
        if isinstance(event, Output):
            await send({"type": "websocket.send", "bytes": event.data})
            # A client that is never slow must not keep the others waiting.
            await asyncio.sleep(0)
            continue
        await _say(send, {**render_process_end(event), "type": "exit"})
        await send({"type": "websocket.close", "code": CLOSED_NORMALLY})


async def _listen(session: Session, inbox: Inbox, call: Call) -> None:
    while True:
        message = await call.receive()
        if message["type"] == "websocket.disconnect":
            await inbox.close(PARTING_SECONDS)
            raise ClientGone
        if message.get("bytes") is not None:
            await inbox.put(message["bytes"])
            continue
        said = parse_said(message.get("text") or "")
        if isinstance(said, Resize):
            await session.resize(_size(said))
        elif isinstance(said, SendSignal):
            await session.signal(parse_signal(said.signal))
        else:
            await inbox.put(b"")


async def _feed(session: Session, inbox: Inbox) -> None:
    """Pass on what the client types, in order. The way into the process is opened with the first of it."""
    first = await inbox.take()
    try:
        if first is not None:
            async with session.input() as stdin:
                piece: bytes | None = first
                while piece is not None:
                    if not await (stdin.write(piece) if piece else stdin.end_of_file()):
                        break
                    piece = await inbox.take()
                await stdin.finish(end=False)
    except StdinClosed:
        if not session.process.record.is_stdin_open:
            raise
        # It has ended or closed its input meanwhile: its exit says so, and what is typed until then goes nowhere.
    inbox.discard()


class Inbox:
    """What a client has typed and the process has not taken yet; `b""` is the end of a file. About `INBOX_BYTES`."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._is_closed = False
        self._is_discarded = False
        self._changed = asyncio.Event()
        self._done = asyncio.Event()

    async def put(self, piece: bytes) -> None:
        """Leave a piece; returns once there is room for another."""
        if self._is_discarded:
            return
        self._pieces.append(piece)
        self._size += len(piece)
        self._changed.set()
        while self._size >= INBOX_BYTES and not self._is_discarded:
            self._changed.clear()
            await self._changed.wait()

    async def take(self) -> bytes | None:
        """The next piece; None after the last."""
        while not self._pieces:
            if self._is_closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        piece = self._pieces.pop(0)
        self._size -= len(piece)
        self._changed.set()
        return piece

    async def close(self, patience: float) -> None:
        """There is no more to come; waits a little until all of it was taken."""
        self._is_closed = True
        self._changed.set()
        try:
            async with asyncio.timeout(patience):
                await self._done.wait()
        except TimeoutError:
            return

    def discard(self) -> None:
        """Nothing more will be taken."""
        self._is_discarded = True
        self._pieces.clear()
        self._size = 0
        self._changed.set()
        self._done.set()


def parse_said(text: str) -> Said:
    """What a client said in text."""
    try:
        said: Said = _said.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise InvalidRequest(
            'a text message must be {"type": "resize", "rows", "cols"}, {"type": "signal", "signal"} '
            'or {"type": "eof"}; input is binary'
        ) from None
    return said


def _size(said: Resize) -> TerminalSize:
    if not (1 <= said.rows <= MAX_TERMINAL_SIDE and 1 <= said.cols <= MAX_TERMINAL_SIDE):
        raise InvalidRequest(f"`rows` and `cols` must be 1 to {MAX_TERMINAL_SIDE}")
    return TerminalSize(said.rows, said.cols)


async def _say(send: Send, value: Mapping[str, Any]) -> None:
    await send({"type": "websocket.send", "text": _encode(value).decode("utf-8")})


def _log(error: Exception, request_id: str) -> None:
    if not isinstance(error, EngineError | HttpError):
        logger.error("terminal failed", exc_info=error, extra={"request_id": request_id})
