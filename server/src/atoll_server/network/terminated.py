# SPDX-License-Identifier: Apache-2.0
"""One connection whose TLS ends here: its request gets the values of secrets, its response loses them.

Inside we are the host that it names, by a certificate of the sandbox's own authority. Outside that host must prove to
be itself. One request is passed on a connection, as with plain HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final

from atoll_server.network.denying import render_refusal
from atoll_server.network.first_bytes import SPEAK_TIMEOUT
from atoll_server.network.gate import Direction, Gate, OpenFlow
from atoll_server.network.http_body import Body, ChunkedBody, LengthBody, MalformedBody, Sight
from atoll_server.network.http_head import Head, read_head, render_head
from atoll_server.network.http_response import (
    LAST_CHUNK,
    BadResponse,
    ResponseBody,
    ResponseHead,
    chunk,
    read_response_head,
)
from atoll_server.network.outcomes import Incomplete, Refused
from atoll_server.network.placeholders import Mask, Misplaced, Watch, check_head, fill, hide
from atoll_server.network.policy import Flow, Reason, Verdict
from atoll_server.network.sealed import Sealed
from atoll_server.network.side import Side
from atoll_server.network.tls import ClientMachine, ServerMachine, TlsFailed, TlsSide

SHAKE_TIMEOUT: Final = 10.0
MAX_INTERIM: Final = 16
MAX_DROPPED_PIECES: Final = 16
"""What is taken of a client that goes on after its one request; each has at most 64 KiB."""
LINGER_BYTES: Final = 256 * 1024
LINGER_SECONDS: Final = 2.0

_NO_ANSWER = "no answer in time"

Connect = Callable[[Flow], Awaitable[Side]]


class _Refusal(Exception):
    """Why the request is not passed on."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.verdict = Verdict(False, reason, text)


@dataclass(frozen=True)
class _Request:
    """A request that may go out: its head as the host gets it, what of its body came along, and the rest."""

    head: Head
    sent: bytes = field(repr=False)
    body: Body


async def serve_terminated(
    gate: Gate, sealed: Sealed, inside: Side, flow: Flow, first: bytes, connect: Connect
) -> None:
    """Serve a connection that was allowed and names a host that a secret is for. `first` are its first bytes."""
    assert flow.name is not None, "only a name has a certificate"
    with gate.keep(flow) as open_flow:
        open_flow.on_cut(inside.reset)
        client = TlsSide(inside, ServerMachine(sealed.leaves.context(flow.name)), first)
        serving = _Terminated(gate, sealed, open_flow, client, flow.name)
        try:
            await serving.serve(connect)
        except (TlsFailed, MalformedBody, TimeoutError):
            # What was begun cannot be finished, and must not be taken for an end.
            open_flow.cut()


