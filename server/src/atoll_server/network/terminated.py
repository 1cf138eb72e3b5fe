# SPDX-License-Identifier: Apache-2.0
"""A connection whose TLS ends here: its requests get the values of secrets, its responses lose them.

Inside we are the host that it names, by a certificate of the sandbox's own authority. Outside that host must prove to
be itself. Requests follow one another on it, each judged by itself, as long as both ends want it and nothing is in
doubt.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from atoll_server.network.denying import render_refusal
from atoll_server.network.exchange import Exchange, Outcome
from atoll_server.network.first_bytes import SPEAK_TIMEOUT
from atoll_server.network.gate import Gate, OpenFlow
from atoll_server.network.http_body import MalformedBody
from atoll_server.network.http_head import Head, read_head
from atoll_server.network.line import Line, end_client
from atoll_server.network.outcomes import Incomplete, Refused
from atoll_server.network.outgoing import NotPassed, Outgoing, prepare
from atoll_server.network.plain import MAX_REQUESTS
from atoll_server.network.policy import Flow, Reason
from atoll_server.network.sealed import Sealed
from atoll_server.network.side import Side
from atoll_server.network.tls import ClientMachine, ServerMachine, TlsFailed, TlsSide
from atoll_server.network.upgraded import pass_frames

SHAKE_TIMEOUT: Final = 10.0

_NO_ANSWER = "no answer in time"

Connect = Callable[[Flow], Awaitable[Side]]


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

    async def serve(self, connect: Connect) -> None:
        """From the handshake inside to the end of the last response."""
        async with asyncio.timeout(SHAKE_TIMEOUT):
            await self._client.shake_hands()
        try:
            request = await self._read_request()
            if request is None:
                raise TlsFailed("it ended before it asked for anything")
            line = await self._reach(connect)
            with contextlib.closing(line.outside):
                await self._exchange_all(line, request)
        except NotPassed as refusal:
            self._gate.note_denial(self._name, self._flow.flow.port, refusal.verdict)
            await self._client.write(render_refusal(refusal.verdict))
        await end_client(self._client)

    async def _exchange_all(self, line: Line, first: Outgoing) -> None:
        request: Outgoing | None = first
        for left in reversed(range(MAX_REQUESTS)):
            if request is None:
                return
            exchange = Exchange(line, request, may_keep=left > 0, is_first=request is first)
            match await exchange.run():
                case Outcome.SWITCHES:
                    await pass_frames(line)
                    return
                case Outcome.ENDS:
                    return
            request = await self._read_request() if await _is_asked_again(line) else None

    async def _read_request(self) -> Outgoing | None:
        """The next request, if it may go out; None where the client has ended instead. Raises `NotPassed`."""
        async with asyncio.timeout(SPEAK_TIMEOUT):
            found = await self._read_head()
        if found is None:
            return None
        request = prepare(*found, self._flow.flow, self._sealed.keyring)
        self._client.put_back(request.next)
        return request

    async def _read_head(self) -> tuple[Head, bytes] | None:
        """A head, and what has come behind it."""
        data = bytearray()
        while True:
            piece = await self._client.read()
            if not piece and not data:
                return None
            if not piece:
                raise TlsFailed("it ended within a request")
            data += piece
            match read_head(data):
                case Head() as head:
                    return head, bytes(data[head.size :])
                case Refused(why):
                    raise NotPassed(Reason.MALFORMED, why)
                case Incomplete():
                    continue

    async def _reach(self, connect: Connect) -> Line:
        """A connection to the very address that was judged, over which the host has proved to be itself."""
        flow = self._flow.flow
        where = f"{self._name} ({flow.address} port {flow.port})"
        try:
            outside = await connect(flow)
        except (OSError, TimeoutError) as error:
            text = f"{where} cannot be reached: {str(error) or _NO_ANSWER}"
            raise NotPassed(Reason.UNREACHABLE, text) from None
        self._flow.on_cut(outside.reset)
        self._flow.is_connected = True
        server = TlsSide(outside, ClientMachine(self._sealed.trust, self._name))
        try:
            async with asyncio.timeout(SHAKE_TIMEOUT):
                await server.shake_hands()
        except (TlsFailed, TimeoutError) as error:
            outside.close()
            text = f"{where} is not trusted with a secret: {str(error) or _NO_ANSWER}"
            raise NotPassed(Reason.UNREACHABLE, text) from None
        meant = self._sealed.keyring.meant_for(self._name)
        return Line(self._gate, self._flow, meant, self._client, server, outside)


async def _is_asked_again(line: Line) -> bool:
    """Wait for another request. A host that ends meanwhile, or says what nobody has asked for, is asked no more."""
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(line.client.wait())
        ending = group.create_task(line.server.wait())
        seconds = line.gate.limits.kept_seconds
        await asyncio.wait((asking, ending), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        is_asked = asking.done() and not ending.done()
        asking.cancel()
        ending.cancel()
    return is_asked
