# SPDX-License-Identifier: Apache-2.0
"""The processes of a sandbox: a list of them, and word of every one that ends."""

from __future__ import annotations

from typing import Final, Self

from atoll_server.agent.connection import Connection
from atoll_server.agent.errors import AgentProtocolError
from atoll_server.agent.exchange import MAX_LISTING_BYTES, REPLY_TIMEOUT, begin, control, reply
from atoll_server.agent.messages import ENDED, LISTENING, PROCESSES, Done, Fields, read_process
from atoll_server.engine.model import ProcessRecord

MAX_PROCESSES: Final = 100_000


async def read_processes(connection: Connection) -> list[ProcessRecord]:
    """All processes that an agent lists."""
    found: list[ProcessRecord] = []
    budget = MAX_LISTING_BYTES
    while True:
        payload = await control(connection, REPLY_TIMEOUT)
        answered = PROCESSES.read(payload)
        if isinstance(answered, Done):
            return found
        found.extend(map(read_process, answered.processes))
        budget -= len(payload)
        if len(found) > MAX_PROCESSES or budget < 0:
            raise AgentProtocolError("agent lists more processes than there can be")


class ProcessEnds:
    """Entered once the agent listens: each process that ends from then on is told, once."""

    def __init__(self, path: str, request: Fields) -> None:
        self._path = path
        self._request = request

    async def __aenter__(self) -> Self:
        self._connection = await begin(self._path, self._request)
        try:
            await reply(self._connection, LISTENING, REPLY_TIMEOUT)
        except BaseException:
            self._connection.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._connection.close()

    async def receive(self) -> list[ProcessRecord]:
        """Those that have ended since, as soon as there are any. Raises `AgentError` `slow` if some are not told."""
        payload = await control(self._connection, None)
        return [read_process(process) for process in ENDED.read(payload).processes]
