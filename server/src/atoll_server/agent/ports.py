# SPDX-License-Identifier: Apache-2.0
"""Ports inside a sandbox: what its agent says of those that listen, and a connection to one."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Annotated, Final

from msgspec import Meta, Raw, Struct

from atoll_server.agent.connection import Connection
from atoll_server.agent.errors import AgentProtocolError
from atoll_server.agent.messages import Answer, read_text_or_none
from atoll_server.agent.process import control
from atoll_server.engine.model import ListeningPort

MAX_LISTENERS: Final = 4096

Port = Annotated[int, Meta(ge=1, le=65535)]
Address = Annotated[str, Meta(max_length=64)]


class ConnectedReply(Struct, tag_field="event", tag="connected"):
    address: Address


class ListenerReply(Struct):
    port: Port
    address: Address
    pid: Annotated[int, Meta(ge=1, le=2**32)] | None
    command: Raw


class ListenersReply(Struct, tag_field="event", tag="ports"):
    ports: list[ListenerReply]


class ListenersEnd(Struct, tag_field="event", tag="done"):
    truncated: bool


CONNECTED: Final = Answer(ConnectedReply)
LISTENERS: Final = Answer[ListenersReply | ListenersEnd](ListenersReply, ListenersEnd)


async def read_listeners(connection: Connection, timeout: float) -> list[ListeningPort]:
    """All that an agent lists."""
    found: list[ListeningPort] = []
    while True:
        answered = LISTENERS.read(await control(connection, timeout))
        if isinstance(answered, ListenersEnd):
            return found
        found.extend(map(_read_listener, answered.ports))
        if not answered.ports or len(found) > MAX_LISTENERS:
            raise AgentProtocolError("agent lists more ports than there can be")


def _read_listener(reply: ListenerReply) -> ListeningPort:
    try:
        address = str(ipaddress.ip_address(reply.address))
    except ValueError:
        raise AgentProtocolError("a port that listens on no address") from None
    return ListeningPort(reply.port, address, reply.pid, read_text_or_none(reply.command))


class PortStream:
    """A connection to a port inside: bytes both ways, each way with an end of its own. Made by `AgentClient.dial`.

    Used by one reader and one writer at most. Closing it is immediate and may be repeated.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.on_close: Callable[[], None] = _nothing
        """Called once, at the end of it."""

    async def receive(self) -> bytes:
        """What comes next; empty at the end. A connection that was reset has ended, too."""
        return await self._connection.receive_bare()

    async def send(self, data: memoryview | bytes) -> bool:
        """Sends all of it, as fast as it is taken. False where nothing is taken any more, or was for ten minutes."""
        return await self._connection.send_bare(data)

    def is_quiet(self) -> bool:
        """Whether nothing has come that was not received, not even the end."""
        return self._connection.is_quiet()

    def end_sending(self) -> None:
        """No more will be sent; the program inside reads to the end, and may still answer."""
        self._connection.end_sending()

    def close(self) -> None:
        """Leave. What was sent still reaches a program that reads."""
        self._connection.close()
        on_close, self.on_close = self.on_close, _nothing
        on_close()


def _nothing() -> None:
    pass
