# SPDX-License-Identifier: Apache-2.0
"""Passes bytes between a sandbox and what it may reach, both ways, until both have ended or the flow is cut."""

from __future__ import annotations

import asyncio

from atoll_server.network.denying import render_refusal
from atoll_server.network.gate import Direction, Gate, OpenFlow
from atoll_server.network.http_body import MalformedBody
from atoll_server.network.plain import Requests
from atoll_server.network.side import Side

MAX_DROPPED = 64 * 1024
"""What is taken of a client that goes on after its last request."""
PARTING_SECONDS = 10.0
"""How long a server may answer what it was asked before a request was refused."""


async def relay(
    gate: Gate, flow: OpenFlow, inside: Side, outside: Side, requests: Requests | None = None
) -> None:
    """Pass everything both ways. With `requests`, only these go out, and the end of what comes back is the end."""
    both = _Both(flow, requests)
    sending = _Way(gate, Direction.SENT, both, inside, outside)
    receiving = _Way(gate, Direction.RECEIVED, both, outside, inside)
    both.ways = (sending, receiving)
    if requests is not None and requests.is_done:
        sending.finish()
    inside.give_to(sending, feeding=outside)
    outside.give_to(receiving, feeding=inside)
    await both.are_done


class _Both:
    """The two ways of one flow, and when they are done."""

    def __init__(self, flow: OpenFlow, requests: Requests | None) -> None:
        self.flow = flow
        self.requests = requests
        self.ways: tuple[_Way, ...] = ()
        self.are_done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end_requests(self) -> None:
        """A server that has ended is asked nothing more, unless it has ended within a request."""
        sending, receiving = self.ways
        if self.requests is not None and self.requests.may_end and receiving.is_finished:
            sending.is_finished = True

    def look(self) -> None:
        """Be done where both ways are."""
        if all(way.is_finished for way in self.ways) and not self.are_done.done():
            self.are_done.set_result(None)

    def cut(self) -> None:
        """One side broke off: so that the other cannot take it for an end, both are cut."""
        if self.are_done.done():
            return
        self.are_done.set_result(None)
        self.flow.cut()


class _Way:
    """From one side to the other."""

    def __init__(
        self,
        gate: Gate,
        direction: Direction,
        both: _Both,
        source: Side,
        target: Side,
    ) -> None:
        self._gate = gate
        self._direction = direction
        self._both = both
        self._source = source
        self._target = target
        self._requests = both.requests if direction is Direction.SENT else None
        self._dropped = 0
        self.is_finished = False

    def receive(self, piece: bytes) -> None:
        if self.is_finished:
            self._drop(piece)
            return
        try:
            self._target.write(piece if self._requests is None else self._requests.take(piece))
        except MalformedBody:
            self._both.cut()
            return
        wait = self._gate.count_bytes(self._both.flow, self._direction, len(piece))
        if wait > 0:
            self._source.hold("pace")
            asyncio.get_running_loop().call_later(wait, self._source.release, "pace")
        if self._requests is not None and self._requests.is_done:
            self.finish()

    def finish(self) -> None:
        """Let nothing more through: the last request has been sent, and what follows it would be another."""
        self.is_finished = True
        if self._requests is not None and self._requests.refusal is not None:
            # The server answers what it was asked, and ends. Then there is room for the refusal.
            self._target.write_end()
            asyncio.get_running_loop().call_later(PARTING_SECONDS, self._both.cut)
        self._both.look()

    def end(self) -> None:
        if self.is_finished:
            return
        if self._requests is not None and not self._requests.may_end:
            # It ended within a request.
            self._both.cut()
            return
        self.is_finished = True
        self._target.write(self._last_words())
        self._target.write_end()
        self._both.end_requests()
        self._both.look()

    def _last_words(self) -> bytes:
        requests = self._both.requests
        if self._direction is Direction.SENT or requests is None or requests.refusal is None:
            return b""
        return render_refusal(requests.refusal)

    def lose(self) -> None:
        if not self._both.are_done.done():
            self._both.cut()

    def _drop(self, piece: bytes) -> None:
        """Take what nobody gets: unread, it would make of the connection's end a reset."""
        self._dropped += len(piece)
        if self._dropped > MAX_DROPPED:
            self._source.hold("dropped enough")
