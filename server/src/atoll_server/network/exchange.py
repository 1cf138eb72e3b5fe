# SPDX-License-Identifier: Apache-2.0
"""One request to a host of secrets and its response: values go out, placeholders come back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from enum import Enum, auto
from typing import Final

from atoll_server.network.http_body import MalformedBody
from atoll_server.network.http_response import (
    LAST_CHUNK,
    BadResponse,
    ResponseBody,
    ResponseHead,
    chunk,
    read_response_head,
)
from atoll_server.network.line import Line
from atoll_server.network.outcomes import Incomplete
from atoll_server.network.outgoing import NotPassed, Outgoing
from atoll_server.network.placeholders import Mask, hide
from atoll_server.network.policy import Reason
from atoll_server.network.tls import TlsFailed

MAX_INTERIM: Final = 16
MAX_AHEAD: Final = 64 * 1024
"""What is taken of a client before its request is answered, and kept for the next; the last piece may be above it."""


class Outcome(Enum):
    """What becomes of the connection: it is to end, another request may follow, or a WebSocket does."""

    ENDS = auto()
    KEPT = auto()
    SWITCHES = auto()


class Exchange:
    """`may_keep`: another request may follow. `is_first`: none was answered on this connection before."""

    def __init__(self, line: Line, request: Outgoing, *, may_keep: bool, is_first: bool) -> None:
        self._line = line
        self._request = request
        self._may_keep = may_keep and request.head.may_keep
        self._is_first = is_first
        self._is_sent = False
        self._has_answered = False
        self._rest = b""

    async def run(self) -> Outcome:
        """Request and response at once: a host may answer before it has heard everything.

        Raises `NotPassed` if nothing was answered. What cannot be finished once it has begun is cut.
        """
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._send())
            try:
                return await self._receive()
            except (TlsFailed, BadResponse, MalformedBody) as error:
                failure = error
            finally:
                sending.cancel()
        return self._fail(failure)

    def _fail(self, failure: Exception) -> Outcome:
        line, found = self._line, self._request.sights.found
        if self._has_answered or line.flow.is_cut:
            if found is not None:
                flow = line.flow.flow
                line.gate.note_denial(flow.name or "", flow.port, found.verdict)
            line.flow.cut()
        elif found is not None:
            raise found
        elif self._is_first or not isinstance(failure, TlsFailed):
            text = f"{line.flow.flow.name} gave no answer that can be passed on: {failure}"
            raise NotPassed(Reason.UNREACHABLE, text)
        # Else the host has ended a connection that was kept for long enough, which clients know how to meet.
        return Outcome.ENDS

    async def _send(self) -> None:
        """The request, to the end of its body, and nothing after it. A client that goes away meanwhile ends it all."""
        line, body = self._line, self._request.body
        try:
            await line.send(self._request.said)
            while not body.is_done:
                piece = await self._hear()
                taken = body.take(piece)
                line.client.put_back(piece[len(taken) :])
                await line.send(taken)
            self._is_sent = True
            await self._listen_ahead()
        except (TlsFailed, MalformedBody):
            if self._request.sights.found is None:
                line.flow.cut()
            # The host has not heard all of it, and must not take it for the whole.
            line.outside.reset()

    async def _listen_ahead(self) -> None:
        """Notice a client that goes away. What it says waits for its turn."""
        ahead = bytearray()
        try:
            while len(ahead) < MAX_AHEAD:
                ahead += await self._hear()
        finally:
            self._line.client.put_back(bytes(ahead))

    async def _hear(self) -> bytes:
        piece = await self._line.client.read()
        if not piece:
            raise TlsFailed("the client ended before it was answered")
        return piece

    async def _receive(self) -> Outcome:
        """The response, with placeholders for values."""
        head = await self._receive_head()
        if head.is_switching:
            self._line.server.put_back(self._rest)
            return Outcome.SWITCHES
        body = ResponseBody(head.length)
        await self._receive_body(head, body)
        return Outcome.ENDS if body.is_overrun or not self._may_keep else Outcome.KEPT

    async def _receive_head(self) -> ResponseHead:
        """The final head, after those before it have been passed on."""
        asked, line = self._request.head, self._line
        for _ in range(MAX_INTERIM):
            while isinstance(
                head := read_response_head(self._rest, asked.method, asked.websocket_key),
                Incomplete,
            ):
                piece = await line.server.read()
                if not piece:
                    raise TlsFailed("it ended before it had answered")
                self._rest += piece
            self._rest = self._rest[head.size :]
            self._has_answered = True
            # A host that answers before it was told everything may never listen to the rest.
            self._may_keep &= head.is_interim or (head.may_keep and self._is_sent)
            # What a host says in its first line is its own choice, too.
            (_, first), *fields = hide(((b"", head.first), *head.fields), line.meant)
            await line.tell(replace(head, first=first).render(fields, keep=self._may_keep))
            if not head.is_interim:
                return head
        raise BadResponse(f"more than {MAX_INTERIM} responses came before the one asked for")

    async def _receive_body(self, head: ResponseHead, body: ResponseBody) -> None:
        line, mask = self._line, Mask(self._line.meant)
        frame = chunk if head.length is None else bytes
        piece = self._rest
        while True:
            await line.tell(frame(mask.feed(body.take(piece))))
            if body.is_done:
                break
            piece = await line.server.read()
            if not piece:
                if body.is_endless:
                    break
                raise TlsFailed("the response ended within its body")
        await line.tell(frame(mask.finish()))
        if head.length is None:
            await line.tell(LAST_CHUNK)
