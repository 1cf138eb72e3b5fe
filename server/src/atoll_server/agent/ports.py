# SPDX-License-Identifier: Apache-2.0
"""Ports inside a sandbox: a list of those that listen, and a connection to one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from atoll_server.agent.connection import Connection
from atoll_server.agent.errors import AgentProtocolError
from atoll_server.agent.exchange import control
from atoll_server.agent.messages import LISTENERS, ListenersEnd, read_listener
from atoll_server.engine.model import ListeningPort

MAX_LISTENERS: Final = 4096


async def read_listeners(connection: Connection, timeout: float) -> list[ListeningPort]:
    """All that an agent lists."""
    found: list[ListeningPort] = []
    while True:
        answered = LISTENERS.read(await control(connection, timeout))
        if isinstance(answered, ListenersEnd):
            return found
        found.extend(map(read_listener, answered.ports))
        if not answered.ports or len(found) > MAX_LISTENERS:
            raise AgentProtocolError("agent lists more ports than there can be")


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
