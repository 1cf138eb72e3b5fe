# SPDX-License-Identifier: Apache-2.0
"""An exchange with an agent: a request on a connection of its own, and what answers it."""

from __future__ import annotations

from typing import Final, TypeVar

from atoll_server.agent.connection import Connection
from atoll_server.agent.errors import AgentProtocolError
from atoll_server.agent.frames import Kind
from atoll_server.agent.messages import Answer, Fields

REPLY_TIMEOUT: Final = 30.0
"""How many seconds an agent may be silent that was asked something."""
TREE_TIMEOUT: Final = 600.0
"""The same where it may have a whole tree to go through before it answers."""
MAX_LISTING_BYTES: Final = 64 << 20

T = TypeVar("T")


async def begin(path: str, request: Fields, *, brings_socket: bool = False) -> Connection:
    """A connection on which this has been asked, or the socket that went with it. Who gets it closes it."""
    connection = await Connection.open(path)
    try:
        if brings_socket:
            connection.send_control_for_bulk(request)
        else:
            await connection.send_control(request)
    except BaseException:
        connection.close()
        raise
    return connection


async def reply(connection: Connection, answer: Answer[T], timeout: float) -> T:
    """The agent's one answer, read as a record."""
    return answer.read(await control(connection, timeout))


async def control(connection: Connection, timeout: float | None) -> bytes:
    """The payload of the next frame, which must be a control one."""
    kind, _, payload = await connection.receive(timeout)
    if kind != Kind.CONTROL:
        raise AgentProtocolError(f"frame of kind {kind} instead of an answer")
    return payload
