# SPDX-License-Identifier: Apache-2.0
"""One HTTP request through to a program inside, and its answer back, each as it comes."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.types import Receive, Scope, Send

from atoll_server.engine.ports import PortStream
from atoll_server.proxy.headers import Headers, Visit, request_headers, response_headers
from atoll_server.proxy.pages import Page, bad_answer, wants_html
from atoll_server.proxy.upstream import Answer, BadAnswer, Head

# A client of HTTP/1.0 knows no chunks, so an answer of unknown length is gathered for it.
GATHERED_BYTES: Final = 8 * 1024 * 1024
_CHUNKED: Final[Headers] = [(b"transfer-encoding", b"chunked")]


class ClientGone(Exception):
    """Nobody is left to have the answer."""


class Exchange:
    """A request and its answer, over a connection of their own."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, visit: Visit, stream: PortStream
    ) -> None:
        """What `render_request` gives has been sent on `stream`."""
        self._scope = scope
        self._receive = receive
        self._send = send
        self._visit = visit
        self._stream = stream
        self._answer = Answer(stream, method=scope["method"])
        self.has_begun = False

    async def run(self) -> None:
        """Pass on the rest of both. The answer may come, and end, before the request has."""
        try:
            async with asyncio.TaskGroup() as group:
                asking = group.create_task(self._ask())
                await self._pass_answer()
                asking.cancel()
        except BaseExceptionGroup as raised:
            gone, others = raised.split(ClientGone)
            if gone is None and others is not None:
                raise others.exceptions[0] from None

    async def _ask(self) -> None:
        """The request's body, and from its end on whether the client is still there."""
        await self._pass_body(is_chunked=_framing(self._scope["headers"])[:1] == _CHUNKED)
        while (await self._receive())["type"] != "http.disconnect":
            continue
        raise ClientGone

    async def _pass_body(self, *, is_chunked: bool) -> None:
        """What the program does not take any more is read all the same: it may have answered already."""
        is_taken, more = True, True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece, more = message.get("body", b""), message.get("more_body", False)
            if is_chunked:
                piece = _chunk(piece, is_last=not more)
            if piece and is_taken:
                is_taken = await self._stream.send(piece)

    async def _pass_answer(self) -> None:
        try:
            head = await self._answer.head()
            if self._scope["http_version"] == "1.0" and head.has_body and head.length is None:
                await self._pass_gathered(head)
                return
            await self._begin(head, head.length)
            while (piece := await self._answer.body()) is not None:
                await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            await self._send({"type": "http.response.body", "body": b""})
        except BadAnswer as error:
            if self.has_begun:
                # Cut off, so that nobody takes half an answer for a whole one.
                raise
            page = bad_answer(self._visit.name.port, str(error))
            await send_page(self._scope, self._send, page)

    async def _pass_gathered(self, head: Head) -> None:
        gathered = bytearray()
        while (piece := await self._answer.body()) is not None:
            gathered += piece
            if len(gathered) > GATHERED_BYTES:
                raise BadAnswer("too much of unknown length for HTTP/1.0")
        await self._begin(head, len(gathered))
        await self._send({"type": "http.response.body", "body": bytes(gathered)})

    async def _begin(self, head: Head, length: int | None) -> None:
        headers = response_headers(head.headers, self._visit.name)
        if length is not None and (head.has_body or self._scope["method"] == "HEAD"):
            headers.append((b"content-length", b"%d" % length))
        self.has_begun = True
        await self._send({"type": "http.response.start", "status": head.status, "headers": headers})


def render_request(scope: Scope, visit: Visit, target: bytes) -> bytes:
    """The head of what the program is asked."""
    given: Headers = scope["headers"]
    headers = [*request_headers(given, visit), *_framing(given), (b"connection", b"close")]
    return render_head(b"%s %s HTTP/1.1" % (scope["method"].encode("ascii"), target), headers)


def _framing(given: Headers) -> Headers:
    """What tells how long the request's body is; nothing where it has none."""
    length = [pair for pair in given if pair[0] == b"content-length"]
    is_chunked = any(name == b"transfer-encoding" for name, _ in given)
    return length or (_CHUNKED if is_chunked else [])


async def send_page(scope: Scope, send: Send, page: Page) -> None:
    """Answer with a page of ours, whole."""
    is_html = wants_html(scope["headers"])
    headers = page.headers(is_html=is_html)
    await send({"type": "http.response.start", "status": page.status, "headers": headers})
    await send({"type": "http.response.body", "body": page.body(is_html=is_html)})


def render_head(first: bytes, headers: Headers) -> bytes:
    """The head of a message."""
    lines = [first, *(name + b": " + value for name, value in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _chunk(piece: bytes, *, is_last: bool) -> bytes:
    framed = b"%x\r\n%s\r\n" % (len(piece), piece) if piece else b""
    return framed + (b"0\r\n\r\n" if is_last else b"")
