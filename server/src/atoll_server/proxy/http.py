# SPDX-License-Identifier: Apache-2.0
"""One HTTP request through to a program inside, and its answer back, each as it comes."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from starlette.types import Receive, Scope, Send

from atoll_server.engine import errors
from atoll_server.proxy.headers import (
    Headers,
    Visit,
    request_headers,
    response_headers,
    trailers,
)
from atoll_server.proxy.lines import Line
from atoll_server.proxy.pages import Page, bad_answer, page_for, wants_html
from atoll_server.proxy.upstream import Answer, BadAnswer, Head, Unanswered

# A client of HTTP/1.0 knows no chunks, so an answer of unknown length is gathered for it.
GATHERED_BYTES: Final = 8 * 1024 * 1024
_CHUNKED: Final[Headers] = [(b"transfer-encoding", b"chunked")]
# The name by which the connection has them in the scope.
TRAILERS: Final = "atoll.trailers"


class Trailers(Protocol):
    """What the connection has of a request's trailers, and takes for the answer."""

    received: Headers
    answered: Headers


class ClientGone(Exception):
    """Nobody is left to have the answer."""


class Exchange:
    """A request and its answer, over a line of their own."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        visit: Visit,
        line: Line,
        asked: bytes,
    ) -> None:
        """`asked`, which `render_request` gives, has been sent on `line`."""
        self._scope = scope
        self._receive = receive
        self._send = send
        self._visit = visit
        self._line = line
        self._asked = asked
        self._answer = Answer(line.stream, method=scope["method"])
        self.has_begun = False

    @property
    def may_be_followed(self) -> bool:
        """Whether the line can serve another request."""
        return may_repeat(self._scope) and self._answer.may_be_followed

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
                piece = _chunk(piece)
                if not more:
                    piece += _last_chunk(trailers(self._trailers().received))
            if piece and is_taken:
                is_taken = await self._line.stream.send(piece)

    async def _pass_answer(self) -> None:
        try:
            head = await self._head()
            if self._scope["http_version"] == "1.0" and head.has_body and head.length is None:
                await self._pass_gathered(head)
                return
            await self._begin(head, head.length)
            while (piece := await self._answer.body()) is not None:
                await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            if self._answer.trailers and head.length is None:
                self._trailers().answered = trailers(self._answer.trailers)
            await self._send({"type": "http.response.body", "body": b""})
        except BadAnswer as error:
            if self.has_begun:
                # Cut off, so that nobody takes half an answer for a whole one.
                raise
            page = bad_answer(self._visit.name.port, str(error))
            await send_page(self._scope, self._send, page)
        except errors.EngineError as error:
            await send_page(self._scope, self._send, page_for(error, self._visit.name.port))

    def _trailers(self) -> Trailers:
        found: Trailers = self._scope["extensions"][TRAILERS]
        return found

    async def _head(self) -> Head:
        """The answer's head. A line that was kept may have come to its end, and then another is asked."""
        try:
            head = await self._answer.head()
        except Unanswered:
            if not self._line.is_used:
                raise
            await self._line.renew(self._asked)
            self._answer = Answer(self._line.stream, method=self._scope["method"])
            head = await self._answer.head()
        self._line.has_answer()
        return head

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
    headers = [*request_headers(given, visit), *_framing(given)]
    if not may_repeat(scope):
        headers.append((b"connection", b"close"))
    return render_head(b"%s %s HTTP/1.1" % (scope["method"].encode("ascii"), target), headers)


def may_repeat(scope: Scope) -> bool:
    """Whether a request can be asked twice, and one connection serve several like it.

    What brings a name and a password may be about the connection, with some ways of logging in.
    """
    headers: Headers = scope["headers"]
    is_bound = any(name == b"authorization" for name, _ in headers)
    return scope["method"] == "GET" and not is_bound and not _framing(headers)


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


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(piece), piece) if piece else b""


def _last_chunk(behind: Headers) -> bytes:
    return render_head(b"0", behind)
