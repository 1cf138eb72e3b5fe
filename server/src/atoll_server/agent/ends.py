# SPDX-License-Identifier: Apache-2.0
"""Every process of a sandbox that ends, over one connection to its agent."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Protocol, Self

from msgspec import Struct

from atoll_server.agent.connection import Connection
from atoll_server.agent.messages import Answer, Fields, ProcessesReply, read_process
from atoll_server.agent.process import control, reply
from atoll_server.engine.model import ProcessRecord

ENDS_FEATURE: Final = "ends"
"""What an agent that knows the operation says in its handshake."""
LISTENING_TIMEOUT: Final = 30.0


class Listening(Struct, tag_field="event", tag="listening"):
    pass


LISTENING: Final = Answer(Listening)
ENDED: Final = Answer(ProcessesReply)


class Agent(Protocol):
    """What is needed of the client: where its agent listens."""

    path: str


class ProcessEnds:
    """Entered once the agent listens: each process that ends from then on is told, once."""

    def __init__(self, agent: Agent, fields: Fields) -> None:
        self._agent = agent
        self._fields = fields

    async def __aenter__(self) -> Self:
        self._connection = await Connection.open(self._agent.path)
        try:
            await self._connection.send_control(self._fields)
            await reply(self._connection, LISTENING, LISTENING_TIMEOUT)
        except BaseException:
            self._connection.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.close()

    async def receive(self) -> list[ProcessRecord]:
        """Those that have ended since, as soon as there are any. Raises `AgentError` `slow` if some are not told."""
        payload = await control(self._connection, None)
        return [read_process(process) for process in ENDED.read(payload).processes]