class _Terminated:
    """What the steps of one connection have in common."""

    def __init__(
        self, gate: Gate, sealed: Sealed, flow: OpenFlow, client: TlsSide, name: str
    ) -> None:
        self._gate = gate
        self._sealed = sealed
        self._flow = flow
        self._client = client
        self._name = name
        self._meant = sealed.keyring.meant_for(name)
        self._kept = sealed.keyring.kept_from(name)
        self._has_answered = False
        self._misplaced: _Refusal | None = None

    async def serve(self, connect: Connect) -> None:
        """From the handshake inside to the end of the response."""
        async with asyncio.timeout(SHAKE_TIMEOUT):
            await self._client.shake_hands()
        try:
            async with asyncio.timeout(SPEAK_TIMEOUT):
                head, rest = await self._read_head()
            request = self._prepare(head, rest)
            with contextlib.closing(await self._reach(connect)) as outside:
                await self._exchange(request, outside)
        except _Refusal as refusal:
            await self._refuse(refusal.verdict)

    async def _read_head(self) -> tuple[Head, bytes]:
        data = bytearray()
        while True:
            piece = await self._client.read()
            if not piece:
                raise TlsFailed("it ended before it asked for anything")
            data += piece
            match read_head(data):
                case Head() as head:
                    return head, bytes(data[head.size :])
                case Refused(why):
                    raise _Refusal(Reason.MALFORMED, why)
                case Incomplete():
                    continue

    def _prepare(self, head: Head, rest: bytes) -> _Request:
        """The request with its secrets in place, if it is for whom the connection is, and holds no others."""
        if head.host != self._name or head.port not in (None, self._flow.flow.port):
            text = f"the request is for {head.host}, and the connection for {self._name}"
            raise _Refusal(Reason.HOST_FOREIGN, text)
        show, lines = self._sight(), self._sight()
        body: Body = ChunkedBody(show, lines) if head.body is None else LengthBody(head.body, show)
        try:
            check_head(head.first, head.fields, self._kept)
            fields = fill(head.first, head.fields, self._meant)
            said = render_head(head.first, _plainly(fields)) + body.take(rest)
        except Misplaced as misplaced:
            raise _Refusal(Reason.SECRET, str(misplaced)) from None
        except MalformedBody as fault:
            raise self._misplaced or _Refusal(Reason.MALFORMED, str(fault)) from None
        return _Request(head, said, body)

    def _sight(self) -> Sight:
        """Looks for placeholders of secrets that this host is not to have."""
        watch = Watch(self._kept)

        def show(piece: bytes) -> None:
            try:
                watch.feed(piece)
            except Misplaced as misplaced:
                self._misplaced = _Refusal(Reason.SECRET, str(misplaced))
                raise MalformedBody(str(misplaced)) from None

        return show

    async def _reach(self, connect: Connect) -> Side:
        """A connection to the very address that was judged, over which the host has proved to be itself."""
        flow = self._flow.flow
        where = f"{self._name} ({flow.address} port {flow.port})"
        try:
            outside = await connect(flow)
        except (OSError, TimeoutError) as error:
            text = f"{where} cannot be reached: {str(error) or _NO_ANSWER}"
            raise _Refusal(Reason.UNREACHABLE, text) from None
        self._flow.on_cut(outside.reset)
        self._flow.is_connected = True
        self._server = TlsSide(outside, ClientMachine(self._sealed.trust, self._name))
        try:
            async with asyncio.timeout(SHAKE_TIMEOUT):
                await self._server.shake_hands()
        except (TlsFailed, TimeoutError) as error:
            outside.close()
            text = f"{where} is not trusted with a secret: {str(error) or _NO_ANSWER}"
            raise _Refusal(Reason.UNREACHABLE, text) from None
        return outside

    async def _exchange(self, request: _Request, outside: Side) -> None:
        """Request and response at once: a host may answer before it has heard everything."""
        failure: Exception | None = None
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._send(request, outside))
            try:
                await self._receive(request.head.method)
            except (TlsFailed, BadResponse, MalformedBody) as error:
                failure = error
            sending.cancel()
        if failure is None:
            await self._finish()
        elif self._has_answered or self._flow.is_cut:
            if self._misplaced is not None:
                self._note(self._misplaced.verdict)
            self._flow.cut()
        elif self._misplaced is not None:
            raise self._misplaced
        else:
            text = f"{self._name} gave no answer that can be passed on: {failure}"
            raise _Refusal(Reason.UNREACHABLE, text)

    async def _send(self, request: _Request, outside: Side) -> None:
        """The request, to the end of its body, and nothing after it. A client that goes away meanwhile ends it all."""
        try:
            await self._pass(self._server, request.sent, Direction.SENT)
            while not request.body.is_done:
                piece = await self._hear()
                await self._pass(self._server, request.body.take(piece), Direction.SENT)
            for _ in range(MAX_DROPPED_PIECES):
                await self._hear()
        except (TlsFailed, MalformedBody):
            if self._misplaced is None:
                self._flow.cut()
            # The host has not heard all of it, and must not take it for the whole.
            outside.reset()

    async def _hear(self) -> bytes:
        piece = await self._client.read()
        if not piece:
            raise TlsFailed("the client ended before it was answered")
        return piece

    async def _receive(self, method: str) -> None:
        """The response, with placeholders for values."""
        head, rest = await self._receive_head(method)
        body, mask = ResponseBody(head.length), Mask(self._meant)
        frame = chunk if head.length is None else bytes
        piece = rest
        while True:
            told = mask.feed(body.take(piece))
            await self._pass(self._client, frame(told), Direction.RECEIVED)
            if body.is_done:
                break
            piece = await self._server.read()
            if not piece:
                if body.is_endless:
                    break
                raise TlsFailed("the response ended within its body")
        await self._pass(self._client, frame(mask.finish()), Direction.RECEIVED)
        if head.length is None:
            await self._pass(self._client, LAST_CHUNK, Direction.RECEIVED)

    async def _receive_head(self, method: str) -> tuple[ResponseHead, bytes]:
        """The final head, after those before it have been passed on."""
        data = b""
        for _ in range(MAX_INTERIM):
            while isinstance(head := read_response_head(data, method), Incomplete):
                piece = await self._server.read()
                if not piece:
                    raise TlsFailed("it ended before it had answered")
                data += piece
            data = data[head.size :]
            self._has_answered = True
            # What a host says in its first line is its own choice, too.
            (_, first), *fields = hide(((b"", head.first), *head.fields), self._meant)
            told = replace(head, first=first).render(fields)
            await self._pass(self._client, told, Direction.RECEIVED)
            if not head.is_interim:
                return head, data
        raise BadResponse(f"more than {MAX_INTERIM} responses came before the one asked for")

    async def _pass(self, to: TlsSide, said: bytes, direction: Direction) -> None:
        await to.write(said)
        wait = self._gate.count_bytes(self._flow, direction, len(said))
        if wait > 0:
            await asyncio.sleep(wait)

    async def _refuse(self, verdict: Verdict) -> None:
        self._note(verdict)
        await self._client.write(render_refusal(verdict))
        await self._finish()

    async def _finish(self) -> None:
        """End, and take what still comes for a moment: unread, it would make of the end a reset."""
        await self._client.end()
        left = LINGER_BYTES
        with contextlib.suppress(TimeoutError, TlsFailed):
            async with asyncio.timeout(LINGER_SECONDS):
                while left > 0 and (piece := await self._client.read()):
                    left -= len(piece)

    def _note(self, verdict: Verdict) -> None:
        self._gate.note_denial(self._name, self._flow.flow.port, verdict)


def _plainly(fields: tuple[tuple[bytes, bytes], ...]) -> tuple[tuple[bytes, bytes], ...]:
    """Ask for an answer that is not compressed: in one that is, values would not be found."""
    others = tuple(field for field in fields if field[0].lower() != b"accept-encoding")
    return (*others, (b"Accept-Encoding", b"identity"))
