# SPDX-License-Identifier: Apache-2.0
"""Passes bytes between a sandbox and what it may reach, both ways, until both have ended or the flow is cut."""

from __future__ import annotations

import asyncio

from atoll_server.network.gate import Direction, Gate, OpenFlow
from atoll_server.network.http_body import Body, MalformedBody
from atoll_server.network.side import Side

MAX_DROPPED = 64 * 1024
"""What is taken of a client that goes on after its one request."""


async def relay(
    gate: Gate, flow: OpenFlow, inside: Side, outside: Side, body: Body | None = None
) -> None:
    """Pass everything both ways. With `body`, only that goes out, and the end of what comes back is the end."""
    both = _Both(flow)
    sending = _Way(gate, Direction.SENT, both, inside, outside, body)
    receiving = _Way(gate, Direction.RECEIVED, both, outside, inside, None)
    both.ways = (sending, receiving)
    if body is not None and body.is_done:
        sending.finish()
    inside.give_to(sending, feeding=outside)
    outside.give_to(receiving, feeding=inside)
    await both.are_done


class _Both:
    """The two ways of one flow, and when they are done."""

    def __init__(self, flow: OpenFlow) -> None:
        self.flow = flow
        self.ways: tuple[_Way, ...] = ()
        self.are_done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def look(self) -> None:
        """Be done where both ways are."""
        if all(way.is_finished for way in self.ways) and not self.are_done.done():
            self.are_done.set_result(None)

    def cut(self) -> None:
        """One side broke off: so that the other cannot take it for an end, both are cut."""
        self.flow.cut()
        if not self.are_done.done():
            self.are_done.set_result(None)


class _Way:
    """From one side to the other."""

    def __init__(
        self,
        gate: Gate,
        direction: Direction,
        both: _Both,
        source: Side,
        target: Side,
        body: Body | None,
    ) -> None:
        self._gate = gate
        self._direction = direction
        self._both = both
        self._source = source
        self._target = target
        self._body = body
        self._dropped = 0
        self.is_finished = False

    def receive(self, piece: bytes) -> None:
        if self.is_finished:
            self._drop(piece)
            return
        try:
            self._target.write(piece if self._body is None else self._body.take(piece))
        except MalformedBody:
            self._both.cut()
            return
        wait = self._gate.count_bytes(self._both.flow, self._direction, len(piece))
        if wait > 0:
            self._source.hold("pace")
            asyncio.get_running_loop().call_later(wait, self._source.release, "pace")
        if self._body is not None and self._body.is_done:
            self.finish()

    def finish(self) -> None:
        """Let nothing more through: a request has been sent, and what follows it would be another."""
        self.is_finished = True
        self._both.look()

    def end(self) -> None:
        if self.is_finished:
            return
        if self._body is not None:
            # It ended within the body.
            self._both.cut()
            return
        self.is_finished = True
        self._target.write_end()
        self._both.look()

    def lose(self) -> None:
        if not self._both.are_done.done():
            self._both.cut()

    def _drop(self, piece: bytes) -> None:
        """Take what nobody gets: unread, it would make of the connection's end a reset."""
        self._dropped += len(piece)
        if self._dropped > MAX_DROPPED:
            self._source.hold("dropped enough")
