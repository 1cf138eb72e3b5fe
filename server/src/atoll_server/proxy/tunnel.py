# SPDX-License-Identifier: Apache-2.0
"""A WebSocket through to a program inside: the handshake is looked at, what follows passes as bytes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from atoll_server.proxy.counts import Counts
from atoll_server.proxy.headers import Headers, Visit, request_headers, response_headers
from atoll_server.proxy.http import render_head
from atoll_server.proxy.lines import Line
from atoll_server.proxy.pages import bad_answer
from atoll_server.proxy.upstream import SWITCHING, Answer, BadAnswer, Head

PARTING_SECONDS: Final = 60.0
_PIECE_BYTES: Final = 64 * 1024
_UPGRADE: Final = ((b"connection", b"Upgrade"), (b"upgrade", b"websocket"))
_CLOSE: Final = ((b"connection", b"close"),)


class Tunnel:
    """The client's connection, taken over from whoever read the request's head, and the program's, on which what
    `render_wish` gives has been sent.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        visit: Visit,
        line: Line,
        counts: Counts,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._visit = visit
        self._line = line
        self._counts = counts
        self._stream = line.stream

    async def run(self) -> None:
        """Shake hands, then pass bytes until both ways have ended or either side has gone."""
        answer = Answer(self._stream, method="GET")
        try:
            head = await answer.head(may_switch=True)
            self._line.has_answer()
            if head.status == SWITCHING and (b"upgrade", b"websocket") not in _lower(head.headers):
                raise BadAnswer("a protocol that was not asked for")
            if head.status != SWITCHING:
                await self._pass_refusal(head, answer)
                return
        except BadAnswer as error:
            page = bad_answer(self._visit.name.port, str(error))
            self._counts.note_answer(page.status)
            await self._write(render_page(page.status, page.headers(is_html=False)))
            await self._write(page.body(is_html=False))
            return
        await self._write(self._head(head, _UPGRADE) + answer.rest)
        await self._pass_both_ways()

    async def _pass_refusal(self, head: Head, answer: Answer) -> None:
        """Whatever the program says in place of a WebSocket, to the end of the connection."""
        await self._write(self._head(head, _CLOSE))
        with contextlib.suppress(BadAnswer):  # then it is cut off, which its length tells
            while (piece := await answer.body()) is not None:
                await self._write(piece)

    def _head(self, head: Head, ending: tuple[tuple[bytes, bytes], ...]) -> bytes:
        headers = response_headers(head.headers, self._visit.name)
        if head.length is not None and head.status != SWITCHING:
            headers.append((b"content-length", b"%d" % head.length))
        self._counts.note_answer(head.status)
        return render_page(head.status, [*headers, *ending])

    async def _pass_both_ways(self) -> None:
        """Once one way has ended the other has a little time, for not every peer ends its own."""
        async with asyncio.TaskGroup() as group:
            ways = {group.create_task(self._pass_in()), group.create_task(self._pass_out())}
            _, left = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if left:
                await asyncio.wait(left, timeout=PARTING_SECONDS)
            for way in ways:
                way.cancel()

    async def _pass_in(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await self._reader.read(_PIECE_BYTES):
                self._counts.note_in(len(data))
                if not await self._stream.send(data):
                    return
        self._stream.end_sending()

    async def _pass_out(self) -> None:
        with contextlib.suppress(OSError):
            while data := await self._stream.receive():
                self._counts.note_out(len(data))
                await self._write(data)
            self._writer.write_eof()

    async def _write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()


def render_wish(given: Headers, visit: Visit, target: bytes) -> bytes:
    """What the program is asked: for a WebSocket."""
    return render_head(b"GET %s HTTP/1.1" % target, [*request_headers(given, visit), *_UPGRADE])


def render_page(status: int, headers: Headers) -> bytes:
    """The head of an answer that is written by hand."""
    return render_head(b"HTTP/1.1 %d " % status, headers)


def _lower(headers: Headers) -> Headers:
    return [(name, value.lower()) for name, value in headers]
