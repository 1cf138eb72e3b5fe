# SPDX-License-Identifier: Apache-2.0
"""All sandboxes that a proxy serves, and the orders of the server about them."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import msgspec

from atoll_server.network.answering import DatagramAnswers, answer_stream
from atoll_server.network.connection import serve_connection
from atoll_server.network.control import MAX_MESSAGE, MAX_SOCKETS, Reply, Report, Request
from atoll_server.network.gate import Gate, Surroundings
from atoll_server.network.packet_log import PacketLog
from atoll_server.network.sealed import Sealed, seal
from atoll_server.network.side import Side
from atoll_server.network.telling import Teller
from atoll_server.network.written import InvalidPolicy, parse_policy

MAX_SANDBOXES = 10_000

_log = logging.getLogger(__name__)


@dataclass
class _Edge:
    """A sandbox's gate, and what listens for it."""

    gate: Gate
    listening: list[asyncio.Server | asyncio.DatagramTransport | PacketLog] = field(
        default_factory=list
    )

    def close(self) -> None:
        for each in self.listening:
            each.close()
        self.gate.close()


class Orders:
    """Does what it is told, one order at a time."""

    def __init__(
        self, around: Surroundings, group: asyncio.TaskGroup, stopping: asyncio.Event
    ) -> None:
        self._around = around
        self._group = group
        self._stopping = stopping
        self.teller = Teller(around.clock)
        self._edges: dict[str, _Edge] = {}
        self._sealed: dict[str, Sealed] = {}

    def is_needed(self) -> bool:
        """Whether a sandbox is served, or a server is there that may want one to be."""
        return bool(self._edges) or self.teller.has_listener()

    async def follow(self, message: bytes, sockets: Sequence[socket.socket]) -> Reply:
        """Do what one message says. The sockets are ours now, whatever comes of it."""
        with ExitStack() as unused:
            for each in sockets:
                unused.enter_context(each)
            try:
                request = msgspec.json.decode(message, type=Request)
                reply = await self._do(request, sockets)
            except (msgspec.MsgspecError, InvalidPolicy, OSError, _Refused) as error:
                return Reply(error=str(error))
            if request.op in ("open", "tell"):
                unused.pop_all()
            return reply

    def cut_idle(self) -> None:
        """Cut what nothing has passed through for too long."""
        for edge in self._edges.values():
            edge.gate.cut_idle()

    def close(self) -> None:
        """Serve nobody any more."""
        for sandbox_id in tuple(self._edges):
            self._close(sandbox_id)
        self.teller.close()

    async def _do(self, request: Request, sockets: Sequence[socket.socket]) -> Reply:
        match request.op:
            case "seal":
                self._seal(request)
            case "open":
                await self._open(request, sockets)
            case "update":
                self._find(request).gate.update(parse_policy(request.policy))
            case "close":
                self._sealed.pop(request.sandbox_id, None)
                if request.sandbox_id in self._edges:
                    self._close(request.sandbox_id)
            case "list":
                return Reply(sandbox_ids=sorted(self._edges))
            case "report":
                return Reply(report=_report(self._find(request).gate))
            case "tell":
                self.teller.listen(*_expect(sockets, 1))
            case "stop":
                self._stopping.set()
            case _:
                raise _Refused(f"there is no order {request.op!r}")
        return Reply()

    def _seal(self, request: Request) -> None:
        """Keep a sandbox's secrets, before it is served or while it is. The same ones again change nothing."""
        known = self._sealed.get(request.sandbox_id)
        if request.keyring is None or (known is None and len(self._sealed) >= MAX_SANDBOXES):
            raise _Refused("no secrets came with it, or there are too many")
        if known is None or known.keyring != request.keyring:
            known = self._sealed[request.sandbox_id] = seal(request.keyring, self._around.trust)
        if request.sandbox_id in self._edges:
            self._edges[request.sandbox_id].gate.sealed = known

    async def _open(self, request: Request, sockets: Sequence[socket.socket]) -> None:
        _expect(sockets, MAX_SOCKETS)
        if request.sandbox_id in self._edges or len(self._edges) >= MAX_SANDBOXES:
            raise _Refused(f"sandbox {request.sandbox_id} is served already, or there are too many")
        news = self.teller.make_news(request.sandbox_id)
        edge = _Edge(Gate(parse_policy(request.policy), self._around, news))
        edge.gate.sealed = self._sealed.get(request.sandbox_id)
        self._edges[request.sandbox_id] = edge
        try:
            await self._listen(edge, *sockets)
        except BaseException:
            self._close(request.sandbox_id)
            raise

    def _close(self, sandbox_id: str) -> None:
        edge = self._edges.pop(sandbox_id)
        edge.close()
        self.teller.finish(sandbox_id, edge.gate.news)

    async def _listen(
        self,
        edge: _Edge,
        proxied: socket.socket,
        datagrams: socket.socket,
        streams: socket.socket,
        log: socket.socket,
    ) -> None:
        gate = edge.gate

        def serve(side: Side) -> None:
            self._group.create_task(_serve_guarded(gate, side))

        loop = asyncio.get_running_loop()
        edge.listening.append(
            await loop.create_server(lambda: Side(serve, gate.holding), sock=proxied)
        )
        answer = partial(answer_stream, gate)
        edge.listening.append(await asyncio.start_server(answer, sock=streams))
        transport, _ = await loop.create_datagram_endpoint(
            lambda: DatagramAnswers(gate, self._group), sock=datagrams
        )
        edge.listening.append(transport)
        edge.listening.append(PacketLog(gate, log))

    def _find(self, request: Request) -> _Edge:
        edge = self._edges.get(request.sandbox_id)
        if edge is None:
            raise _Refused(f"sandbox {request.sandbox_id} is not served")
        return edge


async def _serve_guarded(gate: Gate, side: Side) -> None:
    """What goes wrong with one connection must not end the serving of all others."""
    try:
        await serve_connection(gate, side)
    except Exception:
        _log.exception("a connection of a sandbox could not be served")
        side.reset()


def _expect(sockets: Sequence[socket.socket], count: int) -> Sequence[socket.socket]:
    if len(sockets) != count:
        raise _Refused(f"{len(sockets)} sockets came with it, not {count}")
    return sockets


class _Refused(Exception):
    """An order that cannot be followed."""


async def take_orders(listener: socket.socket, orders: Orders, stopping: asyncio.Event) -> None:
    """Follow orders until one of them is to stop."""
    loop = asyncio.get_running_loop()
    while not stopping.is_set():
        connection, _ = await loop.sock_accept(listener)
        with connection:
            connection.setblocking(False)
            try:
                async with asyncio.timeout(5.0):
                    await _take_order(connection, orders)
            except (OSError, TimeoutError) as error:
                _log.warning("an order could not be taken: %s", error)
            except Exception:
                # One order must not end the serving of all sandboxes.
                _log.exception("an order could not be followed")


async def _take_order(connection: socket.socket, orders: Orders) -> None:
    await _readable(connection)
    message, descriptors, _, _ = socket.recv_fds(connection, MAX_MESSAGE, MAX_SOCKETS)
    sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    for each in sockets:
        each.setblocking(False)
    reply = await orders.follow(message, sockets)
    connection.send(msgspec.json.encode(reply))


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(connection, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connection)


def _report(gate: Gate) -> Report:
    now = [
        {
            "destination": denial.destination,
            "port": denial.port,
            "reason": denial.verdict.reason.value,
            "text": denial.verdict.text,
        }
        for denial in gate.denials
    ]
    return Report(gate.statistics(), now)
